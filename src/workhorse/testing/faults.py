"""What a fault proxy is told to do, and when: a countdown of moments, and what follows the last of them. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from workhorse.testing.conversation import MomentKind

__all__ = ["Cut", "Fault", "Faults"]


class Cut(StrEnum):
    """Where a connection is cut, seen from a moment."""

    BEFORE = "before"
    """What the moment is about is not passed on."""
    BEHIND = "behind"
    """It is passed on, and nothing after it."""


@dataclass(slots=True)
class Fault:
    """A cut that was asked for. `happened` tells whether it has been made."""

    kind: MomentKind
    left: int
    cut: Cut
    happened: bool = False


class Faults:
    """The cuts that are to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, kind: MomentKind, count: int, cut: Cut) -> Fault:
        """Cut at the `count`-th moment of this kind from now.

        Raises:
            ValueError: the count is less than 1.
        """
        if count < 1:
            raise ValueError(f"there is no {count}. {kind}: count from 1")
        fault = Fault(kind, count, cut)
        self._faults.append(fault)
        return fault

    def meet(self, kind: MomentKind) -> Cut | None:
        """Count a moment; tell whether it is one to cut at."""
        due: Fault | None = None
        for fault in self._faults:
            if fault.kind is kind:
                fault.left -= 1
                if not fault.left:
                    fault.happened = True
                    due = due if due is not None and due.cut is Cut.BEFORE else fault
        self._faults = [fault for fault in self._faults if fault.left]
        return due.cut if due is not None else None

    def clear(self) -> None:
        """Forget those that have not happened."""
        self._faults.clear()
