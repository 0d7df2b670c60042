r"""An event as an entry of the log: bytes that anyone can make again from the row.

An entry is one JSON object in canonical form (`canonical`), about 400 bytes:

    {"data_sha256":"9f86…","id":"0190…","occurred_at":"2026-03-01T12:00:00.000000Z","principal":null,"request_id":null,
     "subject":"account:7","trace_id":null,"type":"transfer.posted","v":1}

The data is not in it, but the SHA-256 of its canonical spelling. So an entry always fits the 65,535 bytes that an entry
of a bundle may have; the log can be shown to an auditor, and an entry proved to anyone, without the facts; and data may
be erased while the log still verifies. A guess at data of few possibilities can be confirmed by its digest: what must
stay secret after its erasure is encrypted under a key that is erased too.

`txid` is not in it either: it is where a row stands in one database, and a restore elsewhere may renumber it.

A text of more than `MAX_TEXT_BYTES` stands as its digest and length. `emit` lets no such text pass, but the columns
have no bound, and a row that could not be sealed would hold up every row after it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from workhorse.audit.canonical import canonical_json, canonical_text
from workhorse.audit.faults import EntryRefused, Malformed
from workhorse.audit.tree import leaf_hash
from workhorse.journal import Event

__all__ = ["ENTRY_VERSION", "MAX_ENTRY_BYTES", "MAX_TEXT_BYTES", "Entry", "EventRow", "entry_id"]

ENTRY_VERSION: Final = 1
MAX_TEXT_BYTES: Final = 1024
"""Of UTF-8; a longer text stands as its digest."""
MAX_ENTRY_BYTES: Final = 65_535
"""What the length of an entry in a bundle can say (C2SP tlog-tiles). Ours have at most about 31,000."""

TEXTS: Final = ("principal", "request_id", "subject", "trace_id", "type")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")


class _Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bytes: int
    sha256: str


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of an entry."""

    v: int
    id: str
    type: str | _Digest
    subject: str | _Digest
    data_sha256: str
    occurred_at: str
    request_id: str | _Digest | None
    trace_id: str | _Digest | None
    principal: str | _Digest | None


_read_entry = msgspec.json.Decoder(_Written).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event as its row says it; what the sealer and the verifier make entries of."""

    id: UUID
    type: str
    subject: str
    data: str | bytes
    """The JSON text: `data::text` in SQL, never what a driver made of it, whose numbers are rounded."""
    occurred_at: datetime
    request_id: str | None = None
    trace_id: str | None = None
    principal: str | None = None

    @classmethod
    def of(cls, event: Event) -> Self:
        """The row that an event becomes: an empty text is NULL there."""
        return cls(
            id=event.id,
            type=event.type,
            subject=event.subject,
            data=event.data,
            occurred_at=event.occurred_at,
            request_id=event.request_id or None,
            trace_id=event.trace_id or None,
            principal=event.principal or None,
        )

    def entry(self) -> "Entry":
        """The entry of this row.

        Raises:
            EntryRefused: the data is not JSON, a text has lone surrogates, or the time has no zone.
        """
        return self.entry_over(sha256(canonical_json(self.data)).hexdigest())

    def entry_over(self, data_sha256: str) -> "Entry":
        """The entry of this row, the digest of whose data is known already. Raises what `entry` does."""
        return Entry(
            id=str(self.id),
            type=_written(self.type),
            subject=_written(self.subject),
            data_sha256=data_sha256,
            occurred_at=utc_text(self.occurred_at),
            request_id=_written(self.request_id),
            trace_id=_written(self.trace_id),
            principal=_written(self.principal),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the log says of one event. Each field is as it is spelled in the bytes, in quotes where it is a text."""

    id: str
    type: str
    subject: str
    data_sha256: str
    occurred_at: str
    request_id: str
    trace_id: str
    principal: str

    def encode(self) -> bytes:
        """The bytes that are hashed: canonical JSON, the names in order."""
        return (
            f'{{"data_sha256":"{self.data_sha256}","id":"{self.id}","occurred_at":"{self.occurred_at}"'
            f',"principal":{self.principal},"request_id":{self.request_id},"subject":{self.subject}'
            f',"trace_id":{self.trace_id},"type":{self.type},"v":{ENTRY_VERSION}}}'
        ).encode()

    def leaf(self) -> bytes:
        """The hash of its leaf."""
        return leaf_hash(self.encode())

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read an entry, and make sure that these bytes are the only ones that say it.

        Raises:
            Malformed: they are no entry of this version in canonical form.
        """
        try:
            written = _read_entry(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Malformed(f"this is no entry of an event: {error}") from error
        if written.v != ENTRY_VERSION:
            raise Malformed(f"this entry is of version {written.v}; this verifier reads version {ENTRY_VERSION}")
        try:
            known = str(UUID(written.id)) == written.id and _DIGEST.match(written.data_sha256) is not None
            known = known and utc_text(datetime.fromisoformat(written.occurred_at)) == written.occurred_at
            entry = cls(
                id=written.id,
                data_sha256=written.data_sha256,
                occurred_at=written.occurred_at,
                **{name: _rewritten(getattr(written, name)) for name in TEXTS},
            )
            known = known and entry.encode() == raw
        except (ValueError, EntryRefused) as error:
            raise Malformed(f"this is no entry of an event: {error}") from error
        if not known:
            raise Malformed("this entry is not in canonical form")
        return entry

    def differences(self, other: "Entry") -> tuple[str, ...]:
        """The names of the fields in which two entries differ, `data` for the digest of the data."""
        names = ("id", "type", "subject", "data_sha256", "occurred_at", "request_id", "trace_id", "principal")
        return tuple(name.removesuffix("_sha256") for name in names if getattr(self, name) != getattr(other, name))


def entry_id(raw: bytes) -> str | None:
    """The event's id that an entry names, as far as it can be read at all."""
    try:
        named: Any = msgspec.json.decode(raw)
        return str(UUID(named["id"]))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError, KeyError, ValueError, AttributeError):
        return None


def utc_text(moment: datetime) -> str:
    """A time in UTC with all six digits of microseconds: `2026-03-01T12:00:00.000000Z` (RFC 3339)."""
    if moment.tzinfo is None:
        raise EntryRefused(f"the time {moment} has no zone")
    try:
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except OverflowError as error:
        raise EntryRefused(f"the time {moment} has no year of UTC from 1 to 9999") from error


def _written(value: str | None) -> str:
    """A text as it stands in an entry, or its digest if it is long."""
    if value is None:
        return "null"
    if len(value) * 4 > MAX_TEXT_BYTES or not value.isascii():
        try:
            raw = value.encode()
        except UnicodeError as error:
            raise EntryRefused(f"the text {value[:40]!r} cannot be written in UTF-8") from error
        if len(raw) > MAX_TEXT_BYTES:
            return f'{{"bytes":{len(raw)},"sha256":"{sha256(raw).hexdigest()}"}}'
    return canonical_text(value)


def _rewritten(value: str | _Digest | None) -> str:
    if isinstance(value, _Digest):
        if value.bytes <= MAX_TEXT_BYTES or not _DIGEST.match(value.sha256):
            raise Malformed("a digest stands for a text that is not long")
        return f'{{"bytes":{value.bytes},"sha256":"{value.sha256}"}}'
    return _written(value)
