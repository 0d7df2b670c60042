"""What templates know of the request: the nonce of the page's Content-Security-Policy, and the request's id.

TEMPLATES = [{..., "OPTIONS": {"context_processors": ["workhorse.integrations.django.context_processors.csp"]}}]

<script nonce="{{ csp_nonce }}">...</script>
"""

from typing import Any, Final, cast

from django.utils.functional import SimpleLazyObject

from workhorse.context import CURRENT

__all__ = ["csp"]

LAZY: Final = cast("Any", SimpleLazyObject)


def csp(request: object) -> dict[str, Any]:
    """`csp_nonce`: made when the template first writes it, so that other pages allow no inline script at all.

    Where Django's own ContentSecurityPolicyMiddleware (6.0) says the policy, it is Django's nonce.
    """
    own = getattr(request, "_csp_nonce", None)
    return {"csp_nonce": own if own is not None else LAZY(_nonce)}


def _nonce() -> str:
    request = CURRENT.get(None)
    return "" if request is None else request.nonce
