"""From the times of a clock on a wall to instants, across the changes of that clock.

A change skips a part of the day or repeats one: an hour in most places, half an hour on Lord Howe Island, a whole day
where the date line was crossed. What then becomes of a recurring job is told as by Debian's cron (its `cron(8)`):

- A job at set times runs once each day: what falls into the skipped part runs as soon as that is over, what falls into
  the repeated part runs the first time only.
- A job whose minute or hour begins with `*` goes on with real time: nothing in the skipped part, twice in the repeated.

The times on the wall come from a library that knows nothing of zones. (CronSim with a zone steps by whole hours, and so
misses ticks after a change by half of one.)
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Final
from zoneinfo import ZoneInfo

__all__ = ["instants"]

# No clock was ever set by more.
LONGEST_CHANGE: Final = timedelta(days=1)

Wall = Callable[[datetime], Iterator[datetime]]
"""The times on the wall, without a zone, that are later than one."""


def instants(wall: Wall, moment: datetime, zone: ZoneInfo, *, set_times: bool) -> Iterator[datetime]:
    """The instants after `moment`, in order, in UTC, that the clock of a zone shows as times on the wall.

    Args:
        wall: gives the times on the wall.
        moment: an instant.
        zone: whose clock.
        set_times: whether each time counts once (above).
    """
    begin = moment.astimezone(zone).replace(tzinfo=None)
    if zone.utcoffset(begin) != zone.utcoffset(begin + LONGEST_CHANGE):
        begin -= LONGEST_CHANGE  # what is behind on the wall may come again
    latest = moment
    for instant in _in_order(wall(begin), zone, set_times=set_times):
        if instant > latest:
            latest = instant
            yield instant


def _in_order(times: Iterator[datetime], zone: ZoneInfo, *, set_times: bool) -> Iterator[datetime]:
    """Instants in order; those of the skipped part may come several times."""
    again: list[datetime] = []
    """Instants of the second time around."""
    for time in times:
        first, second = (time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first > second:  # skipped
            if not set_times:
                continue
            first = second = _change_between(second, first, zone)
        while again and again[0] < first:
            yield heappop(again)
        yield first
        if second > first and not set_times:
            heappush(again, second)
    yield from sorted(again)


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant of the change between two, to the second."""
    offset = before.astimezone(zone).utcoffset()
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)
