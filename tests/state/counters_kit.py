"""What the tests of the counters share: the stores by name, a wire that can be cut, and a process that hammers."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

from workhorse.contracts import CounterStore, Exactness, Grant
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.errors import StoreUnavailable
from workhorse.migrations import WORKHORSE
from workhorse.rate import Quota
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.redis.connection import close_redis, open_redis
from workhorse.state.redis.counters import RedisCounters

SHARED_BACKENDS = ("redis", "postgres", "lending-over-redis", "lending-over-postgres")
BACKENDS = ("memory", *SHARED_BACKENDS)


class Place(NamedTuple):
    """Where the servers of a test are."""

    cache_url: str
    database_url: str
    prefix: str


@contextmanager
def migrated_place(servers: Attachment) -> Iterator[Place]:
    url = fresh_database(servers.database_url)
    asyncio.run(apply_migrations(url, [WORKHORSE]))
    yield Place(servers.cache_url, url, f"test:{uuid4().hex}:")
    drop_database(url)


@asynccontextmanager
async def opened(backend: str, place: Place) -> AsyncIterator[CounterStore]:
    if backend == "memory":
        yield MemoryCounters()
        return
    lending = backend.startswith("lending-over-")
    async with _opened_shared(backend.removeprefix("lending-over-"), place) as store:
        yield LendingCounters(store) if lending else store


@asynccontextmanager
async def _opened_shared(backend: str, place: Place) -> AsyncIterator[CounterStore]:
    if backend == "redis":
        client = open_redis(place.cache_url)
        try:
            yield RedisCounters(client, prefix=place.prefix)
        finally:
            await close_redis(client)
    else:
        database = PostgresDatabase(place.database_url, pool_max=8)
        await database.open()
        try:
            yield PostgresCounters(database)
        finally:
            await database.close()


class VirtualTime:
    """A clock that a test moves."""

    def __init__(self, start_us: int = 10**12) -> None:
        self.now_us = start_us

    def __call__(self) -> int:
        return self.now_us


class Watched:
    """A store of this process that counts as shared, notes when it decides, and takes its time on both ways."""

    exactness = Exactness.SHARED

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.there_us = self.back_us = 0
        self.pause_seconds = 0.0
        self.decided: list[int] = []
        self.questions: list[tuple[Sequence[Quota], int]] = []
        self.away = False
        self.store = MemoryCounters(clock=time)

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        self.questions.append((quotas, cost))
        await asyncio.sleep(self.pause_seconds)
        if self.away:
            raise StoreUnavailable
        self.time.now_us += self.there_us
        self.decided.append(self.time.now_us)
        grants = await self.store.take(quotas, cost=cost)
        self.time.now_us += self.back_us
        return grants

    async def forget(self, keys: Sequence[str]) -> None:
        await self.store.forget(keys)


def worst_excess_us(uses: Sequence[tuple[int, int]], quota: Quota) -> int:
    """By how much the law is broken at worst: above 0 it is. `uses` are times in microseconds, and cells.

    The law: of any two uses, the cells from the one to the other times the interval are no more than the time between
    them and the depth. Checked for all pairs at once, as a leaky bucket's level.
    """
    depth_us = quota.capacity * quota.interval_us
    ordered = sorted(uses)
    level_us = worst = 0
    for (before, _), (at, cells) in pairwise([(ordered[0][0], 0), *ordered] if ordered else []):
        level_us = max(0, level_us - (at - before)) + cells * quota.interval_us
        worst = max(worst, level_us - depth_us)
    return worst


class Wire:
    """A real socket between a client and a server, which can fall silent or be cut."""

    def __init__(self, target: Path, path: Path) -> None:
        self._target = target
        self._path = path
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    def silence(self) -> None:
        """Take whatever comes, and pass nothing on."""
        self._flowing.clear()

    async def cut(self) -> None:
        """End the connections that there are. New ones are taken."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))
        except (asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError


async def hammer(backend: str, place: Place, quota: Quota, seconds: float) -> dict[str, Any]:
    """Take as fast as possible from one counter, eight at a time."""
    admitted = 0
    async with opened(backend, place) as store:
        began = time.monotonic()

        async def strike() -> None:
            nonlocal admitted
            while time.monotonic() - began < seconds:
                (grant,) = await store.take((quota,))
                admitted += grant.admitted

        await asyncio.gather(*(strike() for _ in range(8)))
        return {"admitted": admitted, "began": began, "ended": time.monotonic()}


if __name__ == "__main__":
    backend, place, quota, seconds = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(asyncio.run(hammer(backend, Place(*place), Quota(*quota), seconds))))
