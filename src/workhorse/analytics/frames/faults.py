"""What can be wrong with a frame."""

from collections.abc import Sequence

from workhorse.analytics.imports.faults import BadRow
from workhorse.errors import WorkhorseError

__all__ = ["FrameMisfit", "FrameTooLarge"]

# So many values are told of in the message; `rows` has more.
TOLD = 3


class FrameTooLarge(WorkhorseError):
    """A frame has more rows, or more bytes, than it may have."""


class FrameMisfit(WorkhorseError):
    """A frame does not fit the table that it goes into: a column, or the values of some rows. Nothing of it stands.

    A job that raises it writes nothing at all, since its unit is rolled back.
    """

    def __init__(self, said: str, rows: Sequence[BadRow] = ()) -> None:
        told = "; ".join(
            f"row {bad.row}, {bad.column or 'the whole row'}: {bad.value!r} {bad.reason}" for bad in rows[:TOLD]
        )
        super().__init__(f"{said}: {told}" if told else said)
        self.rows = tuple(rows)
        """The values that misfit, of the first part of the frame that has any. Rows are counted from 1."""
