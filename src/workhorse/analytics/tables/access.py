"""Who may see which column of a result: decided before the query runs, and noted before the first row leaves.

The classes of columns are another room's. Here is the little that a query has to know of them: the class of each column
of the result, and what this caller may do with that class. A column whose class nobody knows is refused: what was not
checked must not pass for allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workhorse.errors import PROBLEM_PREFIX, Problem
from workhorse.principal import Principal
from workhorse.privacy.classes import Access

__all__ = ["Access", "Cells", "ColumnsRefused", "Decision", "Privacy", "decide"]


class Privacy(Protocol):
    """What a query asks about its columns."""

    def class_of(self, column: str) -> str | None:
        """The class of a column of results that names none itself, such as `personal`; None: it is not known."""
        ...

    def access(self, class_: str, principal: Principal) -> Access:
        """What the caller may do with columns of a class."""
        ...

    def audited(self, class_: str) -> bool:
        """Whether each reading of such a column is an event of the journal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Small-cell suppression: groups of an aggregate that are too small to hide a person in are left out.

    It guards one query. Who may ask for several that overlap can subtract one from another.
    """

    count: str
    """The column of the result that says how many persons a row is about."""
    at_least: int = 5

    def __post_init__(self) -> None:
        if self.at_least < 2:
            raise ValueError(f"cells of at least {self.at_least} hide nobody; it is 2 or more")


class ColumnsRefused(Problem):
    """403: the result has columns that the caller may not read."""

    status = 403
    type = PROBLEM_PREFIX + "columns-refused"
    title = "The result has columns that you may not read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of the columns of one result."""

    masked: frozenset[str] = frozenset()
    audited: Mapping[str, str]
    """Columns whose reading is noted, with their class."""


def decide(
    columns: Sequence[str], classes: Mapping[str, str], privacy: Privacy | None, principal: Principal
) -> Decision:
    """Decide about the columns of a result. Pure, as far as `privacy` is.

    Args:
        columns: of the result.
        classes: that the query declares, before those that `privacy` knows.
        privacy: None: there are no classes here, and all is allowed.
        principal: who asks.

    Raises:
        ColumnsRefused: one may not be read, or nobody knows its class.
    """
    if privacy is None:
        return Decision(audited={})
    masked: set[str] = set()
    audited: dict[str, str] = {}
    refused: list[str] = []
    for column in columns:
        class_ = classes.get(column) or privacy.class_of(column)
        access = Access.REFUSE if class_ is None else privacy.access(class_, principal)
        if access is Access.REFUSE:
            refused.append(column)
        elif access is Access.MASK:
            masked.add(column)
        elif class_ is not None and privacy.audited(class_):
            audited[column] = class_
    if refused:
        raise ColumnsRefused(f"Leave these out of the query: {', '.join(refused)}.", columns=refused)
    return Decision(masked=frozenset(masked), audited=audited)
