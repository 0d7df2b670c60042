"""Requests with the same Idempotency-Key wait for each other inside the process, before they take a connection.

The database would make them wait as well, and across processes it does. But there each waiter holds a connection,
and a client that sends one key a hundred times at once would take them all.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from workhorse.units.idempotency import KeyInFlight

__all__ = ["Turns"]


class Turns:
    """At most one holder per key. Bounded by the requests that the server admits: each holds or awaits one turn."""

    def __init__(self, *, wait_seconds: float) -> None:
        self._wait = wait_seconds
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def take(self, key: UUID) -> AsyncGenerator[None]:
        """Wait for the turn of `key` and hold it.

        Raises:
            KeyInFlight: the holder took longer than the wait.
        """
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout(self._wait if users else None):
                    await lock.acquire()
            except TimeoutError:
                raise KeyInFlight from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
