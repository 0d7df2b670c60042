"""What the load generator is told on standard input and says on standard output: JSON, a line each.

It says `measuring` when the warm-up is over and `measured` when the time is up, so that whoever started it can read
the processes' CPU time at both instants; then its `LoadResult`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

__all__ = ["MEASURED", "MEASURING", "AccountRange", "LoadPlan", "LoadResult"]

MEASURING: Final = b"measuring\n"
MEASURED: Final = b"measured\n"


class AccountRange(msgspec.Struct, frozen=True):
    """Accounts of one currency: `first`, and every `step`-th id after it, `count` in all."""

    currency: str
    first: int
    step: int
    count: int

    def account(self, index: int) -> int:
        """The id of the account `index`, counted from 0 and around the end."""
        return self.first + self.step * (index % self.count)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One load."""

    host: str
    port: int
    connections: int
    warmup_seconds: float
    seconds: float
    accounts: tuple[AccountRange, ...]
    tokens: tuple[str, ...] = ()
    """Of the callers, who take turns; none: nobody says who calls."""
    hot: bool = False
    """Whether one account, the first of all, takes part in every transfer: as its debtor, or as its creditor."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seconds: float
    """The time measured, without the warm-up."""
    measured: int
    """Transfers acknowledged in it."""
    p50_ms: float
    p99_ms: float
    acknowledged: int
    """Transfers acknowledged (201) in all, the warm-up and the last replies included."""
    statuses: Mapping[int, int]
    """All replies, by status."""
    cpu_seconds: float
    """CPU time of the generator itself while it measured."""
