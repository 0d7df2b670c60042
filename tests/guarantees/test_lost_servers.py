"""What a server still knows after a kill -9: Postgres whatever is logged, a Valkey that keeps no file nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from secrets import token_bytes, token_hex
from typing import NamedTuple

import pytest

from tests.guarantees.pair import Node
from tests.state.cache_kit import OwnValkey, redis_client
from workhorse.contracts import (
    ApiKeyRecord,
    CacheEntry,
    CacheStore,
    CounterStore,
    LeaseStore,
    SessionRecord,
    SessionStore,
)
from workhorse.jobs import job
from workhorse.migrations import WORKHORSE
from workhorse.rate import Quota
from workhorse.state.postgres.api_keys import PostgresApiKeys
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.lease import PostgresLeases
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.postgres.sessions import PostgresSessions
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.counters import RedisCounters
from workhorse.state.redis.lease import RedisLeases
from workhorse.state.redis.sessions import RedisSessions
from workhorse.units import Unit

# Two at once, and then one an hour.
QUOTA = Quota("caller", 3_600_000_000, 2)
LEASE_SECONDS = 600.0


class Stores(NamedTuple):
    """What a service keeps beside its rows."""

    counters: CounterStore
    sessions: SessionStore
    cache: CacheStore
    leases: LeaseStore


class Kept(NamedTuple):
    """What was written before the kill."""

    session: SessionRecord
    holder: bytes
    token: int


class Known(NamedTuple):
    """What is left of it."""

    limit: bool
    session: bool
    cached: bool
    lease: bool


async def write(stores: Stores) -> Kept:
    now = time.time()
    session = SessionRecord(
        token_bytes(32), token_hex(8), "alice", now, now, now + 43_200, 1800, grants=b"g", data=b"d", version=0
    )
    await stores.sessions.insert(session)
    assert [(await stores.counters.take([QUOTA]))[0].admitted for _ in range(3)] == [True, True, False]
    await stores.cache.set([CacheEntry("price", b"100", 600.0)])
    holder = token_bytes(16)
    lease = await stores.leases.acquire("books", holder, seconds=LEASE_SECONDS)
    assert lease.token > 0
    return Kept(session, holder, lease.token)


async def look(stores: Stores, kept: Kept) -> Known:
    (grant,) = await stores.counters.take([QUOTA], cost=0)
    session = await stores.sessions.find(kept.session.digest, now=time.time())
    (hit,) = await stores.cache.get(["price"])
    other = await stores.leases.acquire("books", token_bytes(16), seconds=LEASE_SECONDS)
    assert other.token == 0 or other.token > kept.token, "a token that is not larger would pass the fence"
    return Known(
        limit=grant.remaining < QUOTA.capacity,
        session=session is not None,
        cached=hit is not None,
        lease=not other.token,
    )


@asynccontextmanager
async def on_postgres(url: str) -> AsyncGenerator[tuple[PostgresDatabase, Stores]]:
    database = PostgresDatabase(url)
    await database.open()
    try:
        yield (
            database,
            Stores(
                PostgresCounters(database),
                PostgresSessions(database),
                PostgresCache(database),
                PostgresLeases(database),
            ),
        )
    finally:
        await database.close()


@asynccontextmanager
async def on_valkey(url: str) -> AsyncGenerator[Stores]:
    async with redis_client(url) as client:
        yield Stores(RedisCounters(client), RedisSessions(client), RedisCache(client), RedisLeases(client))


@pytest.mark.slow
def test_postgres_keeps_rows_events_jobs_sessions_keys_and_leases_over_a_kill_and_forgets_limits_and_cached_values(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @job()
    async def ship(item: str) -> None: ...

    now = time.time()
    api_key = ApiKeyRecord("wh_prefix", token_bytes(32), "alice", "ci", ("read",), "", now, None, None, None)

    async def before(url: str) -> Kept:
        await apply_migrations(url, [WORKHORSE])
        async with on_postgres(url) as (database, stores):
            async with Unit(database) as work:
                await work.execute("CREATE TABLE orders (item text)")
                await work.execute("INSERT INTO orders VALUES ('chair')")
                await work.emit("order.placed", subject="chair")
                await ship.enqueue("chair")
            assert await PostgresApiKeys(database).insert(api_key)
            return await write(stores)

    async def after(url: str, kept: Kept) -> Known:
        async with on_postgres(url) as (database, stores):
            found = await PostgresApiKeys(database).find(api_key.prefix)
            assert found is not None
            assert found.digest == api_key.digest
            return await look(stores, kept)

    node = Node(tmp_path_factory.mktemp("lost") / "p")
    try:
        node.make()
        node.start()
        kept = asyncio.run(before(node.url))
        node.kill()
        node.start()
        assert node.ask("SELECT item FROM orders") == [("chair",)]
        assert node.ask("SELECT type FROM workhorse.events") == [("order.placed",)]
        assert node.ask("SELECT name FROM workhorse.jobs") == [("ship",)]
        assert asyncio.run(after(node.url, kept)) == Known(limit=False, session=True, cached=False, lease=True)
    finally:
        node.kill()


FILELESS: Sequence[str] = ()
LOGGED: Sequence[str] = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (FILELESS, Known(limit=False, session=False, cached=False, lease=False)),
        (LOGGED, Known(limit=True, session=True, cached=True, lease=True)),
    ],
    ids=["without a file everything is forgotten", "with an append-only file nothing is"],
)
def test_what_valkey_knows_after_a_kill_is_what_its_file_has(
    settings: Sequence[str], expected: Known, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def played(server: OwnValkey) -> Known:
        async def before() -> Kept:
            async with on_valkey(server.url) as stores:
                return await write(stores)

        async def after(kept: Kept) -> Known:
            async with on_valkey(server.url) as stores:
                return await look(stores, kept)

        kept = asyncio.run(before())
        server.kill()
        server.start()
        return asyncio.run(after(kept))

    with OwnValkey(tmp_path_factory.mktemp("v"), *settings) as server:
        assert played(server) == expected
