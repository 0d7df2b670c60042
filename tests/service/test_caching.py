"""Caches and leases get their stores from the service, and a deletion in a unit comes with its commit."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, HTTPException

from tests.asgi_client import StartFailed, call, running
from workhorse import Service, unit
from workhorse.caching import Caches, Leases
from workhorse.contracts import CacheGuarantee, LeaseGuarantee, LeaseHeld
from workhorse.embedded import Attachment
from workhorse.errors import StartupError
from workhorse.migrations import Migrations
from workhorse.settings import Settings, load_settings

PRICES = Migrations.inline(
    "prices",
    "CREATE TABLE prices (sku text PRIMARY KEY, cents int NOT NULL)",
    "INSERT INTO prices VALUES ('bolt', 120)",
)


def changed(settings: Settings, **more: Any) -> Settings:
    assert settings.database.url is not None
    database = {"url": settings.database.url.get_secret_value()}
    return load_settings(settings.project, **{"database": database, "log": {"access": False}, **more})


def a_service(settings: Settings) -> tuple[Service, Caches, Leases]:
    caches, leases = Caches(), Leases()
    # Its own name, because the cache is shared by the tests.
    prices = caches.open(f"prices-{uuid4().hex[:8]}", int, ttl=60)
    app = FastAPI(openapi_url=None)

    async def read(sku: str) -> int:
        work = await unit()
        ((cents,),) = await (await work.execute("SELECT cents FROM prices WHERE sku = %s", (sku,))).fetchall()
        return int(cents)

    @app.get("/prices/{sku}")
    async def price(sku: str) -> int:
        return await prices.once(sku, lambda: read(sku))

    @app.put("/prices/{sku}")
    async def change(sku: str, cents: int, fail: bool = False) -> None:  # noqa: FBT001, FBT002
        work = await unit()
        await work.execute("UPDATE prices SET cents = %s WHERE sku = %s", (cents, sku))
        await prices.delete_with(work, sku)
        if fail:
            raise HTTPException(409)

    service = Service(app, caches=caches, leases=leases, migrations=[PRICES], settings=settings)
    return service, caches, leases


@pytest.mark.parametrize("store", ["auto", "cache", "database", "memory"])
def test_a_change_is_seen_once_it_has_committed_and_never_if_it_has_not(
    store: str, settings: Settings, servers: Attachment
) -> None:
    cache: dict[str, Any] = {"store": store}
    if store in {"auto", "cache"}:
        cache["url"] = servers.cache_url
    service, caches, leases = a_service(changed(settings, cache=cache))

    async def main() -> None:
        async with running(service):
            shared = CacheGuarantee.SHARED in caches.guarantees
            assert shared == (store != "memory")
            assert LeaseGuarantee.DURABLE in leases.guarantees
            assert (await call(service, "GET", "/prices/bolt")).json() == 120
            assert (await call(service, "PUT", "/prices/bolt?cents=99&fail=true")).status == 409
            assert (await call(service, "GET", "/prices/bolt")).json() == 120
            assert (await call(service, "PUT", "/prices/bolt?cents=130")).status == 200
            assert (await call(service, "GET", "/prices/bolt")).json() == 130
            async with leases.hold(f"end-of-day {uuid4()}") as lease:
                assert lease.token > 0

    asyncio.run(main())


def test_a_service_started_again_brings_its_own_stores(settings: Settings) -> None:
    service, _, _ = a_service(changed(settings))

    async def main() -> list[int]:
        statuses: list[int] = []
        for _ in range(2):
            async with running(service):
                statuses.append((await call(service, "GET", "/prices/bolt")).status)
        return statuses

    assert asyncio.run(main()) == [200, 200]


def test_caches_without_a_service_say_what_to_do() -> None:
    caches = Caches()
    assert "Nowhere" in repr(caches)
    with pytest.raises(StartupError, match=r"Service\(app, caches=caches\)"):
        asyncio.run(caches.open("prices", int, ttl=60).get("bolt"))
    with pytest.raises(StartupError, match=r"Service\(app, leases=leases\)"):
        Leases().hold("name")


@pytest.mark.parametrize(
    ("cache", "complaint"),
    [({"store": "cache"}, "there is none; set CACHE_URL"), ({"lease_store": "cache"}, "cache.lease_store is cache")],
)
def test_a_store_that_is_not_there_stops_the_start(cache: dict[str, Any], complaint: str, settings: Settings) -> None:
    service, _, _ = a_service(changed(settings, cache=cache))

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match=complaint):
        asyncio.run(main())


def test_lookups_makings_and_leases_are_metrics_of_the_service(settings: Settings) -> None:
    settings = changed(settings, cache={"store": "memory", "lease_store": "memory"})
    caches, leases = Caches(), Leases()
    prices = caches.open("prices", int, ttl=60)
    service = Service(FastAPI(openapi_url=None), settings=settings, caches=caches, leases=leases)

    async def read() -> int:
        await asyncio.sleep(0.05)
        return 1

    async def main() -> None:
        async with running(service):
            await asyncio.gather(*(prices.once("bolt", read) for _ in range(5)))
            await prices.once("bolt", read)
            async with leases.hold("books"):
                with pytest.raises(LeaseHeld):
                    async with leases.hold("books"):
                        pass
                async with asyncio.timeout(10):
                    while not service.metrics.total("workhorse_leases_held"):
                        await asyncio.sleep(0.05)
            read_off = {
                name: service.metrics.total(f"workhorse_{name}_total", **labels)
                for name, labels in (
                    ("cache_made", {"why": "missing"}),
                    ("cache_spared", {"where": "process"}),
                    ("cache_unkept", {}),
                    ("cache_away", {}),
                )
            }
            assert read_off == {"cache_made": 1, "cache_spared": 4, "cache_unkept": 0, "cache_away": 0}
            assert service.metrics.total("workhorse_cache_lookups_total", outcome="hit") == 1
            assert service.metrics.total("workhorse_cache_lookups_total", outcome="miss") == 5
            for outcome, count in {"acquired": 1, "refused": 1, "lost": 0}.items():
                assert service.metrics.total("workhorse_leases_total", outcome=outcome) == count

    asyncio.run(main())
