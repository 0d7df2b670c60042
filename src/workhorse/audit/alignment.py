"""Holds the events of an export against the entries of the log, both read from the left to the right.

Each line says which entry it claims to stand for. Where the ids agree the fields are compared; what is left over on
either side waits, and is told apart at the end by its id: an event that the log has elsewhere was reordered, one that
it has nowhere was inserted, an entry that no event stands for was removed. Nothing shifts because of one deletion.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from workhorse.audit.entries import Entry
from workhorse.audit.faults import Malformed
from workhorse.audit.report import Fault, Finding
from workhorse.audit.rows import Row, read_row
from workhorse.audit.tree import leaf_hash

__all__ = ["Alignment", "Stretch"]

MAX_STRAYS: Final = 100_000
"""Events and entries that wait for each other; with more, the export is not one of this log at all."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of the log that one bundle covers."""

    first: int
    width: int
    entries: list[bytes] | None
    """As they are; None if the bundle is lost."""
    own: list[bytes] | None
    """The hashes of those entries."""
    leaves: list[bytes] | None
    """The hashes that were signed, if they are known."""


class Alignment:
    """One pass over the lines.

    Args:
        lines: of the events.
        report: is told what is found.
    """

    def __init__(self, lines: Iterator[bytes], *, report: Callable[[Finding], None]) -> None:
        self._lines = enumerate(lines, 1)
        self._report = report
        self._next: Row | None = None
        self._position = -1
        self._stray_rows: list[tuple[int | None, Entry]] = []
        self._stray_entries: dict[str, tuple[int, Entry]] = {}
        self._has_given_up = False
        self.matched = 0
        """Events that were found to be those of the log."""
        self._advance()

    def take(self, stretch: Stretch) -> None:
        """Compare the events of a bundle."""
        for at in range(stretch.width):
            if self._has_given_up:
                return
            index = stretch.first + at
            signed = None if stretch.leaves is None else stretch.leaves[at]
            raw = None if stretch.entries is None else stretch.entries[at]
            if raw is not None and stretch.own is not None and signed is not None and stretch.own[at] != signed:
                raw = None  # the entry is not what was signed, so it says nothing of the event
            row = self._next
            if row is None or row.index != index:
                self._miss(index, raw, is_signed=signed is not None)
                continue
            self._advance()
            encoded = row.entry.encode()
            if encoded == raw or (signed is not None and leaf_hash(encoded) == signed):
                self.matched += 1
            elif raw is not None:
                self._differ(index, row, raw)
            elif signed is not None:
                self._report(
                    Finding(
                        fault=Fault.CHANGED,
                        message="it is not the event that was signed; the entry that says what differs is lost",
                        index=index,
                        event_id=row.entry.id,
                    )
                )

    def finish(self) -> None:
        """Tell apart what is left over, when the log is at its end."""
        while self._next is not None and not self._has_given_up:
            self._wait_row(self._next)
            self._advance()
        for claimed, stray in self._stray_rows:
            found = self._stray_entries.pop(stray.id, None)
            if found is None:
                self._report(
                    Finding(
                        fault=Fault.INSERTED,
                        message="no entry of the log stands for it: it was inserted, or is not sealed yet",
                        index=claimed,
                        event_id=stray.id,
                    )
                )
                continue
            index, entry = found
            differs = stray.differences(entry)
            where = "nowhere" if claimed is None else f"at {claimed}"
            and_differs = f"; {', '.join(differs)} differ too" if differs else ""
            self._report(
                Finding(
                    fault=Fault.REORDERED,
                    message=f"the log has it here, and the events have it {where}{and_differs}",
                    index=index,
                    event_id=stray.id,
                    differs=differs,
                )
            )
        for index, entry in self._stray_entries.values():
            self._report(
                Finding(
                    fault=Fault.REMOVED,
                    message=f"the log has it ({entry.type}, {entry.subject}, {entry.occurred_at}), the events do not",
                    index=index,
                    event_id=entry.id,
                )
            )

    def _advance(self) -> None:
        """Read on to the next event that may stand for an entry; others wait."""
        self._next = None
        while not self._has_given_up:
            try:
                number, line = next(self._lines, (0, None))
            except Malformed as error:
                self._report(Finding(fault=Fault.UNREADABLE, message=f"the events end here: {error}"))
                return
            if line is None:
                return
            try:
                row = read_row(line)
            except Malformed as error:
                self._report(Finding(fault=Fault.UNREADABLE, message=f"line {number} of the events: {error}"))
                continue
            if row.index is not None and row.index > self._position:
                self._position, self._next = row.index, row
                return
            self._wait_row(row)

    def _miss(self, index: int, raw: bytes | None, *, is_signed: bool) -> None:
        """No event claims this entry."""
        if raw is not None:
            try:
                self._wait_entry(index, Entry.decode(raw))
            except Malformed as error:
                self._report(
                    Finding(fault=Fault.REMOVED, message=f"no event stands for this entry ({error})", index=index)
                )
        elif is_signed:
            self._report(
                Finding(fault=Fault.REMOVED, message="no event stands for this entry, which is lost", index=index)
            )

    def _differ(self, index: int, row: Row, raw: bytes) -> None:
        """An event claims an entry that is another."""
        try:
            entry = Entry.decode(raw)
        except Malformed as error:
            self._report(
                Finding(
                    fault=Fault.CHANGED,
                    message=f"the entry that it claims is none of an event: {error}",
                    index=index,
                    event_id=row.entry.id,
                )
            )
            return
        if entry.id != row.entry.id:
            self._wait_row(row)
            self._wait_entry(index, entry)
            return
        differs = row.entry.differences(entry)
        said = ", ".join(
            f"{name} is {_short(getattr(row.entry, name))}, and was {_short(getattr(entry, name))}"
            if name != "data"
            else f"the SHA-256 of data is {row.entry.data_sha256}, and was {entry.data_sha256}"
            for name in differs
        )
        self._report(Finding(fault=Fault.CHANGED, message=said, index=index, event_id=entry.id, differs=differs))

    def _wait_row(self, row: Row) -> None:
        self._stray_rows.append((row.index, row.entry))  # without its data, which may be large
        self._check_bound()

    def _wait_entry(self, index: int, entry: Entry) -> None:
        if entry.id in self._stray_entries:
            # The log itself has an event twice; each place is told on its own.
            self._report(
                Finding(
                    fault=Fault.REMOVED,
                    message="the log has this event a second time here, and the events do not",
                    index=index,
                    event_id=entry.id,
                )
            )
            return
        self._stray_entries[entry.id] = (index, entry)
        self._check_bound()

    def _check_bound(self) -> None:
        if len(self._stray_rows) + len(self._stray_entries) > MAX_STRAYS and not self._has_given_up:
            self._has_given_up = True
            self._report(
                Finding(
                    fault=Fault.TOO_MANY,
                    message=f"more than {MAX_STRAYS} events and entries do not find each other; the rest of the events"
                    " was not looked at. Is this the export of another log?",
                    index=0,
                )
            )


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
