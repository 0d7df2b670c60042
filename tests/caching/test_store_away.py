"""A store that is killed, frozen or gone costs a time-out once, and nothing deleted meanwhile comes back with it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.state.cache_kit import OwnValkey, redis_client
from workhorse.caching import Caches
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import CacheHit
from workhorse.errors import StoreUnavailable
from workhorse.state.memory.cache import MemoryCache
from workhorse.state.redis.cache import RedisCache

TIMEOUT = 0.3


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For sockets, whose paths are limited to about a hundred characters."""
    return tmp_path_factory.mktemp("v")


@asynccontextmanager
async def caches_on(server: OwnValkey, **options: Any) -> AsyncIterator[Caches]:
    async with redis_client(server.url, timeout_seconds=TIMEOUT) as client:
        caches = Caches(RedisCache(client, timeout_seconds=TIMEOUT), **options)
        try:
            yield caches
        finally:
            await caches.close()


async def one() -> int:
    return 1


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_dead_server_costs_a_bounded_time_once_and_is_used_again_when_it_is_back(how: str, folder: Path) -> None:
    events: list[str] = []

    async def main() -> None:
        with OwnValkey(folder) as server:
            async with caches_on(server, report=lambda event, _error: events.append(event)) as caches:
                numbers = caches.open("numbers", int, ttl=60)
                assert await numbers.once("key", one) == 1
                await asyncio.to_thread(server.kill if how == "killed" else server.pause)
                began = time.monotonic()
                assert await numbers.once("key", one) == 1
                first = time.monotonic() - began
                assert first < 4 * TIMEOUT
                # The circuit is open: the next hundred are made at once, but for the probe of half a second later.
                began = time.monotonic()
                for _ in range(100):
                    assert await numbers.once("key", one) == 1
                assert time.monotonic() - began < 4 * TIMEOUT
                assert await numbers.get("key") is None
                assert not await numbers.set("key", 5)
                assert caches.counts.unkept >= 101
                await asyncio.to_thread(server.start if how == "killed" else server.resume)
                async with asyncio.timeout(30):
                    while await numbers.get("back") is None:
                        await numbers.set("back", 1)
                        await asyncio.sleep(0.05)
                assert await numbers.once("key", one) == 1

    asyncio.run(main())
    assert events == ["store_away", "store_back"]


def test_what_is_deleted_while_the_server_is_frozen_does_not_come_back_with_it(folder: Path) -> None:
    async def main() -> None:
        with OwnValkey(folder) as server:
            async with caches_on(server) as caches:
                numbers = caches.open("numbers", int, ttl=60)
                await numbers.set_many({"a": 1, "b": 1}, tags=["t"])
                await numbers.set_many({"c": 1, "d": 1})
                server.pause()
                assert not await numbers.delete("c")
                assert not await caches.invalidate("t")
                server.resume()
                async with asyncio.timeout(30):
                    while await numbers.get("d") is None:
                        await asyncio.sleep(0.05)
                assert await numbers.get_many(["a", "b", "c", "d"]) == {"d": 1}

    asyncio.run(main())


def test_with_the_policy_to_raise_the_failure_is_the_callers(folder: Path) -> None:
    async def main() -> None:
        with OwnValkey(folder) as server:
            async with caches_on(server, away="raise") as caches:
                numbers = caches.open("numbers", int, ttl=60)
                assert await numbers.once("key", one) == 1
                server.kill()
                for call in (
                    numbers.once("key", one),
                    numbers.get("key"),
                    numbers.set("key", 1),
                    numbers.delete("key"),
                ):
                    with pytest.raises(StoreUnavailable):
                        await call
                with pytest.raises(StoreUnavailable):
                    await caches.invalidate("tag")
                server.start()
                async with asyncio.timeout(30):
                    while True:
                        try:
                            assert await numbers.once("key", one) == 1
                        except StoreUnavailable:
                            await asyncio.sleep(0.05)
                        else:
                            break

    asyncio.run(main())


def test_while_the_store_is_away_one_maker_serves_the_whole_process(folder: Path) -> None:
    async def main() -> None:
        with OwnValkey(folder) as server:
            async with caches_on(server) as caches:
                numbers = caches.open("numbers", int, ttl=60)
                server.kill()
                made = 0

                async def slow() -> int:
                    nonlocal made
                    made += 1
                    await asyncio.sleep(0.05)
                    return made

                await numbers.get("key")
                values = await asyncio.gather(*(numbers.once("key", slow) for _ in range(50)))
                assert made <= 3
                assert set(values) <= {1, 2, 3}
                assert caches.counts.shared >= 47

    asyncio.run(main())


class Silent(MemoryCache):
    """Never answers a question."""

    async def get(self, keys: Any) -> list[CacheHit | None]:
        await asyncio.sleep(60)
        return []


def test_a_request_that_has_little_time_waits_no_longer_and_does_not_condemn_the_store() -> None:
    async def main() -> None:
        caches = Caches(Silent())
        numbers = caches.open("numbers", int, ttl=60)
        request = RequestContext()
        request.deadline = time.monotonic() + 0.1
        CURRENT.set(request)
        began = time.monotonic()
        assert await numbers.get("key") is None
        assert time.monotonic() - began < 2
        assert caches.counts.away == 1
        # A deletion is not bounded by the request's time: it has to be done all the same.
        assert await numbers.delete("key")

    asyncio.run(main())


def test_who_waits_for_another_process_waits_no_longer_than_said_and_then_makes_its_own() -> None:
    async def main() -> None:
        store = MemoryCache()
        await store.claim("numbers:1:key", (), token=b"another process!", seconds=60)
        caches = Caches(store)
        numbers = caches.open("numbers", int, ttl=60, waiting=0.2)
        began = time.monotonic()
        assert await numbers.once("key", one) == 1
        assert 0.2 <= time.monotonic() - began < 2
        assert caches.counts.unkept == 1
        assert await numbers.get("key") is None

    asyncio.run(main())


class SlowClaim(MemoryCache):
    """Answers a claim late."""

    async def claim(self, *args: Any, **kwargs: Any) -> Any:
        answer = await super().claim(*args, **kwargs)
        await asyncio.sleep(0.2)
        return answer


class SlowFill(MemoryCache):
    """Takes long before it fills."""

    async def fill(self, *args: Any, **kwargs: Any) -> bool:
        await asyncio.sleep(0.2)
        return await super().fill(*args, **kwargs)


@pytest.mark.parametrize("store", [SlowClaim, SlowFill])
def test_a_claim_of_a_request_that_was_cancelled_is_given_back(store: type[MemoryCache]) -> None:
    async def main() -> None:
        caches = Caches(store())
        numbers = caches.open("numbers", int, ttl=60)
        task = asyncio.create_task(numbers.once("key", one))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await caches.close()
        began = time.monotonic()
        assert await numbers.once("key", one) == 1
        assert time.monotonic() - began < 2
        assert caches.counts.unkept == 0

    asyncio.run(main())
