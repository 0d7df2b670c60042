"""Ends the requests whose time is over: one timer for all requests of a process, instead of one each.

A timer per request would cost every request more than most checks do, to be cancelled by nearly all. Here a request
is one of a set, and a tick looks at all of them ten times a second; so a deadline is kept to within a tenth of a
second. Without requests there are no ticks. A request leaves the set as soon as its time can end nothing any more: were
it left to the next tick, all that it holds would outlive it, and each request would be served in memory that no cache
knows.
"""

import asyncio
from time import monotonic
from typing import Final, Protocol

__all__ = ["TICK_SECONDS", "Waiter", "Watch", "Watched"]

TICK_SECONDS: Final = 0.1
SOON_SECONDS: Final = 0.01
"""How long a client may be waited for by a request that keeps its place. An app that only looks whether its client is
still there gives up sooner; one that waits for a slow body does not."""


class Watched(Protocol):
    """What can be ended."""

    def look(self, now: float) -> None:
        """End it if its time is over. Never raises."""
        ...


class Waiter(Protocol):
    """What may wait for its client."""

    def stand_aside(self) -> None:
        """Give the place to others, if it does wait. Never raises."""
        ...


class Watch:
    """The requests of one event loop that have a deadline."""

    __slots__ = ("_loop", "_members", "_room_loop", "_waiters")

    def __init__(self) -> None:
        self._members: set[Watched] = set()
        self._waiters: set[Waiter] = set()
        self._room_loop: asyncio.AbstractEventLoop | None = None
        """The loop on which room will be made; None while nobody waits."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that ticks; None while none does."""

    def add(self, member: Watched) -> None:
        """Look at `member` from now on."""
        self._members.add(member)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The first request, or the first on another loop: that of before ended with its tick.
            self._loop = loop
            loop.call_later(TICK_SECONDS, self._tick)

    def discard(self, member: Watched) -> None:
        """Look at `member` no more."""
        self._members.discard(member)

    def soon(self, waiter: Waiter) -> None:
        """Make `waiter` stand aside soon, if it still waits then."""
        self._waiters.add(waiter)
        loop = asyncio.get_running_loop()
        if loop is not self._room_loop:
            self._room_loop = loop
            loop.call_later(SOON_SECONDS, self._make_room)

    def no_more(self, waiter: Waiter) -> None:
        """It waits no more."""
        self._waiters.discard(waiter)

    def _make_room(self) -> None:
        self._room_loop = None
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.stand_aside()

    def _tick(self) -> None:
        now = monotonic()
        for member in tuple(self._members):
            member.look(now)
        if self._members:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        else:
            self._loop = None
