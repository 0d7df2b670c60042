"""Rate limits counted in this process, by its monotonic clock. A take touches one or two dicts and awaits nothing.

The number of keys is bounded, because whoever makes up keys (addresses, say) would otherwise fill the memory. What has
to go when there are too many decides whether made-up keys can undo a limit:

- first the counters that are full again, of which nothing is lost;
- then those with the fewest cells taken. So a counter with k cells taken goes only when nearly all others have as many
  taken: who wants to be rid of his k has to spend k on each of some 57,000 keys (7/8 of `max_keys`) before they refill.

The keys lie in parts of about a thousand, by their hash, which Python salts: nobody can aim at a part. Only the part
that is full is looked through, and an eighth of it is freed at once, so a take never pauses for more than a fraction
of a millisecond, and on average for a few microseconds.
"""

from collections.abc import Callable, Sequence

from workhorse.contracts import Exactness, Grant
from workhorse.errors import SettingsError
from workhorse.rate import Quota
from workhorse.state.clock import monotonic_us
from workhorse.state.memory.cells import Cells

__all__ = ["MemoryCounters"]


class MemoryCounters:
    """A `contracts.CounterStore` of one process. It is used from one thread, that of the event loop.

    Args:
        max_keys: counters kept at most; one takes about 300 bytes.
        clock: microseconds on a clock that never goes back; its zero is long ago.

    Raises:
        SettingsError: `max_keys` is below 16.
    """

    def __init__(self, *, max_keys: int = 65_536, clock: Callable[[], int] = monotonic_us) -> None:
        if max_keys < 16:
            raise SettingsError(f"max_keys={max_keys} is too few counters to be of use; keep 16 at least")
        self._cells = Cells(max_keys=max_keys, clock=clock)
        # As they are: another call would be a good part of what they cost.
        self.take_at_once = self._cells.take_at_once
        """The same as `take` without a coroutine, which would cost as much again (see `contracts.ReadyCounters`)."""
        self.take_cell = self._cells.take_cell
        """Take one cell from one counter (see `Cells.take_cell`)."""

    @property
    def exactness(self) -> Exactness:
        """In one process."""
        return Exactness.PROCESS

    def __len__(self) -> int:
        """How many counters are kept; those that are full again may be among them."""
        return self._cells.count()

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none.

        Raises:
            ValueError: see `gcra.check_take`.
        """
        return self._cells.take_at_once(quotas, cost=cost)

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again."""
        self._cells.forget(keys)
