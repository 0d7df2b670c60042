"""Counts the crash points that go by on the wire, and pulls at the chosen one."""

import asyncio
from collections.abc import Callable
from typing import Final

from workhorse.testing.conversation import Moment, MomentKind, RoundTrip
from workhorse.testing.crash.history import Point
from workhorse.testing.faults import Cut

__all__ = ["Trigger"]

# How long a reply that is sent too early has, to reach the client before the kill.
GRACE_SECONDS: Final = 0.1
MAX_SEEN: Final = 10_000


class Trigger:
    """A watcher of a fault proxy (`proxy.Watcher`).

    Args:
        at: the number of the point, from 1; None: only count.
        thorough: count also the moments that leave no more behind than their neighbours.
    """

    def __init__(self, *, at: int | None, thorough: bool = False) -> None:
        self._thorough = thorough
        self._pull: Callable[[], None] = lambda: None
        self._at = at
        self._armed = False
        self._seen: list[tuple[MomentKind, RoundTrip]] = []
        self._trips: list[RoundTrip] = []
        self.holding = False
        """Whether the point is reached and the pull about to come."""
        self.pulled = False

    def arm(self, pull: Callable[[], None]) -> None:
        """Count from now on, and call `pull` at the point."""
        self._pull, self._armed = pull, True

    def disarm(self) -> None:
        """Let everything pass."""
        self._armed = False

    def points(self) -> list[Point]:
        """What has gone by. A round trip's statements are known once it is over."""
        return [
            Point(number, kind, self._trips.index(trip) + 1, tuple(trip.statements))
            for number, (kind, trip) in enumerate(self._seen, start=1)
        ]

    async def __call__(self, moment: Moment) -> Cut | None:
        """Take a moment; cut at the point and ever after, until disarmed."""
        if not self._armed:
            return None
        if self.pulled:
            return Cut.BEFORE
        trip = moment.trip
        if trip is None or not is_point(moment, thorough=self._thorough) or len(self._seen) >= MAX_SEEN:
            return None
        if not any(trip is known for known in self._trips):
            self._trips.append(trip)
        self._seen.append((moment.kind, trip))
        if len(self._seen) != self._at:
            return None
        self.holding = True
        await asyncio.sleep(GRACE_SECONDS)
        self._pull()
        self.pulled = True
        self.holding = False
        return Cut.BEFORE


def is_point(moment: Moment, *, thorough: bool) -> bool:
    """Whether a kill there can leave something else behind than one at the moments beside it.

    What was done in a transaction that is still open is undone, as if it had not been sent. So is what precedes the
    one COMMIT of a round trip: a kill right before it leaves behind what one before the round trip does.
    """
    match moment.kind:
        case MomentKind.ROUND_TRIP_SENT:
            return True
        case MomentKind.ROUND_TRIP_ANSWERED:
            return thorough or moment.idle
        case MomentKind.COMMIT_SENT:
            return thorough or (moment.trip is not None and moment.trip.commits > 1)
        case _:
            return False
