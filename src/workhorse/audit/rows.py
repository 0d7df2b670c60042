"""The events of an export: one JSON object a line, with the index of its entry and the columns that the log covers.

    {"index":0,"id":"0190…","type":"transfer.posted","subject":"account:7","data":{"amount":"12.50"},
     "occurred_at":"2026-03-01T12:00:00.000000Z","request_id":null,"trace_id":null,"principal":null}

A line with a name that comes twice, or that is not one of these, is refused: programs would read it differently, and
what the log does not cover has no place beside what it does. `index` is null in an event that no entry stands for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from workhorse.audit.canonical import canonical_json, canonical_members, canonical_text
from workhorse.audit.entries import Entry, EventRow, utc_text
from workhorse.audit.export import MAX_LINE_BYTES
from workhorse.audit.faults import EntryRefused, Malformed
from workhorse.audit.tree import MAX_SIZE

__all__ = ["Row", "read_row", "write_row"]


_TEXTS: Final = ("id", "type", "subject", "occurred_at")
_OPTIONAL: Final = ("request_id", "trace_id", "principal")
_NAMES: Final = frozenset(("index", "data", *_TEXTS, *_OPTIONAL))
_MAX_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Row:
    """A line: where the event claims to stand, the entry that it makes, and its data in canonical form."""

    index: int | None
    entry: Entry
    data: bytes


def read_row(line: bytes) -> Row:
    """Read a line.

    Raises:
        Malformed: it is none. The message says why.
    """
    if len(line) > MAX_LINE_BYTES:
        raise Malformed(f"no event: the line has more than {MAX_LINE_BYTES} bytes")
    try:
        members = canonical_members(line)
        if not members.keys() <= _NAMES:
            raise Malformed(f"no event: it has members beside {', '.join(sorted(_NAMES))}")
        required = {name: _text(members, name) for name in _TEXTS}
        data, index = members["data"], _index(members["index"])
        row = EventRow(
            id=UUID(required["id"]),
            type=required["type"],
            subject=required["subject"],
            data=data,
            occurred_at=datetime.fromisoformat(required["occurred_at"]),
            **{name: _text(members, name) for name in _OPTIONAL if members.get(name, b"null") != b"null"},
        )
        # The line is in canonical form by now, and so is the data in it.
        entry = row.entry_over(sha256(data).hexdigest())
    except KeyError as error:
        raise Malformed(f"no event: it has no {error}") from error
    except (EntryRefused, ValueError) as error:
        raise Malformed(f"no event: {error}") from error
    if entry.id != required["id"] or entry.occurred_at != required["occurred_at"]:
        raise Malformed("no event: its id is written in lower case, its time in UTC with six digits and a Z")
    return Row(index, entry, data)


def write_row(index: int | None, row: EventRow) -> bytes:
    """The line of an event, without a newline.

    Raises:
        EntryRefused: the data is not JSON, a text cannot be written, or the time has no zone.
    """
    texts = "".join(
        f',"{name}":{"null" if value is None else canonical_text(value)}'
        for name, value in (
            ("type", row.type),
            ("subject", row.subject),
            ("request_id", row.request_id),
            ("trace_id", row.trace_id),
            ("principal", row.principal),
        )
    )
    head = f'{{"index":{"null" if index is None else index},"id":"{row.id}","occurred_at":"{utc_text(row.occurred_at)}"'
    return f'{head}{texts},"data":'.encode() + canonical_json(row.data) + b"}"


def _text(members: Mapping[str, bytes], name: str) -> str:
    value = members[name]
    if not value.startswith(b'"'):
        raise Malformed(f"no event: its {name} is {value[:40].decode(errors='replace')}, which is no text")
    text: str = json.loads(value)
    return text


def _index(value: bytes) -> int | None:
    if value == b"null":
        return None
    if not value.isdigit() or len(value) > _MAX_DIGITS or int(value) >= MAX_SIZE:
        raise Malformed(f"no event: the index {value[:40].decode(errors='replace')} cannot be one")
    return int(value)
