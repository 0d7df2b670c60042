"""The cache and the leases on a Redis Cluster of three, whose keys lie on different servers."""

import asyncio
import time
from collections.abc import Iterator
from secrets import token_bytes

import pytest

from tests.state.cache_kit import TIMEOUT_SECONDS, OwnValkey, cluster_of_three, free_ports, redis_client
from workhorse.contracts import CacheEntry
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.connection import open_redis, ping_redis
from workhorse.state.redis.lease import RedisLeases

pytestmark = pytest.mark.slow

KEYS = [f"key-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_of_three(tmp_path_factory.mktemp("cluster")) as url:
        yield url


def test_a_cache_works_over_keys_and_tags_of_all_servers(url: str) -> None:
    async def main() -> None:
        async with redis_client(url) as client:
            await ping_redis(client, deadline_seconds=TIMEOUT_SECONDS)
            store = RedisCache(client, timeout_seconds=TIMEOUT_SECONDS)
            tags = [f"tag-{number}" for number in range(8)]
            for place, key in enumerate(KEYS):
                answer = await store.claim(key, tags[place % 8 :], token=token_bytes(16), seconds=60)
                assert answer.claim is not None
                assert await store.fill(CacheEntry(key, key.encode(), 60), answer.claim)
            assert [hit and hit.data for hit in await store.get(KEYS)] == [key.encode() for key in KEYS]
            await store.delete(KEYS[:3], tags=tags[:4])
            alive = [hit is not None for hit in await store.get(KEYS)]
            assert alive == [place > 2 and place % 8 > 3 for place in range(40)]
            await store.set([CacheEntry(key, b"x", 60, (tags[0],)) for key in KEYS])
            assert all(await store.get(KEYS))
            token = token_bytes(16)
            await store.hold(KEYS, tags=tags, token=token, seconds=60)
            assert not any(await store.get(KEYS))
            assert (await store.claim(KEYS[0], (), token=token_bytes(16), seconds=60)).held
            assert (await store.claim("other", tags[:1], token=token_bytes(16), seconds=60)).held
            await store.delete(KEYS, tags=tags, token=token)
            assert (await store.claim(KEYS[0], tags, token=token_bytes(16), seconds=60)).claim is not None

    asyncio.run(main())


def test_leases_work_on_all_servers(url: str) -> None:
    async def main() -> None:
        async with redis_client(url) as client:
            store = RedisLeases(client, timeout_seconds=TIMEOUT_SECONDS)
            for name in KEYS[:12]:
                first, second = token_bytes(16), token_bytes(16)
                token = (await store.acquire(name, first, seconds=60)).token
                assert token > 0
                assert (await store.acquire(name, second, seconds=60)).token == 0
                assert await store.renew(name, first, seconds=60)
                assert await store.release(name, first)
                assert (await store.acquire(name, second, seconds=60)).token > token

    asyncio.run(main())


def test_a_malformed_url_of_a_cluster_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="the cache's URL is malformed") as caught:
        open_redis("redis+cluster://user:secret@host:port")
    assert "secret" not in str(caught.value)


def test_a_cluster_that_is_not_there_is_away_in_time() -> None:
    async def main() -> None:
        async with redis_client(f"redis+cluster://127.0.0.1:{free_ports(1)[0]}", timeout_seconds=0.3) as client:
            store = RedisCache(client, timeout_seconds=0.3)
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.get(["key"])
                with pytest.raises(StoreUnavailable):
                    await ping_redis(client, deadline_seconds=0.3)
            assert time.monotonic() - began < 4

    asyncio.run(main())


def test_a_server_that_is_no_cluster_counts_as_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def main() -> None:
        port = free_ports(1)[0]
        with OwnValkey(tmp_path_factory.mktemp("v"), "--port", str(port)):
            async with redis_client(f"redis+cluster://127.0.0.1:{port}") as client:
                with pytest.raises(StoreUnavailable):
                    await RedisCache(client, timeout_seconds=TIMEOUT_SECONDS).get(["key"])

    asyncio.run(main())
