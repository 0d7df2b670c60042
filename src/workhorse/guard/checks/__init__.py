"""One threat a file. Each check is a pure function of the plan and the facts.

`ADMISSION` is the order in which they are asked before the app is called: the cheapest and most telling first.
"""

from collections.abc import Callable
from typing import Final

from workhorse.guard.checks.body import check_declared_body
from workhorse.guard.checks.host import check_host
from workhorse.guard.checks.shape import check_shape
from workhorse.guard.checks.size import check_size
from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import Refusal

__all__ = ["ADMISSION"]

ADMISSION: Final[tuple[Callable[[Plan, Facts], Refusal | None], ...]] = (
    check_shape,
    check_size,
    check_host,
    check_declared_body,
)
