"""Caches on real servers: what they leave behind, and what is evicted, forgotten and purged."""

import asyncio
import time
from collections.abc import Iterator
from secrets import token_bytes
from uuid import uuid4

import pytest

from tests.state.cache_kit import TIMEOUT_SECONDS, OwnValkey, postgres_database, redis_client
from tests.state.counters_kit import Place, migrated_place
from workhorse.contracts import CacheEntry, Query
from workhorse.embedded import Attachment
from workhorse.errors import StoreUnavailable
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.redis.cache import RedisCache


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def test_every_key_in_redis_ends_by_itself_and_names_nobody(place: Place) -> None:
    async def main() -> None:
        async with redis_client(place.cache_url) as client:
            prefix = f"{place.prefix}{uuid4()}:"
            store = RedisCache(client, prefix=prefix, timeout_seconds=TIMEOUT_SECONDS)
            await store.set([CacheEntry("alice@example.org", b"x", 60, ("tag of alice",))])
            await store.hold(["bob"], tags=["tag of bob"], token=token_bytes(16), seconds=60)
            await store.claim("carol", ["tag of carol"], token=token_bytes(16), seconds=60)
            keys = await client.execute(["KEYS", prefix + "*"])
            assert len(keys) == 6
            for key in keys:
                assert await client.execute(["PTTL", key]) > 0
                assert not any(name in key for name in (b"alice", b"bob", b"carol"))
            await store.delete(["alice@example.org", "carol"], tags=["tag of alice", "tag of carol"])
            assert len(await client.execute(["KEYS", prefix + "*"])) == 2

    asyncio.run(main())


def test_an_evicted_tag_takes_its_entries_with_it_for_good(place: Place) -> None:
    async def main() -> None:
        async with redis_client(place.cache_url) as client:
            store = RedisCache(client, prefix=place.prefix, timeout_seconds=TIMEOUT_SECONDS)
            key, tag = str(uuid4()), str(uuid4())
            await store.set([CacheEntry(key, b"x", 60, (tag,))])
            await client.execute(["DEL", store._tag(tag)])
            assert await store.get([key]) == [None]
            await store.claim("other", [tag], token=token_bytes(16), seconds=60)  # the tag has a version again
            assert await store.get([key]) == [None]

    asyncio.run(main())


def test_what_another_program_left_in_redis_is_no_entry(place: Place) -> None:
    async def main() -> None:
        async with redis_client(place.cache_url) as client:
            store = RedisCache(client, prefix=place.prefix, timeout_seconds=TIMEOUT_SECONDS)
            key = str(uuid4())
            for data in (b"", b"text", b"\x93\x01\x02\x03"):
                await client.execute(["SET", store._entry(key), data, "PX", 60_000])
                assert await store.get([key]) == [None]
            await client.execute(["DEL", store._entry(key)])
            await client.execute(["HSET", store._entry(key), "field", "value"])
            with pytest.raises(StoreUnavailable):
                await store.get([key])

    asyncio.run(main())


def test_a_server_that_evicts_when_it_is_full_goes_on_serving(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def main() -> None:
        settings = ("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")
        with OwnValkey(tmp_path_factory.mktemp("v"), *settings) as server:
            async with redis_client(server.url) as client:
                store = RedisCache(client, timeout_seconds=TIMEOUT_SECONDS)
                for number in range(200):
                    await store.set([CacheEntry(str(number), b"x" * 100_000, 60, ("tag",))])
                found = await store.get([str(number) for number in range(200)])
                assert found[-1] is not None
                assert sum(hit is not None for hit in found) < 100

    asyncio.run(main())


def test_purging_postgres_goes_through_the_tables_in_bounded_steps(place: Place) -> None:
    async def main() -> None:
        async with postgres_database(place.database_url) as database:
            store = PostgresCache(database, timeout_seconds=TIMEOUT_SECONDS)
            filler = (
                "INSERT INTO workhorse.cache_entries (key, data, ends_at) SELECT gen_random_uuid(), '',"
                " now() + CASE WHEN n %% 2 = 0 THEN interval '1 hour' ELSE interval '-1 hour' END"
                " FROM generate_series(1, 12000) n"
            )
            await database.run(Query(filler))
            tags = (
                "INSERT INTO workhorse.cache_tags (tag, version, made_at) SELECT gen_random_uuid(), 0,"
                " now() - CASE WHEN n %% 2 = 0 THEN interval '1 day' ELSE interval '31 days' END"
                " FROM generate_series(1, 100) n"
            )
            await database.run(Query(tags))
            deleted = [await store.purge() for _ in range(3)]
            assert sum(deleted) == 6_050
            assert max(deleted) < 5_000
            counts = (
                "SELECT (SELECT count(*) FROM workhorse.cache_entries), (SELECT count(*) FROM workhorse.cache_tags)"
            )
            assert await database.run(Query(counts)) == [(6_000, 50)]

    asyncio.run(main())


def test_a_key_that_an_open_transaction_deletes_is_not_waited_for_by_who_misses_or_fills_it(place: Place) -> None:
    async def main() -> None:
        async with postgres_database(place.database_url) as database:
            store = PostgresCache(database, timeout_seconds=TIMEOUT_SECONDS)
            filled, missing, tag = (str(uuid4()) for _ in range(3))
            claiming = await store.claim(filled, (), token=token_bytes(16), seconds=60)
            assert claiming.claim is not None
            transaction, _ = await database.begin()
            await store.delete_within(transaction, [filled, missing], tags=[tag])
            began = time.monotonic()
            assert not await store.fill(CacheEntry(filled, b"old", 60), claiming.claim)
            assert (await store.claim(missing, (), token=token_bytes(16), seconds=60)).held
            assert (await store.claim(str(uuid4()), [tag], token=token_bytes(16), seconds=60)).held
            assert time.monotonic() - began < 3
            await transaction.commit()
            assert (await store.claim(missing, [tag], token=token_bytes(16), seconds=60)).claim is not None

    asyncio.run(main())
