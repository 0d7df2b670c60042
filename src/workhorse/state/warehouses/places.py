"""Which rows of a page an engine does not have yet, by the place that it has noted. Pure."""

from collections.abc import Sequence

from workhorse.contracts.warehouse import CopiedRow, CopyBehind, JournalSetBack, Place

__all__ = ["check_there", "unseen"]


def unseen(rows: Sequence[CopiedRow], noted: Place | None, definition: str) -> tuple[list[CopiedRow], list[CopiedRow]]:
    """The rows after the noted place; and those of the same beginning that must be there already.

    Places of one beginning are counted without a gap. So a page that does not follow what was noted shows that the
    engine has lost rows, or is another one than the rows before were put into.

    Raises:
        CopyBehind: there is a gap.
    """
    began, number = rows[0].place
    last = noted[1] if noted is not None and noted[0] == began else 0
    if (noted is None or noted[0] <= began) and number > last + 1:
        raise CopyBehind(definition, noted, rows[0].place)
    if noted is None:
        return list(rows), []
    there = [row for row in rows if row.place[0] == noted[0] and row.place <= noted]
    return [row for row in rows if row.place > noted], there


def check_there(there: Sequence[CopiedRow], found: int, definition: str) -> None:
    """Refuse a page of which rows are not there that were put at their places.

    Raises:
        JournalSetBack: some are missing.
    """
    if found != len(there):
        raise JournalSetBack(definition, there[0].place)
