"""Reads the text of a token, and refuses whatever has more than one reading.

Base64 decoders are lenient: they skip foreign characters and ignore the spare bits of the last one, so that many
texts mean one token. Here exactly one does. Otherwise a token that was revoked, counted or cached under one spelling
would walk in under another.

Nothing in the header is followed: `jku`, `x5u`, `jwk` and `x5c` name a key of the sender's choice (RFC 8725, section
3.10), and are not even read.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, NamedTuple

import msgspec

from workhorse.identity.reason import Reason, Refused

__all__ = ["Header", "Token", "b64url_decode", "b64url_encode", "is_bearer", "read_token"]

# RFC 6750, section 2.1, of which a JWS in compact serialization (RFC 7515, section 7.1) has three parts.
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.IGNORECASE)


class Header(msgspec.Struct, frozen=True):
    """The members of the header that are read (RFC 7515, section 4.1)."""

    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = msgspec.UNSET
    b64: Any = msgspec.UNSET


class Token(NamedTuple):
    """A token whose signature is not checked yet: nothing in it is true."""

    header: Header
    claims: dict[str, Any]
    signed: bytes
    """What the signature is over."""
    signature: bytes


_read_header = msgspec.json.Decoder(Header).decode
_read_claims = msgspec.json.Decoder(dict[str, Any]).decode


def is_bearer(authorization: bytes) -> bool:
    """Whether the header is of the scheme Bearer, whatever follows."""
    return authorization.startswith(b"Bearer ") or authorization[:7].lower() in {b"bearer", b"bearer "}


def read_token(authorization: bytes, *, max_bytes: int) -> Token:
    """Read an Authorization header.

    Args:
        authorization: the header's value.
        max_bytes: the longest that is looked at.

    Raises:
        Refused: too_large, malformed, or critical.
    """
    if len(authorization) > max_bytes:
        raise Refused(Reason.TOO_LARGE)
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise Refused(Reason.MALFORMED)
    try:
        head = b64url_decode(match[1])
        head.decode()  # msgspec does not look at the text of members that it skips, and other readers do
        header = _read_header(head)
        claims = _read_claims(b64url_decode(match[2]))
        signature = b64url_decode(match[3])
    except (ValueError, msgspec.MsgspecError, RecursionError):  # ValueError: also UnicodeDecodeError
        raise Refused(Reason.MALFORMED) from None
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise Refused(Reason.CRITICAL)
    return Token(header, claims, authorization[match.start(1) : match.end(2)], signature)


def b64url_decode(text: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2), from its one canonical spelling only.

    Raises:
        ValueError: it is not that.
    """
    data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if b64url_encode(data) != text:
        raise ValueError("not the canonical base64url of anything")
    return data


def b64url_encode(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=")
