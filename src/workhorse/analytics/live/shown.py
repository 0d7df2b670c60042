"""What is shown of one measure, in memory: the rows of its latest windows, each with the revision of its last change.

That is all that is kept, whoever is served: a client is told the rows whose revision is greater than its own. One that
was away, came from another process or reads slowly is told the newest state of each row once, however often the row has
changed meanwhile. So there is no queue of changes, for one client or for all.
"""

from typing import Final, NamedTuple

from workhorse.analytics.live.positions import Position

__all__ = ["Change", "Shown", "Told"]

NOTHING: Final = -1
"""Below every revision."""


class Change(NamedTuple):
    """A row as the database has it now."""

    starts: int
    """Of its window, in seconds since 1970."""
    by: str
    """What it is counted by, as JSON."""
    revision: int
    figures: str
    """What is sent of it: a JSON object."""


class Told(NamedTuple):
    """What a look at the database has told of one measure."""

    began: int
    given: int
    """Events that were counted since."""
    since: int
    """The first window that is shown, in seconds since 1970."""
    changes: list[Change]


class Shown:
    """The latest windows of one measure.

    Args:
        window_seconds: the length of one.
        at_most: rows that are kept; the oldest windows go first, each as a whole.
    """

    __slots__ = ("_at_most", "_revision", "_rows", "_window_seconds", "began", "given", "since", "turn")

    def __init__(self, window_seconds: int, at_most: int) -> None:
        self._window_seconds = window_seconds
        self._at_most = at_most
        self._rows: dict[tuple[int, str], Change] = {}
        """By window and what it is counted by, in the order of their revisions."""
        self._revision = 0
        self.began = 0
        """When the counting began; 0: it has not."""
        self.given = 0
        """Events that were counted since."""
        self.since = 0
        """The first window that is shown."""
        self.turn = 0
        """Grows when the rows are read anew, so that everybody is told all."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def position(self) -> Position:
        """Where a client stands that has all of it."""
        return Position(self.began, self._revision)

    def take(self, told: Told | None) -> bool:
        """Bring it up to date; None: the measure is not counted. Returns whether there is something to tell."""
        if told is None:
            if not self.began:
                return False
            self._forget(0)
            return True
        anew = (
            told.began != self.began or told.given < self.given
        )  # begun anew; or the database is an older state of it
        if anew:
            self._forget(told.began)
        self.given = told.given
        before, self.since = self.since, max(self.since, told.since)
        for change in sorted(told.changes, key=lambda one: one.revision):
            key = (change.starts, change.by)
            self._rows.pop(key, None)
            self._rows[key] = change
            self._revision = max(self._revision, change.revision)
        if len(told.changes) > self._at_most:  # there are more, of the same window or of older ones
            self.since = max(self.since, min(change.starts for change in told.changes) + self._window_seconds)
        if told.changes or self.since != before:
            self._drop_old()
        return anew or bool(told.changes)

    def newer(self, revision: int = NOTHING) -> list[str]:
        """The rows that have changed since then, as they are sent."""
        found: list[str] = []
        for change in reversed(self._rows.values()):
            if change.revision <= revision:
                break
            found.append(change.figures)
        found.reverse()
        return found

    def _drop_old(self) -> None:
        if len(self._rows) > self._at_most:
            starts = sorted((key[0] for key in self._rows), reverse=True)
            self.since = max(self.since, starts[self._at_most] + self._window_seconds)
        old = [key for key in self._rows if key[0] < self.since]
        for key in old:
            del self._rows[key]

    def _forget(self, began: int) -> None:
        self._rows.clear()
        self._revision = self.since = self.given = 0
        self.began = began
        self.turn += 1
