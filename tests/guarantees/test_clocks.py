"""Whose clock decides: that of the server which keeps a thing, so that no process's own clock can undo a promise."""

import asyncio
import time

import pytest
from fastapi import FastAPI

from tests.asgi_client import call
from tests.guarantees.conftest import Sql
from tests.state.cache_kit import BACKENDS, opened_cache, opened_leases
from tests.state.counters_kit import Place, migrated_place, opened
from workhorse import Policy, UnitLayer, unit
from workhorse.contracts import CacheEntry
from workhorse.embedded import Attachment
from workhorse.policy import PolicyTable
from workhorse.rate import Quota
from workhorse.state.postgres.database import PostgresDatabase

YEARS = 10 * 365 * 86_400
QUOTA = Quota("caller", 3_600_000_000, 2)


class Clock:
    """The wall clock of this process, which a test sets."""

    def __init__(self) -> None:
        self.ahead = 0
        self._time, self._time_ns = time.time, time.time_ns

    def time(self) -> float:
        return self._time() + self.ahead

    def time_ns(self) -> int:
        return self._time_ns() + self.ahead * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock.time)
    monkeypatch.setattr("time.time_ns", clock.time_ns)
    return clock


@pytest.mark.parametrize("ahead", [YEARS, -YEARS], ids=["years ahead", "years behind"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_whose_clock_is_set_neither_frees_limits_and_leases_nor_ends_cached_values(
    backend: str, ahead: int, clock: Clock, servers: Attachment
) -> None:
    async def main(place: Place) -> None:
        async with (
            opened(backend, place) as counters,
            opened_cache(backend, place) as cache,
            opened_leases(backend, place) as leases,
        ):
            assert [(await counters.take([QUOTA]))[0].admitted for _ in range(3)] == [True, True, False]
            await cache.set([CacheEntry("price", b"100", 600.0)])
            first = await leases.acquire("books", b"a" * 16, seconds=600.0)
            clock.ahead = ahead
            assert not (await counters.take([QUOTA]))[0].admitted
            assert (await cache.get(["price"]))[0] is not None
            assert (await leases.acquire("books", b"b" * 16, seconds=600.0)).token == 0
            assert await leases.release("books", b"a" * 16)
            assert (await leases.acquire("books", b"b" * 16, seconds=600.0)).token > first.token

    with migrated_place(servers) as place:
        asyncio.run(main(place))


@pytest.mark.parametrize("ahead", [YEARS, -YEARS], ids=["years ahead", "years behind"])
def test_a_process_whose_clock_is_set_replays_a_kept_reply_all_the_same(
    ahead: int, clock: Clock, url: str, sql: Sql
) -> None:
    app = FastAPI()

    @app.post("/orders")
    async def order() -> None:
        await (await unit()).execute("INSERT INTO orders (item) VALUES ('chair')")

    async def main() -> str | None:
        database = PostgresDatabase(url)
        await database.open()
        layer = UnitLayer(app, database, policies=PolicyTable([Policy("POST /orders", idempotent=True)]))
        keyed = [("idempotency-key", "k")]
        assert (await call(layer, "POST", "/orders", headers=keyed)).status == 200
        clock.ahead = ahead
        again = await call(layer, "POST", "/orders", headers=keyed)
        await database.close()
        return again.header("idempotent-replayed")

    assert asyncio.run(main()) == "true"
    assert sql("SELECT count(*) FROM orders") == [(1,)]
