"""Who calls: proven by a signed token, an API key, a session or a client certificate.

    identity = Identity(Bearer("https://login.example.com", audience="https://api.bank.example"))

Each way is a `Scheme`, and `Identity` makes one of several. The names below are loaded when they are first used, so
that a service without tokens needs none of their libraries.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from workhorse.errors import LibraryMissing

if TYPE_CHECKING:
    from workhorse.identity.api_keys import ApiKeys
    from workhorse.identity.bearer import Bearer
    from workhorse.identity.certificate import CertificateFormat, Certificates, ClientCertificate
    from workhorse.identity.claims import ClaimNames
    from workhorse.identity.development import DevelopmentIssuer
    from workhorse.identity.device_cookie import DeviceCookie
    from workhorse.identity.issuer import Issuer
    from workhorse.identity.key_desk import KeyDesk, NewKey
    from workhorse.identity.key_text import KeyText
    from workhorse.identity.login import LoginPaths, OidcLogin
    from workhorse.identity.mutual_tls import MutualTls
    from workhorse.identity.reason import Reason
    from workhorse.identity.scheme import (
        Credentials,
        Identity,
        IssuerUnavailable,
        NotAllowed,
        NotAuthenticated,
        Scheme,
    )
    from workhorse.identity.session import Session
    from workhorse.identity.sessions import SessionChanged, Sessions
    from workhorse.identity.throttle import Attempt, LoginThrottle, TooManyAttempts

__all__ = [
    "ApiKeys",
    "Attempt",
    "Bearer",
    "CertificateFormat",
    "Certificates",
    "ClaimNames",
    "ClientCertificate",
    "Credentials",
    "DevelopmentIssuer",
    "DeviceCookie",
    "Identity",
    "Issuer",
    "IssuerUnavailable",
    "KeyDesk",
    "KeyText",
    "LoginPaths",
    "LoginThrottle",
    "MutualTls",
    "NewKey",
    "NotAllowed",
    "NotAuthenticated",
    "OidcLogin",
    "Reason",
    "Scheme",
    "Session",
    "SessionChanged",
    "Sessions",
    "TooManyAttempts",
]

_HOMES: Final = {
    "ApiKeys": "workhorse.identity.api_keys",
    "Attempt": "workhorse.identity.throttle",
    "Bearer": "workhorse.identity.bearer",
    "CertificateFormat": "workhorse.identity.certificate",
    "Certificates": "workhorse.identity.certificate",
    "ClaimNames": "workhorse.identity.claims",
    "ClientCertificate": "workhorse.identity.certificate",
    "Credentials": "workhorse.identity.scheme",
    "DeviceCookie": "workhorse.identity.device_cookie",
    "DevelopmentIssuer": "workhorse.identity.development",
    "Identity": "workhorse.identity.scheme",
    "Issuer": "workhorse.identity.issuer",
    "IssuerUnavailable": "workhorse.identity.scheme",
    "KeyDesk": "workhorse.identity.key_desk",
    "KeyText": "workhorse.identity.key_text",
    "LoginPaths": "workhorse.identity.login",
    "LoginThrottle": "workhorse.identity.throttle",
    "MutualTls": "workhorse.identity.mutual_tls",
    "NewKey": "workhorse.identity.key_desk",
    "NotAllowed": "workhorse.identity.scheme",
    "NotAuthenticated": "workhorse.identity.scheme",
    "OidcLogin": "workhorse.identity.login",
    "Reason": "workhorse.identity.reason",
    "Scheme": "workhorse.identity.scheme",
    "Session": "workhorse.identity.session",
    "SessionChanged": "workhorse.identity.sessions",
    "Sessions": "workhorse.identity.sessions",
    "TooManyAttempts": "workhorse.identity.throttle",
}

# Homes that need the extra `identity`, and what is in it.
_NEED_EXTRA: Final = frozenset(
    {
        "workhorse.identity.bearer",
        "workhorse.identity.certificate",
        "workhorse.identity.development",
        "workhorse.identity.issuer",
        "workhorse.identity.login",
        "workhorse.identity.mutual_tls",
    }
)
_EXTRA: Final = {"jwt": "PyJWT", "cryptography": "cryptography", "httpx": "httpx"}


def __getattr__(name: str) -> Any:
    """Load a name of the front door from its module (PEP 562).

    Raises:
        LibraryMissing: a library that it needs is not installed; the message says what to install.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'workhorse.identity' has no attribute {name!r}; it offers: {', '.join(__all__)}")
    home = _HOMES[name]
    missing = [said for module, said in _EXTRA.items() if find_spec(module) is None] if home in _NEED_EXTRA else []
    if missing:
        raise LibraryMissing(
            f"{name} needs {' and '.join(missing)}, which this Python does not have: pip install 'workhorse[identity]'"
        )
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
