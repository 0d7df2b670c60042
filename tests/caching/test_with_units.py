"""A value that is deleted with a unit is gone with its commit: no old row is kept, whatever reads meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.state.cache_kit import TIMEOUT_SECONDS, opened_cache, postgres_database
from tests.state.counters_kit import Place, migrated_place
from workhorse.caching import Cache, Caches, Near
from workhorse.contracts import Query, Transaction
from workhorse.embedded import Attachment
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.postgres.database import PostgresDatabase

# Where the values are; `within` is the units' own Postgres, in their transaction.
PLACES = ("memory", "redis", "postgres", "within")


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


class Unit:
    """A transaction, and what is called after its commit; as `workhorse.units` has them."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._callbacks: list[Callable[[], Awaitable[object]]] = []

    async def execute(self, sql: str, params: Any = ()) -> Any:
        return await self._transaction.execute(sql, params)

    def after_commit(self, callback: Callable[[], Awaitable[object]]) -> None:
        self._callbacks.append(callback)

    async def commit(self, *, dies: bool = False) -> None:
        await self._transaction.commit()
        for callback in [] if dies else self._callbacks:
            await callback()

    async def rollback(self) -> None:
        await self._transaction.rollback()


class World:
    """A row in a database, and a cache of it."""

    def __init__(self, database: PostgresDatabase, caches: Caches) -> None:
        self.database = database
        self.caches = caches
        self.key = f"row {uuid4()}"
        self.cache: Cache[int] = caches.open("rows", int, ttl=600, early=0, waiting=0.1)

    async def begin(self) -> Unit:
        transaction, _ = await self.database.begin()
        return Unit(transaction)

    async def read(self) -> int:
        rows = await self.database.run(Query("SELECT value FROM rows WHERE key = %s", (self.key,)))
        return int(rows[0][0])

    async def cached(self) -> int:
        return await self.cache.once(self.key, self.read, tags=[f"tag {self.key}"])

    async def write(self, work: Unit, value: int, *, by: str) -> None:
        await work.execute("UPDATE rows SET value = %s WHERE key = %s", (value, self.key))
        if by == "tag":
            await self.caches.invalidate_with(work, f"tag {self.key}")
        else:
            await self.cache.delete_with(work, self.key)


@asynccontextmanager
async def opened(where: str, place: Place, **options: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(postgres_database(place.database_url))
        await database.run(Query("CREATE TABLE IF NOT EXISTS rows (key text PRIMARY KEY, value int)"))
        if where == "within":
            caches = Caches(PostgresCache(database, timeout_seconds=TIMEOUT_SECONDS), within_units=True, **options)
        else:
            caches = Caches(await stack.enter_async_context(opened_cache(where, place)), **options)
        stack.push_async_callback(caches.close)
        world = World(database, caches)
        await database.run(Query("INSERT INTO rows VALUES (%s, 1)", (world.key,)))
        yield world


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("by", ["key", "tag"])
@pytest.mark.parametrize("before", ["cold", "warm"])
def test_what_others_read_before_the_commit_is_not_kept_after_it(
    where: str, place: Place, by: str, before: str
) -> None:
    async def main() -> None:
        async with opened(where, place) as world:
            if before == "warm":
                assert await world.cached() == 1
            slow_reader = world.caches.open("slow", int, ttl=600, early=0)
            reading, go_on = asyncio.Event(), asyncio.Event()

            async def read_slowly() -> int:
                value = await world.read()
                reading.set()
                await go_on.wait()
                return value

            early = asyncio.create_task(slow_reader.once(world.key, read_slowly, tags=[f"tag {world.key}"]))
            await reading.wait()
            work = await world.begin()
            await world.write(work, 2, by=by)
            if by == "key":
                await slow_reader.delete_with(work, world.key)
            # Others read the old row now, as they must; it may be used, and it may be kept until the commit at most.
            assert [await world.cached() for _ in range(2)] == [1, 1]
            await work.commit()
            go_on.set()
            assert await early == 1
            assert await world.cached() == 2
            assert await slow_reader.once(world.key, world.read, tags=[f"tag {world.key}"]) == 2
            # And now it is kept.
            await world.database.run(Query("UPDATE rows SET value = 3 WHERE key = %s", (world.key,)))
            assert await world.cached() == 2

    asyncio.run(main())


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("by", ["key", "tag"])
def test_a_process_that_dies_after_the_commit_leaves_no_old_value(where: str, place: Place, by: str) -> None:
    async def main() -> None:
        async with opened(where, place) as world:
            assert await world.cached() == 1
            work = await world.begin()
            await world.write(work, 2, by=by)
            await world.cached()
            await work.commit(dies=True)
            assert await world.cached() == 2

    asyncio.run(main())


@pytest.mark.parametrize("where", PLACES)
def test_after_a_rollback_the_value_is_what_it_was(where: str, place: Place) -> None:
    async def main() -> None:
        async with opened(where, place) as world:
            assert await world.cached() == 1
            work = await world.begin()
            await world.write(work, 2, by="key")
            await work.rollback()
            assert await world.cached() == 1

    asyncio.run(main())


def test_within_units_a_rollback_leaves_the_entry_where_it_was(place: Place) -> None:
    async def main() -> None:
        async with opened("within", place) as world:
            assert await world.cached() == 1
            work = await world.begin()
            await world.write(work, 2, by="key")
            await world.caches.invalidate_with(work, f"tag {world.key}")
            await work.rollback()
            assert await world.cache.get(world.key) == 1

    asyncio.run(main())


def test_readers_of_a_key_that_a_long_unit_deletes_neither_wait_for_it_nor_take_the_store_for_dead(
    place: Place,
) -> None:
    async def main() -> None:
        async with opened("within", place) as world:
            work = await world.begin()
            await world.write(work, 2, by="key")
            async with asyncio.timeout(20):
                assert [await world.cached() for _ in range(5)] == [1] * 5
            assert world.caches.counts.away == 0
            await work.commit()
            assert await world.cached() == 2

    asyncio.run(main())


@pytest.mark.parametrize("where", ["redis", "within"])
def test_near_values_of_this_process_go_with_the_commit_too(where: str, place: Place) -> None:
    async def main() -> None:
        async with opened(where, place, near=Near(seconds=60)) as world:
            assert [await world.cached() for _ in range(2)] == [1, 1]
            assert await world.cache.get(world.key) == 1
            work = await world.begin()
            await world.write(work, 2, by="key")
            await world.cached()
            await work.commit()
            assert await world.cached() == 2

    asyncio.run(main())
