"""Ends the requests whose time is over: one timer for all requests of a process, instead of one each.

A timer per request would cost every request more than most checks do, to be cancelled by nearly all. Here a request
is one of a list, and a tick looks at all of them ten times a second; so a deadline is kept to within a tenth of a
second. Without requests there are no ticks.
"""

import asyncio
from time import monotonic
from typing import Final, Protocol

__all__ = ["TICK_SECONDS", "Watch", "Watched"]

TICK_SECONDS: Final = 0.1


class Watched(Protocol):
    """What can be ended."""

    over: bool
    """Whether there is nothing left to end."""

    def look(self, now: float) -> None:
        """End it if its time is over. Never raises."""
        ...


class Watch:
    """The requests of one event loop that have a deadline."""

    __slots__ = ("_loop", "_members")

    def __init__(self) -> None:
        self._members: list[Watched] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that ticks; None while none does."""

    def add(self, member: Watched) -> None:
        """Look at `member` from now on, until it is over."""
        self._members.append(member)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The first request, or the first on another loop: that of before ended with its tick.
            self._loop = loop
            loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        now = monotonic()
        # Nobody is taken out when it is over: the next tick leaves it behind, which costs the request nothing.
        self._members = [member for member in self._members if not member.over]
        for member in self._members:
            member.look(now)
        if self._members:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        else:
            self._loop = None
