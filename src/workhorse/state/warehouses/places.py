"""Which rows of a page an engine does not have yet, by the place that it has noted. Pure."""

from collections.abc import Sequence

from workhorse.contracts.warehouse import CopiedRow, CopyBehind, Place

__all__ = ["unseen"]


def unseen(rows: Sequence[CopiedRow], noted: Place | None, definition: str) -> list[CopiedRow]:
    """The rows after the noted place.

    Places of one beginning are counted without a gap. So a page that does not follow what was noted shows that the
    engine has lost rows, or is another one than the rows before were put into.

    Raises:
        CopyBehind: there is a gap.
    """
    if not rows:
        return []
    began, number = rows[0].place
    last = noted[1] if noted is not None and noted[0] == began else 0
    if (noted is None or noted[0] <= began) and number > last + 1:
        raise CopyBehind(definition, noted, rows[0].place)
    return [row for row in rows if noted is None or row.place > noted]
