"""Events, and the box that carries those of one unit into the journal with one statement.

An event's id is a UUID of version 7 (RFC 9562, section 5.7), made here: its first 48 bits are the time, so the journal
is partitioned by its very key, and an app may hand the id out before the row exists. The next 12 bits are the fraction
of the millisecond (section 6.2, method 3), so that the events of one unit sort in the order in which they were emitted.

Everything that could make the INSERT fail is refused here, with the line that emitted it on the stack: a statement that
fails at the commit undoes the whole request, and says so to nobody who could mend it.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from secrets import randbits
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import Query
from workhorse.journal.kinds import EventType
from workhorse.sql import load_queries

__all__ = ["MAX_DATA_BYTES", "MAX_SUBJECT", "MAX_TYPE", "Event", "EventBox", "append_once", "time_ordered_id"]

MAX_TYPE: Final = 100
"""Characters."""
MAX_SUBJECT: Final = 200
"""Characters."""
MAX_DATA_BYTES: Final = 64 * 1024
"""Of JSON. What is larger belongs into a table or an object store, and its id into the event."""

# What waits in one unit at most; then it is written ahead of the commit.
FULL_EVENTS: Final = 500
FULL_BYTES: Final = 1024 * 1024

_TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\Z")
# Text that Postgres cannot hold: U+0000 as JSON escapes it, unless the backslash is itself escaped.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact, as it stands in the journal. Made by `Event.of`, which checks it."""

    id: UUID
    type: str
    """What happened, in dotted lower case, such as `transfer.posted`."""
    subject: str
    """To whom or what."""
    data: bytes
    """The facts: a JSON object."""
    occurred_at: datetime
    request_id: str = ""
    trace_id: str = ""
    principal: str = ""
    """The id of the caller; empty where nobody was known."""

    @classmethod
    def of(
        cls,
        type: str | EventType[Any],  # noqa: A002 - the word of CloudEvents
        *,
        subject: str,
        data: object = None,
    ) -> Self:
        """Make an event of now, by the request that is being served.

        Numbers that JSON cannot say (NaN, infinity) become null.

        Raises:
            EventMalformed: the data are not what the schema of the type says.
            ValueError: type, subject or data is malformed or too large; the message has the bound.
        """
        kind = None if isinstance(type, str) else type
        name = type if isinstance(type, str) else type.name
        if len(name) > MAX_TYPE or not _TYPE.match(name):
            raise ValueError(
                f"the event type {name[:120]!r} is not dotted lower case of at most {MAX_TYPE} characters;"
                " write for example 'transfer.posted'"
            )
        if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
            raise ValueError(
                f"the subject {subject[:220]!r} of the event {name!r} is not 1 to {MAX_SUBJECT} printable characters;"
                " give the id of what the event is about"
            )
        nanoseconds = time.time_ns()
        request = CURRENT.get(None)
        return cls(
            id=time_ordered_id(nanoseconds),
            type=name,
            subject=subject,
            data=_json_of(name, data, kind),
            occurred_at=_EPOCH + timedelta(microseconds=nanoseconds // 1000),
            request_id="" if request is None else request.request_id.decode("latin-1"),
            trace_id="" if request is None else request.trace_id.decode("latin-1"),
            principal=_caller(request),
        )


class EventBox:
    """The events of one unit on their way to the journal (see `units.work.Outbox`)."""

    __slots__ = ("_bytes", "_events")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether the events should be written now rather than with the commit."""
        return len(self._events) >= FULL_EVENTS or self._bytes >= FULL_BYTES

    def add(self, row: Event, /) -> None:
        """Take an event."""
        self._events.append(row)
        self._bytes += len(row.data)

    def drain(self) -> Query | None:
        """Give the events as one statement, and forget them."""
        if not self._events:
            return None
        events, self._events, self._bytes = self._events, [], 0
        return Query(_sql("append_events"), (_rows_of(events),))


def append_once(events: Sequence[Event]) -> tuple[str, Sequence[object]]:
    """The statement that appends events outside of a unit, and its parameters. Run twice it appends them once."""
    return _sql("append_once"), (_rows_of(events),)


def time_ordered_id(nanoseconds: int) -> UUID:
    """A UUID of version 7 for a time in nanoseconds since 1970."""
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (fraction << 64) | (0x2 << 62) | randbits(62))


def _caller(request: RequestContext | None) -> str:
    """The caller's id, as Postgres can keep it whatever an issuer put into it."""
    if request is None or not request.principal.is_authenticated:
        return ""
    return request.principal.id.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


@cache
def _sql(name: str) -> str:
    return load_queries("workhorse.journal", "sql/queries.sql")[name]


def _rows_of(events: Sequence[Event]) -> str:
    rows = [
        {
            "id": event.id,
            "type": event.type,
            "subject": event.subject,
            "data": msgspec.Raw(event.data),
            "occurred_at": event.occurred_at,
            "request_id": event.request_id or None,
            "trace_id": event.trace_id or None,
            "principal": event.principal or None,
        }
        for event in events
    ]
    return _encode(rows).decode()


def _json_of(type_: str, data: object, kind: EventType[Any] | None) -> bytes:
    try:
        encoded = _encode({} if data is None else data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the data of the event {type_!r} cannot be said in JSON: {error}") from error
    if not encoded.startswith(b"{"):
        raise ValueError(f"the data of the event {type_!r} is no JSON object; wrap it: {{'value': ...}}")
    if kind is not None:
        encoded = kind.checked(encoded)
    if len(encoded) > MAX_DATA_BYTES:
        raise ValueError(
            f"the data of the event {type_!r} has {len(encoded)} bytes; at most {MAX_DATA_BYTES} are taken."
            " Keep what is larger elsewhere, and its id in the event"
        )
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise ValueError(f"the data of the event {type_!r} holds the character U+0000, which Postgres cannot keep")
    return encoded
