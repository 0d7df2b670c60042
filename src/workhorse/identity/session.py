"""A session as a value: as the store keeps it, as a caller, and as its owner may see it.

The store keeps two documents of MessagePack. What the session may do and what the app keeps in it are apart, so that
an app that writes its data cannot change a scope by mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import msgspec

from workhorse.context import RequestContext
from workhorse.contracts import SessionRecord
from workhorse.identity.reason import Reason, Refused
from workhorse.principal import Kind, Principal

__all__ = [
    "Grants",
    "Session",
    "SessionPrincipal",
    "pack_data",
    "pack_grants",
    "presented_by",
    "principal_of",
    "session_of",
    "unpack_grants",
]

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session, as its owner may see it. Times are in seconds since 1970."""

    public_id: str
    """Names it; opens nothing."""
    subject: str
    created: float
    """When the login was."""
    seen: float
    """When it was last used, to about a minute."""
    expires: float
    """When it ends, whatever is done with it."""
    scopes: frozenset[str]
    roles: frozenset[str]
    tenant: str
    data: Mapping[str, Any] = field(repr=False)
    """What the app keeps in it."""
    current: bool
    """Whether it is that of this very request."""
    record: SessionRecord = field(repr=False, compare=False)
    """As the store has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPrincipal(Principal):
    """A caller who is known by a session, and that session."""

    record: SessionRecord = field(repr=False, compare=False)


class Grants(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a session may do. A later release may add fields, and this one skips them."""

    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    tenant: str = ""


def pack_grants(grants: Grants) -> bytes:
    """Encode what a session may do.

    Raises:
        ValueError: a name is no text.
    """
    return msgspec.msgpack.encode(grants)


def unpack_grants(encoded: bytes) -> Grants:
    """Decode what `pack_grants` made.

    Raises:
        Refused: it is something else.
    """
    try:
        return msgspec.msgpack.decode(encoded, type=Grants)
    except UNREADABLE:
        raise Refused(Reason.MALFORMED) from None


def pack_data(data: Mapping[Any, Any], *, max_bytes: int) -> bytes:
    """Encode what the app keeps.

    Raises:
        ValueError: it takes more than `max_bytes`, or cannot be encoded.
    """
    if not all(isinstance(key, str) for key in data):
        raise ValueError(f"the data of a session have a key that is no text, of {list(data)!r}; use names")
    try:
        encoded = msgspec.msgpack.encode(dict(data))
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"the data of a session cannot be encoded: {error}; keep what JSON can express") from error
    if len(encoded) > max_bytes:
        raise ValueError(
            f"the data of the session take {len(encoded)} bytes, and {max_bytes} are allowed: keep large things in the"
            " database, and their names in the session; or raise max_data_bytes"
        )
    return encoded


def unpack_data(encoded: bytes) -> Mapping[str, Any]:
    """Decode what `pack_data` made.

    Raises:
        Refused: it is something else.
    """
    try:
        return MappingProxyType(msgspec.msgpack.decode(encoded, type=dict[str, Any]))
    except UNREADABLE:
        raise Refused(Reason.MALFORMED) from None


def principal_of(record: SessionRecord) -> SessionPrincipal:
    """The caller whose session this is.

    Raises:
        Refused: the store holds what no release of this code wrote.
    """
    grants = unpack_grants(record.grants)
    return SessionPrincipal(
        subject=record.subject,
        kind=Kind.SESSION,
        scopes=frozenset(grants.scopes),
        roles=frozenset(grants.roles),
        tenant=grants.tenant,
        expires=record.expires,
        credential=record.public_id,
        claims=unpack_data(record.data),
        record=record,
    )


def session_of(record: SessionRecord, request: RequestContext) -> Session:
    """A session as its owner may see it."""
    grants = unpack_grants(record.grants)
    presented = presented_by(request)
    return Session(
        public_id=record.public_id,
        subject=record.subject,
        created=record.created,
        seen=record.seen,
        expires=record.expires,
        scopes=frozenset(grants.scopes),
        roles=frozenset(grants.roles),
        tenant=grants.tenant,
        data=unpack_data(record.data),
        current=presented is not None and presented.digest == record.digest,
        record=record,
    )


def presented_by(request: RequestContext) -> SessionRecord | None:
    """The session that the request came with, or was given since."""
    principal = request.principal
    return principal.record if isinstance(principal, SessionPrincipal) else None
