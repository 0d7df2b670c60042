"""The generic cell rate algorithm (ITU-T I.371, the virtual scheduling algorithm) in whole microseconds.

A counter is one number: the theoretical arrival time (TAT), at which its whole capacity is there again. A request
moves it on by its cost times the interval, from where it stands or from now, whichever is later. It is admitted if
the TAT then lies no further ahead than the capacity times the interval, which is the counter's **depth**.

Why that bounds every span of time, and not only those that start at a window's edge: say that n cells are taken
between a and b. The first of them sets the TAT to a + interval at least, each further one adds an interval, and the
last leaves it at b + depth at most. So a + n * interval <= b + depth, and n <= capacity + (b - a) / interval.

This is the only place that says what a `Grant` holds. A store on a server decides there, because only there is it one
step: it answers with what it decided on, the times, and the grants are worked out here.
"""

from collections.abc import Sequence
from typing import Final

from workhorse.contracts import Grant
from workhorse.rate import Quota

__all__ = ["MAX_DEPTH_US", "MAX_QUOTAS", "check_take", "settle", "take_one"]

MAX_QUOTAS: Final = 16
MAX_DEPTH_US: Final = 2**52
"""The deepest counter: 142 years. A time since 1970 and a depth together stay below 2**53, up to which the numbers of
Redis's Lua are exact."""


def check_take(quotas: Sequence[Quota], cost: int) -> None:
    """Refuse what no store can count.

    Raises:
        ValueError: there are no quotas or too many, two have one key, the cost is negative or above a capacity (it
            would never be admitted), or a quota is out of bounds.
    """
    if len(quotas) != 1:
        if not 1 <= len(quotas) <= MAX_QUOTAS:
            raise ValueError(f"{len(quotas)} quotas cannot be taken from at once; give 1 to {MAX_QUOTAS}")
        if len({quota[0] for quota in quotas}) != len(quotas):
            raise ValueError(f"two quotas have one key: {[quota.key for quota in quotas]}; give each limit its own")
    for key, interval_us, capacity in quotas:
        if not 0 <= cost <= capacity:
            raise ValueError(f"a cost of {cost} can never be taken from {key!r}, which holds {capacity} at most")
        if interval_us < 1 or interval_us * capacity > MAX_DEPTH_US:
            raise ValueError(
                f"the counter {key!r} would take {interval_us} us times {capacity} to fill; that is 1 us at least and"
                f" {MAX_DEPTH_US} us at most: lower the burst, or raise the rate"
            )


def take_one(tat_us: int, now_us: int, quota: Quota, cost: int) -> tuple[int, Grant]:
    """Take `cost` cells from one counter.

    Args:
        tat_us: the counter's TAT; anything up to `now_us` is a full counter.
        now_us: the time, by the clock that the TAT is on.
        quota: as `check_take` lets it pass.
        cost: cells to take; 0 only looks.

    Returns:
        The TAT that the counter has then, which is the old one if it was refused, and the grant.
    """
    _, interval_us, capacity = quota
    ahead_us = tat_us - now_us if tat_us > now_us else 0
    after_us = ahead_us + cost * interval_us
    left_us = capacity * interval_us - after_us
    if left_us >= 0:
        return now_us + after_us, Grant(True, left_us // interval_us, 0, after_us)  # noqa: FBT003 - names cost time here
    # A counter whose capacity was lowered may stand further ahead than its depth: then nothing is left.
    remaining = max(0, capacity - -(-ahead_us // interval_us))
    return tat_us, Grant(False, remaining, -left_us, ahead_us)  # noqa: FBT003


def settle(
    tats_us: Sequence[int], now_us: int, quotas: Sequence[Quota], cost: int
) -> tuple[Sequence[int] | None, list[Grant]]:
    """Take `cost` cells from each of several counters, or, if one of them does not admit it, from none.

    Returns:
        The counters' new TATs, or None if nothing was taken; and a grant each.
    """
    taken = [take_one(tat, now_us, quota, cost) for tat, quota in zip(tats_us, quotas, strict=True)]
    grants = [grant for _, grant in taken]
    if all(grant.admitted for grant in grants):
        return [tat for tat, _ in taken], grants
    # Those that would have admitted it were not taken from: they are described as they stand.
    for index, grant in enumerate(grants):
        if grant.admitted:
            grants[index] = take_one(tats_us[index], now_us, quotas[index], 0)[1]
    return None, grants
