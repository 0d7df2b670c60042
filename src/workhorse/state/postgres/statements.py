"""Single statements by their names, each with a deadline, for the stores that live in the database.

Whatever goes wrong with the server is one thing to those who ask a store: it is away. A statement that lost to another
is tried again, a few times. One whose connection broke may be sent again too, so every statement here has to bear to
be run twice.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from workhorse.contracts import Database, Query
from workhorse.errors import DatabaseUnavailable, StoreUnavailable
from workhorse.sql import Queries

__all__ = ["Statements"]

TRIES: Final = 4


class Statements:
    """The statements of one store.

    Args:
        database: where they run.
        queries: their texts.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, queries: Queries, *, timeout_seconds: float) -> None:
        self._database = database
        self._queries = queries
        self._timeout = timeout_seconds
        self._leaving: set[asyncio.Future[Any]] = set()

    async def run(self, name: str, *params: str | int | bytes | None) -> Sequence[Sequence[Any]]:
        """Run the statement `name`, which commits by itself, and return its rows.

        Raises:
            StoreUnavailable: the server did not answer in time, or kept preferring others.
        """
        running = asyncio.ensure_future(self._persist(Query(self._queries[name], params)))
        try:
            done, _ = await asyncio.wait({running}, timeout=self._timeout)
            if done:
                return running.result()
        finally:
            if not running.done():
                # The driver then asks the server to stop, and waits for that for seconds if the server is silent. So
                # nobody waits for the driver; each of these has a connection of the pool, which bounds them.
                running.cancel()
                self._leaving.add(running)
                running.add_done_callback(self._left)
        raise StoreUnavailable

    async def _persist(self, query: Query) -> Sequence[Sequence[Any]]:
        for left in reversed(range(TRIES)):
            try:
                return await self._database.run(query, repeatable=True)
            except DatabaseUnavailable as error:
                raise StoreUnavailable from error
            except Exception as error:
                conflicted = self._database.conflicted(error)
                if conflicted and left:
                    continue
                if conflicted or self._database.timed_out(error) or self._database.disconnected(error):
                    raise StoreUnavailable from error
                raise
        raise AssertionError("the last try returns or raises")

    def _left(self, running: "asyncio.Future[Any]") -> None:
        self._leaving.discard(running)
        if not running.cancelled():
            running.exception()  # seen: nobody waits for it any more
