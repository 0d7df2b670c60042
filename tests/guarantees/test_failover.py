"""What a standby does not have yet: a reader misses it, and a failover loses it, unless the commit waited for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from tests.asgi_client import Seen, call, running
from tests.guarantees.pair import Node, pair, until
from workhorse import Policy, Service, UnitLayer, unit
from workhorse.policy import PolicyTable
from workhorse.settings import load_settings
from workhorse.state.postgres.database import PostgresDatabase

pytestmark = pytest.mark.slow


def shop() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/orders", status_code=201)
    async def order(item: str) -> str:
        await (await unit()).execute("INSERT INTO orders (item) VALUES (%s)", (item,))
        return item

    @app.get("/orders")
    async def orders() -> list[str]:
        rows = await (await unit()).execute("SELECT item FROM orders ORDER BY item")
        return [item for (item,) in await rows.fetchall()]

    return app


@asynccontextmanager
async def serving(node: Node) -> AsyncGenerator[Service]:
    settings = load_settings(
        node.folder, database={"url": node.url, "statement_timeout_seconds": 1}, log={"access": False}
    )
    service = Service(shop(), policies=[Policy("POST /orders", idempotent=True)], settings=settings)
    async with running(service):
        yield service


async def order(service: Service, item: str) -> Seen:
    """Order it, with the item as the key."""
    return await call(service, "POST", f"/orders?item={item}", headers=[("idempotency-key", item)])


async def orders(app: Service | UnitLayer) -> object:
    return (await call(app, "GET", "/orders")).json()


def test_an_asynchronous_standby_lags_and_a_failover_loses_what_it_had_not_heard_though_it_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def before(primary: Node, standby: Node) -> Seen:
        async with serving(primary) as service:
            primary.ask("CREATE TABLE orders (item text)")
            first = await order(service, "chair")
            assert first.status == 201
            standby.catch_up(primary)
            standby.part()
            assert (await order(service, "lamp")).status == 201
            assert await orders(service) == ["chair", "lamp"]
        table = PolicyTable([Policy("GET /orders", read_only=True)])
        database, replica = PostgresDatabase(primary.url), PostgresDatabase(standby.url)
        await database.open()
        await replica.open()
        assert await orders(UnitLayer(shop(), database, replica=replica, policies=table)) == ["chair"]
        await replica.close()
        await database.close()
        return first

    async def after(standby: Node, first: Seen) -> None:
        async with serving(standby) as service:
            assert await orders(service) == ["chair"], "the lamp was acknowledged, and is lost"
            again = await order(service, "chair")
            assert (again.body, again.header("idempotent-replayed")) == (first.body, "true")
            lamp = await order(service, "lamp")
            assert (lamp.status, lamp.header("idempotent-replayed")) == (201, None)
            assert (await order(service, "lamp")).header("idempotent-replayed") == "true"
            assert await orders(service) == ["chair", "lamp"], (
                "who kept the key may send it again, and it is there once"
            )

    with pair(tmp_path_factory.mktemp("pair")) as (primary, standby):
        first = asyncio.run(before(primary, standby))
        primary.kill()
        standby.promote()
        asyncio.run(after(standby, first))


def test_nobody_is_told_of_a_commit_that_its_synchronous_standby_does_not_have(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def before(primary: Node, standby: Node) -> None:
        async with serving(primary) as service:
            primary.ask("CREATE TABLE orders (item text)")
            standby.catch_up(primary)
            primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.ask("SELECT pg_reload_conf()")
            until(lambda: primary.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))
            assert (await order(service, "chair")).status == 201
            standby.part()
            lamp = await order(service, "lamp")
            assert lamp.status == 503
            assert lamp.json()["type"] == "urn:workhorse:problem:outcome-unknown"

    async def after(standby: Node) -> None:
        async with serving(standby) as service:
            assert await orders(service) == ["chair"]
            assert (await order(service, "chair")).header("idempotent-replayed") == "true"
            assert (await order(service, "lamp")).status == 201
            assert await orders(service) == ["chair", "lamp"]

    with pair(tmp_path_factory.mktemp("pair")) as (primary, standby):
        asyncio.run(before(primary, standby))
        primary.kill()
        standby.promote()
        asyncio.run(after(standby))
