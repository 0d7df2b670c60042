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

import heapq
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from workhorse.contracts import Exactness, Grant
from workhorse.errors import SettingsError
from workhorse.rate import Quota
from workhorse.state.clock import monotonic_us
from workhorse.state.gcra import check_take, settle, take_one

__all__ = ["MemoryCounters"]

PART_KEYS: Final = 1_024

Part: TypeAlias = dict[str, tuple[int, int]]
"""By key: the TAT in microseconds, and the interval, which says how many cells that is."""

FULL: Final = (0, 1)


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
        self._clock = clock
        self._parts: list[Part] = [{} for _ in range(max(1, max_keys // PART_KEYS))]
        self._bound = max_keys // len(self._parts)

    @property
    def exactness(self) -> Exactness:
        """In one process."""
        return Exactness.PROCESS

    def __len__(self) -> int:
        """How many counters are kept; those that are full again may be among them."""
        return sum(map(len, self._parts))

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none.

        Raises:
            ValueError: see `gcra.check_take`.
        """
        return self.take_at_once(quotas, cost=cost)

    def take_at_once(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """The same without a coroutine, which would cost as much again (see `contracts.ReadyCounters`)."""
        check_take(quotas, cost)
        now_us = self._clock()
        if len(quotas) == 1:  # nearly all requests have one limit
            quota = quotas[0]
            key = quota[0]
            part = self._parts[hash(key) % len(self._parts)]
            kept = part.get(key)
            if kept is not None:
                tat_us, grant = take_one(kept[0], now_us, quota, cost)
                if grant[0]:
                    part[key] = (tat_us, quota[1])
                return (grant,)
            tat_us, grant = take_one(0, now_us, quota, cost)
            if cost:
                self._keep(part, quota, tat_us, now_us)
            return (grant,)
        parts = [self._parts[hash(quota.key) % len(self._parts)] for quota in quotas]
        tats_us = [part.get(quota.key, FULL)[0] for part, quota in zip(parts, quotas, strict=True)]
        taken, grants = settle(tats_us, now_us, quotas, cost)
        if taken and cost:
            for part, quota, tat_us in zip(parts, quotas, taken, strict=True):
                self._keep(part, quota, tat_us, now_us)
        return grants

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again."""
        for key in keys:
            self._parts[hash(key) % len(self._parts)].pop(key, None)

    def _keep(self, part: Part, quota: Quota, tat_us: int, now_us: int) -> None:
        if len(part) >= self._bound and quota[0] not in part:
            make_room(part, now_us, wanted=max(1, self._bound // 8))
        part[quota[0]] = (tat_us, quota[1])


def make_room(part: Part, now_us: int, *, wanted: int) -> None:
    """Drop the counters that are full again; if they are fewer than `wanted`, those with the fewest cells taken too."""
    before = len(part)
    for key in [key for key, (tat_us, _) in part.items() if tat_us <= now_us]:
        del part[key]
    missing = wanted - (before - len(part))
    if missing > 0:
        taken = ((-(-(tat_us - now_us) // interval_us), key) for key, (tat_us, interval_us) in part.items())
        for _, key in heapq.nsmallest(missing, taken):
            del part[key]
