"""The cells of `MemoryCounters`: what it keeps and how it takes. It waits for nothing, so it is compiled."""

import heapq
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from workhorse.contracts import Grant
from workhorse.rate import Quota
from workhorse.state.gcra import check_take, settle, take_one

__all__ = ["Cells"]

PART_KEYS: Final = 1_024

Part: TypeAlias = dict[str, tuple[int, int]]
"""By key: the TAT in microseconds, and the interval, which says how many cells that is."""

FULL: Final = (0, 1)


class Cells:
    """Counters by key, at most so many.

    Args:
        max_keys: counters kept at most.
        clock: microseconds on a clock that never goes back.
    """

    def __init__(self, *, max_keys: int, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._parts: list[Part] = [{} for _ in range(max(1, max_keys // PART_KEYS))]
        self._bound = max_keys // len(self._parts)

    def count(self) -> int:
        """How many counters are kept; those that are full again may be among them."""
        return sum([len(part) for part in self._parts])

    def take_at_once(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none.

        Raises:
            ValueError: see `gcra.check_take`.
        """
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

    def take_cell(self, key: str, interval_us: int, capacity: int) -> tuple[int, int] | None:
        """Take one cell from one counter, as nearly all requests do: what remains, and the time until all is back.

        It is what `take_at_once` would do, without its quota and its grant, which cost more than the rest.

        Args:
            key: names the counter.
            interval_us: as `gcra.check_take` lets it pass.
            capacity: the same.

        Returns:
            `Grant.remaining` and `Grant.reset_us`; None, and nothing is taken, where it is not there yet or refuses.
        """
        now_us = self._clock()
        part = self._parts[hash(key) % len(self._parts)]
        kept = part.get(key)
        if kept is None:
            return None
        after_us = kept[0] - now_us
        after_us = after_us + interval_us if after_us > 0 else interval_us
        left_us = capacity * interval_us - after_us
        if left_us < 0:
            return None
        part[key] = (now_us + after_us, interval_us)
        return left_us // interval_us, after_us

    def forget(self, keys: Sequence[str]) -> None:
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
