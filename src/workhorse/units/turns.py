"""Requests with the same Idempotency-Key wait for each other inside the process, before they take a connection.

The database would make them wait as well, and across processes it does. But there each waiter holds a connection,
and a client that sends one key a hundred times at once would take them all.
"""

import asyncio
from uuid import UUID

from workhorse.units.idempotency import KeyInFlight

__all__ = ["Turn", "Turns"]


class Turns:
    """At most one holder per key. Bounded by the requests that the server admits: each holds or awaits one turn."""

    def __init__(self, *, wait_seconds: float) -> None:
        self._wait = wait_seconds
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    async def take(self, key: UUID) -> "Turn":
        """Wait for the turn of `key`. Whoever gets it ends it.

        Raises:
            KeyInFlight: the holder took longer than the wait.
        """
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with asyncio.timeout(self._wait if users else None):
                await lock.acquire()
        except TimeoutError:
            self._leave(key)
            raise KeyInFlight from None
        except BaseException:
            self._leave(key)
            raise
        return Turn(self, key)

    def end(self, key: UUID) -> None:
        """Let the next one have its turn."""
        self._locks[key][0].release()
        self._leave(key)

    def _leave(self, key: UUID) -> None:
        lock, users = self._locks[key]
        if users == 1:
            del self._locks[key]
        else:
            self._locks[key] = (lock, users - 1)


class Turn:
    """The right to run the request with one key. Ended once its outcome stands, which may be before the app returns."""

    __slots__ = ("_ended", "_key", "_turns")

    def __init__(self, turns: Turns, key: UUID) -> None:
        self._turns = turns
        self._key = key
        self._ended = False

    def end(self) -> None:
        """Let the next one have its turn. To end it again changes nothing."""
        if not self._ended:
            self._ended = True
            self._turns.end(self._key)
