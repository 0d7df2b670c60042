"""Why credentials were refused, in one word for the log, the metric and nobody else.

A client that is told why learns where to try next: that the signature was right and the audience was not, or that this
key is known and that one is not. So the word stays here, and every refusal looks the same from outside.
"""

from enum import StrEnum

__all__ = ["Reason", "Refused"]


class Reason(StrEnum):
    """Why credentials were refused."""

    MISSING = "missing"
    """There were none, where some are needed."""
    AMBIGUOUS = "ambiguous"
    """There was more than one kind, and they need not belong to the same caller."""
    SCHEME = "scheme"
    """An Authorization header of a scheme that is not taken here."""
    MALFORMED = "malformed"
    """What was presented cannot be read."""
    TOO_LARGE = "too_large"
    """A token over the size that is taken."""
    ALGORITHM = "algorithm"
    """Signed with an algorithm that is not taken, or that is not its key's."""
    TYPE = "type"
    """A token of another kind than an access token, such as an ID token."""
    CRITICAL = "critical"
    """The token demands an extension that is not understood (RFC 7515, section 4.1.11)."""
    ISSUER = "issuer"
    """Of an issuer that is not trusted."""
    UNKNOWN_KEY = "unknown_key"
    """Signed with a key that the issuer does not publish, or it does not say with which."""
    SIGNATURE = "signature"
    """The signature is not that of the key."""
    AUDIENCE = "audience"
    """Meant for another service."""
    EXPIRED = "expired"
    """Its time is over."""
    NOT_YET = "not_yet"
    """Its time has not come, by more than clocks may differ."""
    LIFETIME = "lifetime"
    """Made for a longer time than is taken."""
    CLAIMS = "claims"
    """A claim is missing or of the wrong kind."""
    BINDING = "binding"
    """Bound to its owner's certificate or key, and that was not presented (RFC 8705)."""
    CERTIFICATE = "certificate"
    """A client certificate that cannot be read."""
    UNKNOWN = "unknown"
    """Well formed, and nobody's: a key, session or certificate that is not known here."""
    REVOKED = "revoked"
    """Ended before its time."""


class Refused(Exception):  # not a WorkhorseError: the scheme turns it into what the client is told
    """Credentials were refused, deep inside a pure function that knows nothing of HTTP."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
