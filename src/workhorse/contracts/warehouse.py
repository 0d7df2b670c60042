"""The engine that events are copied to when one machine is outgrown, and what is asked of it.

What an engine must do is little, so that many can: keep rows by an id, and note in the same transaction how far the
copying has come. What it cannot keep exactly it keeps as text beside the column, and says so when it is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

from workhorse.contracts.frames import FrameSource
from workhorse.errors import WorkhorseError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CopiedRow", "CopyBehind", "Engine", "JournalSetBack", "Kind", "MeasuredRow", "Place", "Question", "Shape"]

Kind = Literal["text", "number", "json"]
"""`text`: a JSON string. `number`: an exact number, from a JSON number or the text of one. `json`: whatever it is."""

Place = tuple[int, int]
"""Where an event stands in what its feed is given (see `feeds.Recorded.place`)."""


class CopyBehind(WorkhorseError):
    """The engine has not got what was copied before: it is another one, or was set back. Nothing was put."""

    def __init__(self, definition: str, noted: Place | None, given: Place) -> None:
        super().__init__(
            f"the engine has {definition!r} up to {noted}, and what comes next begins at {given}: it is another engine"
            " than before, or was restored from an older copy. `await warehouse.recopy(database, table)` copies all"
            " anew, over what is there"
        )


class JournalSetBack(WorkhorseError):
    """The journal has other events than those that were copied from it: it was restored to an earlier time."""

    def __init__(self, definition: str, given: Place) -> None:
        super().__init__(
            f"the journal gives {definition!r} other events at {given} than it gave before: it was restored to an"
            " earlier time, and the engine has events that it has no more. `await warehouse.recopy(database, table,"
            " clear=True)` empties the table and copies all anew"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table, as one definition of it has it."""

    table: str
    definition: str
    """Names this definition. Several may be copied into one table at once, as while a new version is rolled out."""
    columns: Mapping[str, Kind]
    """Beside `id`, `type`, `occurred_at` and `subject`, which every table has."""
    subject: bool
    """Whether this definition copies the subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedRow:
    """One event on its way into a table."""

    place: Place
    id: UUID
    type: str
    occurred_at: datetime
    subject: str | None
    values: Sequence[str | None]
    """One for each column, as text: of a number in plain decimal notation, of `json` as JSON."""
    odd: Sequence[str | None]
    """One for each column: the JSON of what is not of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is measured of a table."""

    shape: Shape
    own_seconds: int
    """The length of the measure's windows."""
    seconds: int
    """The length of those that are asked for, a multiple."""
    since: datetime
    until: datetime
    by: Sequence[str]
    """Columns that are told apart."""
    only: Mapping[str, str | None]
    """Columns and what they must hold, as `CopiedRow.values` has it."""
    sum: str | None
    min: str | None
    max: str | None
    average: str | None
    at_most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """What was measured in one window."""

    starts: datetime
    by: Sequence[Any]
    """As Python has the JSON of it."""
    events: int
    rejected: int
    odd: int
    """Events with a value that the engine could not keep as its kind: the figures are not exact where there are any."""
    sum: Decimal | None
    min: Decimal | None
    max: Decimal | None
    average: Decimal | None


class Engine(Protocol):
    """Keeps copies of events and answers questions about them. One object a process; any number of processes."""

    @property
    def frames(self) -> FrameSource | None:
        """Where queries run that come as Arrow, with Postgres' words and types; None: `arrow` runs them."""
        ...

    async def append(self, shape: Shape, rows: Sequence[CopiedRow]) -> int:
        """Put rows into a table, and note the place of the last, in one transaction. Returns how many were put.

        Rows at a place that was noted before, or before it, are left out, and must be there; a row whose id is there
        gets the columns of this shape. A table or column that is missing is made.

        Raises:
            DatabaseUnavailable: the engine cannot be reached.
            QueryFailed: the engine refused it. Nothing was put.
            CopyBehind: rows are missing between what is there and these.
            JournalSetBack: other rows were put at the places of these.
            SettingsError: a column is there, and of another kind.
        """
        ...

    async def clear(self, shape: Shape) -> None:
        """Delete the rows of the table, and the note of this shape.

        Raises:
            DatabaseUnavailable, QueryFailed, SettingsError: as `append`.
        """
        ...

    async def measure(self, question: Question) -> list[MeasuredRow]:
        """Measure, ordered by time.

        Raises:
            DatabaseUnavailable, DatabaseTimeout, QueryFailed, SettingsError: as `append`, or it took too long.
        """
        ...

    async def arrow(self, statement: str, params: Sequence[object], *, max_rows: int) -> "pa.Table":
        """Run a query in the engine's own SQL, with `?` for values. Where `frames` is, that is asked instead.

        It stops reading after `max_rows`, with more rows than these where there are more.

        Raises:
            DatabaseUnavailable, DatabaseTimeout, QueryFailed: as `measure`.
        """
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...
