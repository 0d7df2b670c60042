"""When API keys were last used: gathered here, and written now and then.

A write a request would cost more than the request's own look-up. So a process that is killed loses what it gathered
since the last write, `every_seconds` at most; one that is stopped writes it before it ends. While the store is away it
is kept.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from workhorse.contracts import ApiKeyStore
from workhorse.telemetry.log import Log

__all__ = ["KeyUses"]

CHUNK: Final = 1_000
CLOSE_SECONDS: Final = 5.0


class KeyUses:
    """The last use of each key, until it is written.

    Args:
        store: gives the store, when there is something to write.
        capacity: of how many keys it is gathered; of further ones it is not noted, until the next write.
        every_seconds: pause between two writes.
    """

    def __init__(self, store: Callable[[], ApiKeyStore], *, capacity: int, every_seconds: float) -> None:
        self._store = store
        self._capacity = capacity
        self._every = every_seconds
        self._gathered: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._log: Log | None = None

    def __len__(self) -> int:
        """Of how many keys something waits to be written."""
        return len(self._gathered)

    def note(self, prefix: str, at: float) -> None:
        """Note that a key was used, `at` seconds since 1970. No I/O."""
        if len(self._gathered) < self._capacity or prefix in self._gathered:
            self._gathered[prefix] = at

    def open(self, log: Log | None = None) -> None:
        """Begin to write now and then. To begin again changes nothing."""
        self._log = log
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="note uses of API keys")

    async def flush(self) -> None:
        """Write what is gathered.

        Raises:
            StoreUnavailable: the store does not answer; it is kept for the next time.
        """
        writing, self._gathered = self._gathered, {}
        try:
            while writing:
                chunk = dict(list(writing.items())[:CHUNK])
                await self._store().note_use(chunk)
                for prefix in chunk:
                    del writing[prefix]
        finally:
            # What could not be written goes back, unless there is something newer, or no room.
            for prefix, at in writing.items():
                if prefix not in self._gathered:
                    self.note(prefix, at)

    async def close(self) -> None:
        """Write what is gathered, for at most five seconds. What cannot be written is lost, and the log says so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others must be closed all the same
            self._failed(error, lost=len(self._gathered))
        self._gathered.clear()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.flush()
            except Exception as error:  # noqa: BLE001 - tried again at the next turn, whatever it was
                self._failed(error, lost=0)

    def _failed(self, error: Exception, *, lost: int) -> None:
        if self._log is not None:
            self._log.event("warning", "api_key.uses_not_noted", exception=error, lost=lost)
