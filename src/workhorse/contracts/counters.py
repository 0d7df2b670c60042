"""Counters for rate limits."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from workhorse.rate import Quota

__all__ = ["CounterStore", "Exactness", "Grant", "ReadyCounters"]


class Exactness(StrEnum):
    """What a store of counters can promise."""

    SHARED = "shared"
    """Never over the limit, counted over all processes."""
    PROCESS = "process"
    """Never over the limit in one process; n processes admit n times as much."""


class Grant(NamedTuple):
    """What became of one quota."""

    admitted: bool
    """Whether this quota alone would have let the request in."""
    remaining: int
    """How many more would be let in at once now."""
    retry_after_us: int
    """Microseconds until it would be let in; 0 if it was."""
    reset_us: int
    """Microseconds until the whole capacity is there again."""


class CounterStore(Protocol):
    """Counters for rate limits (GCRA), by the store's own clock."""

    @property
    def exactness(self) -> Exactness:
        """What it promises."""
        ...

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each of 1 to 16 quotas, or, if one of them does not admit it, from none.

        One round trip. A `cost` of 0 only looks.

        Raises:
            StoreUnavailable: the store did not answer in time. Whether anything was taken is not known.
        """
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        ...


@runtime_checkable
class ReadyCounters(Protocol):
    """Counters that can often answer without waiting."""

    def take_at_once(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant] | None:
        """What `CounterStore.take` would do; None, and nothing is taken, where it would have to wait."""
        ...
