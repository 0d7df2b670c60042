"""Takes that share a round trip to Redis: each is decided as if it had come alone, after those before it."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.state.counters_kit import Place, migrated_place
from workhorse.embedded import Attachment
from workhorse.errors import StoreUnavailable
from workhorse.rate import Quota
from workhorse.state.redis.connection import Script, close_redis, open_redis
from workhorse.state.redis.counters import AT_MOST, RedisCounters

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def over(place: Place, script: Any) -> Any:
    async def main() -> Any:
        client = open_redis(place.cache_url)
        try:
            return await script(RedisCounters(client, prefix=place.prefix), client)
        finally:
            await close_redis(client)

    return asyncio.run(main())


def test_of_many_at_once_on_one_counter_as_many_as_fit_are_admitted(place: Place) -> None:
    async def script(store: RedisCounters, client: Any) -> None:
        quota = Quota(uuid4().hex, HOUR, 10)
        grants = await asyncio.gather(*(store.take((quota,)) for _ in range(3 * AT_MOST)))
        assert sum(grant.admitted for (grant,) in grants) == 10
        assert sorted(grant.remaining for (grant,) in grants if grant.admitted) == list(range(10))

    over(place, script)


def test_a_take_of_several_counters_takes_from_all_or_none_beside_others(place: Place) -> None:
    async def script(store: RedisCounters, client: Any) -> None:
        shared, own = Quota(uuid4().hex, HOUR, 5), [Quota(uuid4().hex, HOUR, 100) for _ in range(20)]
        results = await asyncio.gather(*(store.take((one, shared)) for one in own))
        let_in = [all(grant.admitted for grant in grants) for grants in results]
        assert sum(let_in) == 5
        left = [(await store.take((one,), cost=0))[0].remaining for one in own]
        assert left == [99 if admitted else 100 for admitted in let_in]

    over(place, script)


def test_many_callers_at_once_share_few_round_trips(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[int] = []
    run = Script.run

    async def counted(self: Script, client: Any, keys: Any, numbers: Any, **more: Any) -> Any:
        trips.append(len(keys))
        return await run(self, client, keys, numbers, **more)

    monkeypatch.setattr(Script, "run", counted)

    async def script(store: RedisCounters, client: Any) -> None:
        await asyncio.gather(*(store.take((Quota(uuid4().hex, HOUR, 5),)) for _ in range(200)))

    over(place, script)
    assert sum(trips) == 200
    assert len(trips) <= 4


def test_a_caller_that_leaves_takes_nobody_along(place: Place) -> None:
    async def script(store: RedisCounters, client: Any) -> None:
        tasks = [asyncio.create_task(store.take((Quota(uuid4().hex, HOUR, 5),))) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        assert all(result[0].admitted for result in results[1::2])  # type: ignore[index]
        assert (await store.take((Quota(uuid4().hex, HOUR, 5),)))[0].admitted

    over(place, script)


def test_while_the_server_is_away_each_is_told_so() -> None:
    async def main() -> None:
        client = open_redis("redis://127.0.0.1:1/0")
        try:
            store = RedisCounters(client, timeout_seconds=0.5)
            results = await asyncio.gather(
                *(store.take((Quota(str(number), HOUR, 5),)) for number in range(20)), return_exceptions=True
            )
            assert all(isinstance(result, StoreUnavailable) for result in results)
        finally:
            await close_redis(client)

    asyncio.run(main())
