"""The append-only journal of what happened: each event commits with the rows that it tells of."""

from workhorse.journal.events import Event, EventBox
from workhorse.journal.kinds import EventKindUnknown, EventMalformed, EventType, EventTypes, EventVersionUnknown
from workhorse.journal.records import RecordRule, record_rules
from workhorse.journal.trail import RecordNotStored, Trail

__all__ = [
    "Event",
    "EventBox",
    "EventKindUnknown",
    "EventMalformed",
    "EventType",
    "EventTypes",
    "EventVersionUnknown",
    "RecordNotStored",
    "RecordRule",
    "Trail",
    "record_rules",
]
