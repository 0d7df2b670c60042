"""The ways to prove who calls, as the security schemes of an OpenAPI document (OpenAPI 3.1.1, section 4.8.27).

A scheme of a kind that is not known here is described as far as its challenge tells: the name of an HTTP
authentication scheme (RFC 9110, section 11). One that has none cannot be described.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from workhorse.identity.scheme import Scheme
from workhorse.settings import Settings

__all__ = ["requirements", "security_schemes"]

API_KEY_HEADER: Final = "X-API-Key"


def security_schemes(schemes: Sequence[Scheme], settings: Settings, *, version: str) -> dict[str, dict[str, Any]]:
    """The schemes as components, by name.

    Args:
        schemes: the ways.
        settings: the service's, which say whether the development issuer's tokens are taken.
        version: of the document. One of 3.0 has no scheme for client certificates.
    """
    found: dict[str, dict[str, Any]] = {}
    for scheme in schemes:
        for name, described in _describe(scheme, settings):
            if described["type"] != "mutualTLS" or not version.startswith("3.0"):
                found.setdefault(name, described)
    return found


def requirements(names: Sequence[str], scopes: Sequence[str], *, version: str) -> list[dict[str, list[str]]]:
    """One of `names` is enough, with all of `scopes`.

    Scopes beside a scheme that is not of OAuth 2 are since 3.1 "roles required for the execution" (section 4.8.30).
    """
    told = [] if version.startswith("3.0") else sorted(scopes)
    return [{name: told} for name in names]


def _describe(scheme: Scheme, settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    if _is(scheme, "sessions", "Sessions"):
        yield from _session_cookie(scheme)
    elif _is(scheme, "mutual_tls", "MutualTls"):
        yield "mutualTLS", {"type": "mutualTLS", "description": "A client certificate."}
    elif _is(scheme, "bearer", "Bearer"):
        yield "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _token(settings)}
    elif _is(scheme, "api_keys", "ApiKeys"):
        described = f"An API key; as `Authorization: ApiKey ...` instead of in {API_KEY_HEADER}, too."
        yield "apiKey", {"type": "apiKey", "in": "header", "name": API_KEY_HEADER, "description": described}
    elif scheme.challenge:
        word = scheme.challenge.partition(b" ")[0].decode("ascii", "replace").lower()
        yield word, {"type": "http", "scheme": word}


def _is(scheme: Scheme, module: str, name: str) -> bool:
    """Whether it is of this class, which is not imported for that: some need libraries that are not installed."""
    loaded = sys.modules.get(f"workhorse.identity.{module}")
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(scheme, kind)


def _token(settings: Settings) -> str:
    described = "A signed access token (RFC 9068)."
    if settings.production or settings.identity.issuers:
        return described
    return (
        f"{described}\n\nOutside production, `workhorse token alice --scope SCOPE` prints one, where the service names"
        " no issuer of its own. `--scope` may be repeated."
    )


def _session_cookie(scheme: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    over_tls, *plain = scheme.cookie_names
    described = "The cookie of a login, which a browser sends by itself."
    if plain:
        described += f" Over TLS it is named `{over_tls}`."
    yield "session", {"type": "apiKey", "in": "cookie", "name": [over_tls, *plain][-1], "description": described}
