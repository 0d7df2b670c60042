"""The unit of a request that no `Service` stands around: under Django's test client, and under WSGI.

The request's reply commits or rolls back as it would under a `Service`. What needs the service is not there: no key is
claimed, and nothing is run again.
"""

import asyncio
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from workhorse.contracts import ON_USUAL_TERMS, Database
from workhorse.errors import UnitClosed
from workhorse.units.aftermath import call_after_commit
from workhorse.units.work import Work

__all__ = ["HostedUnit", "LoopThread"]

T = TypeVar("T")

# Each step has bounds of its own; this one is for a loop that does not answer.
SECONDS: Final = 300.0


class LoopThread:
    """An event loop in a thread of its own, begun by its first use: sync code has none, and a unit needs one."""

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="workhorse-unit", daemon=True)
            self._thread.start()
        return self._loop

    def wait_for(self, step: Coroutine[Any, Any, T]) -> T:
        """Have `step` done in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(step, self.loop).result(SECONDS)

    def close(self) -> None:
        """End the loop."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            self._loop = None

    @classmethod
    @contextmanager
    def running(cls) -> "Generator[LoopThread]":
        """A loop for the block, if anything in it asks for one."""
        thread = cls()
        try:
            yield thread
        finally:
            thread.close()


class HostedUnit:
    """Opens and ends the unit of one request (see `units.work.Opener`).

    Args:
        database: where the transaction comes from.
        loop: where the unit lives; a thread for it where nothing runs one.
    """

    __slots__ = ("_database", "_ended", "_loop", "_opening", "_work")

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop | LoopThread) -> None:
        self._database = database
        self._loop = loop
        self._opening = asyncio.Lock()
        self._work: Work | None = None
        self._ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the unit lives in."""
        return self._loop.loop if isinstance(self._loop, LoopThread) else self._loop

    @property
    def opened(self) -> bool:
        """Whether there is anything to end."""
        return self._work is not None

    async def open(self) -> Work:
        """Return the unit, and begin its transaction at the first call.

        Raises:
            UnitClosed: the reply has left the view.
        """
        if self._ended:
            raise UnitClosed("this request's unit has ended with its reply")
        async with self._opening:
            if self._work is None:
                transaction, _ = await self._database.begin(terms=ON_USUAL_TERMS)
                self._work = Work(transaction)
            return self._work

    async def settle(self, status: int) -> None:
        """Commit or roll back, as the status of the reply and the view decide."""
        self._ended = True
        work = self._work
        if work is None:
            return
        if status >= 400 and not work.keeps:
            await work.transaction.rollback()
            return
        try:
            await work.transaction.commit(work.drain())
        except Exception:
            await work.transaction.rollback()  # of no effect where the transaction has ended
            raise
        await call_after_commit(work.callbacks())
