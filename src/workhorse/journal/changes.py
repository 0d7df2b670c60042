"""Rows before and after: the event `audit.changed`, one a row.

Of an update only the columns that differ are told. A value that JSON cannot say stands as its text, and a change too
large for an event is told without its values: a record must not be what makes a request fail.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from workhorse.audited import as_subject
from workhorse.contracts import Query, RowChange
from workhorse.journal.events import MAX_DATA_BYTES, Event, append_once
from workhorse.journal.kinds import Sealing

__all__ = ["CHANGED", "change_event", "changes_query"]

CHANGED: Final = "audit.changed"
# What the names around the values take at most.
_ROOM: Final = 1024


def change_event(change: RowChange, sealing: Sealing | None = None) -> Event:
    """The event of one change, in which `sealing` hides what is personal.

    Raises:
        ValueError: the subject is malformed.
    """
    before, after = _plain(change.before), _plain(change.after)
    if before is not None and after is not None:
        same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
        before = {name: value for name, value in before.items() if name not in same}
        after = {name: value for name, value in after.items() if name not in same}
    if sealing is not None:
        before = None if before is None else dict(sealing.hide(before))
        after = None if after is None else dict(sealing.hide(after))
    data: dict[str, object] = {"operation": change.operation, "before": before, "after": after}
    if len(msgspec.json.encode(data)) > MAX_DATA_BYTES - _ROOM:
        names = sorted({*(before or {}), *(after or {})})[:50]
        data = {"operation": change.operation, "before": None, "after": None, "too_large": names}
    return Event.of(CHANGED, subject=as_subject(change.subject), data=data)


def changes_query(changes: Sequence[RowChange], sealing: Sealing | None = None) -> Query:
    """The statement that appends the events of changes."""
    return Query(*append_once([change_event(change, sealing) for change in changes]))


def _plain(values: Mapping[str, object] | None) -> dict[str, object] | None:
    """Values as JSON can say them and Postgres keep them."""
    if values is None:
        return None
    return {name: _storable(msgspec.to_builtins(value, enc_hook=str)) for name, value in values.items()}


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        return {str(_storable(str(name))): _storable(inner) for name, inner in members.items()}
    return [_storable(inner) for inner in cast("list[object]", value)] if isinstance(value, list) else value
