"""What can be wrong with a file, and with one row of it."""

from dataclasses import dataclass
from typing import Final

from workhorse.errors import WorkhorseError

__all__ = ["BadRow", "ImportBusy", "ImportRefused", "TooManyBadRows"]

# A value is told so far: a report is for people, and may be read by more of them than the file.
SHOWN: Final = 100


class ImportRefused(WorkhorseError):
    """A file cannot be imported: its form, its size or its columns. No more of it was written than before."""


class ImportBusy(WorkhorseError):
    """Another process imports the same file into the same table."""


class TooManyBadRows(ImportRefused):
    """A file has more bad rows than are allowed."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """One value that has no place in its column, or one row that has none in the table."""

    row: int
    """From 1, the header not counted."""
    column: str
    """Empty: the row as a whole."""
    value: str
    """Its beginning."""
    reason: str

    @classmethod
    def of(cls, row: int, column: str, value: object, reason: str) -> "BadRow":
        """A bad row whose value and reason are short enough to be read."""
        text = "" if value is None else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return cls(row, column, text[:SHOWN], reason.strip()[:300])
