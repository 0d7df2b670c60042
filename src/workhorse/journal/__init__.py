"""The append-only journal of what happened: each event commits with the rows that it tells of."""

from workhorse.journal.events import Event, EventBox

__all__ = ["Event", "EventBox"]
