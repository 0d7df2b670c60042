"""Which store counts, by the settings; and that what it counts holds over two services."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import StartFailed, call, running
from workhorse import Policy, Rate, Service
from workhorse.contracts import Exactness
from workhorse.embedded import Attachment
from workhorse.settings import Settings, load_settings
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.redis.counters import RedisCounters


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/limited")
    async def limited() -> None: ...

    return app


def a_service(settings: Settings, rate: str = "3/hour") -> Service:
    policies = [Policy("GET /limited", rate=Rate(rate, per="address"))]
    return Service(an_app(), policies=policies, settings=settings)


def changed(settings: Settings, **more: Any) -> Settings:
    assert settings.database.url is not None
    database = {"url": settings.database.url.get_secret_value()}
    return load_settings(settings.project, **{"database": database, "log": {"access": False}, **more})


@pytest.mark.parametrize("store", ["cache", "database", "memory", "auto", "auto with a cache"])
def test_the_settings_choose_the_store(store: str, settings: Settings, servers: Attachment) -> None:
    cache = {} if store in {"auto", "database"} else {"cache": {"url": servers.cache_url}}
    chosen = changed(settings, guard={"rate_store": store.partition(" ")[0], "rate_ahead_seconds": 0}, **cache)
    expected = {"cache": RedisCounters, "auto with a cache": RedisCounters, "memory": MemoryCounters}

    async def main() -> None:
        service = a_service(chosen)
        async with running(service):
            assert isinstance(service.rooms.stores.counters, expected.get(store, PostgresCounters))

    asyncio.run(main())


@pytest.mark.parametrize("with_cache", [True, False], ids=["cache", "database"])
def test_a_limit_holds_over_two_services(with_cache: bool, settings: Settings, servers: Attachment) -> None:  # noqa: FBT001
    more = {"cache": {"url": servers.cache_url}} if with_cache else {}
    # Its own rate, because the cache is shared by the tests.
    rate = "7/61 minutes"

    async def main() -> list[int]:
        one, other = a_service(changed(settings, **more), rate), a_service(changed(settings, **more), rate)
        async with running(one), running(other):
            assert isinstance(one.rooms.stores.counters, LendingCounters)
            assert one.rooms.stores.counters.exactness is Exactness.SHARED
            client = ("203.0.113.61", 1)
            return [(await call(service, "GET", "/limited", client=client)).status for service in [one, other] * 6]

    statuses = asyncio.run(main())
    assert statuses.count(200) <= 7
    assert statuses.count(200) >= 4, "what is lent ahead is at most half of the burst"
    assert set(statuses) == {200, 429}


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"guard": {"rate_store": "cache"}}, "there is none; set CACHE_URL"),
        ({"guard": {"rate_store": "memory"}, "server": {"workers": 2}}, "use cache or database"),
        ({"cache": {"url": "http://localhost"}}, "the cache's URL is malformed"),
    ],
)
def test_a_store_that_cannot_be_had_stops_the_start(more: dict[str, Any], complaint: str, settings: Settings) -> None:
    async def main() -> None:
        async with running(a_service(changed(settings, **more))):
            pass

    with pytest.raises(StartFailed, match=complaint):
        asyncio.run(main())
