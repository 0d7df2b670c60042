"""Rate limits counted in Postgres: one function call, in one round trip and one transaction, by the server's clock.

The function (migration 0002) locks the counters' rows, decides, and answers with the times on which it decided; what
they mean is worked out here (`state.gcra`). A counter's key in the table is a digest of the store's: of one size,
free of what a client may have put into it, and of its address or name.

What the promise rests on:

- The table is unlogged. A crash of the server empties it, a replica never has it: after a crash or a failover each
  counter is full, and up to one capacity per key is admitted again. A clean restart keeps it.
- The server's clock is a wall clock. Set back, it makes callers wait longer; set forward, it fills counters early.
- One row per key: takes of one counter run one after the other, each for about as long as a short statement.
- The isolation level READ COMMITTED, which is the default. Under a stricter one, takes of one counter at the same time
  fail and are tried again, a few times.
"""

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from workhorse.contracts import Database, Exactness, Grant, Query
from workhorse.errors import DatabaseUnavailable, StoreUnavailable
from workhorse.rate import Quota
from workhorse.sql import load_queries
from workhorse.state.gcra import check_take, settle

__all__ = ["PostgresCounters"]

TRIES: Final = 4
START: Final = UUID(int=0)


class PostgresCounters:
    """A `contracts.CounterStore` that all processes with the same database share.

    A take whose connection broke is sent once more, and may then have been taken twice: a caller is refused early,
    never admitted too often.

    Args:
        database: where migration 0002 has been applied. It should be the primary: a replica has no such table.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, *, timeout_seconds: float = 2.0) -> None:
        self._database = database
        self._timeout = timeout_seconds
        self._sql = load_queries("workhorse.state.postgres", "sql/counters.sql")
        self._purged = START
        self._leaving: set[asyncio.Future[Any]] = set()

    @property
    def exactness(self) -> Exactness:
        """Over all processes."""
        return Exactness.SHARED

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none, in one round trip.

        Raises:
            StoreUnavailable: the server did not answer in time.
            ValueError: see `gcra.check_take`.
        """
        check_take(quotas, cost)
        keys = [digest(quota.key) for quota in quotas]
        if cost == 0:
            (row,) = await self._run("look", array(keys))
            return settle(row[1], row[0], quotas, 0)[1]
        # The function wants the keys in order, and answers in that order.
        order = sorted(range(len(keys)), key=keys.__getitem__)
        (row,) = await self._run(
            "take",
            array(keys[place] for place in order),
            array(cost * quotas[place].interval_us for place in order),
            array(quotas[place].capacity * quotas[place].interval_us for place in order),
        )
        now_us, sorted_tats = row
        tats_us = [0] * len(keys)
        for place, tat_us in zip(order, sorted_tats, strict=True):
            tats_us[place] = tat_us
        return settle(tats_us, now_us, quotas, cost)[1]

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        if keys:
            await self._run("forget", array(map(digest, keys)))

    async def purge(self) -> int:
        """Delete counters that are full again, of 5,000 that are looked at. Returns how many it deleted.

        Each call goes on where the last one ended, and after the last counter begins anew: called once a minute, it
        keeps up with 80 new keys a second.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        ((deleted, last),) = await self._run("purge", str(self._purged))
        self._purged = last or START
        return int(deleted)

    async def _run(self, name: str, *params: str) -> Sequence[Sequence[Any]]:
        running = asyncio.ensure_future(self._persist(Query(self._sql[name], params)))
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


def digest(key: str) -> UUID:
    """The key as the table has it. A key may hold what a client sent, half a surrogate pair included."""
    return UUID(bytes=blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def array(values: Iterable[UUID | int]) -> str:
    """An array of numbers or UUIDs as Postgres reads it, which needs no quotes in there."""
    return "{" + ",".join(map(str, values)) + "}"
