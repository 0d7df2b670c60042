"""How long an Idempotency-Key holds, for whom, and what a network does to it that breaks at the commit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import Seen, call, running
from tests.guarantees.conftest import Sql
from workhorse import Policy, Service, unit
from workhorse.settings import load_settings
from workhorse.testing import FaultProxy

DAYS_KEPT = 1 + 7
"""A day replayed and a week refused, by default."""


HELD = (
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""A key of this database; others' tests run on the same server."""


def shop(pause: asyncio.Event | None = None) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/orders", status_code=201)
    async def order(item: str) -> str:
        await (await unit()).execute("INSERT INTO orders (item) VALUES (%s)", (item,))
        if pause is not None:
            await pause.wait()
        return item

    return app


@asynccontextmanager
async def serving(app: FastAPI, url: str, folder: Path, **more: Any) -> AsyncGenerator[Service]:
    settings = load_settings(folder, **{"log": {"access": False}, "database": {"url": url}, **more})
    service = Service(app, policies=[Policy("POST /orders", idempotent=True)], settings=settings)
    async with running(service):
        yield service


async def order(service: Service, key: str, item: str = "chair", **headers: str) -> Seen:
    return await call(service, "POST", f"/orders?item={item}", headers=[("idempotency-key", key), *headers.items()])


def kind(seen: Seen) -> str:
    """What became of it."""
    if seen.status == 201:
        return "replayed" if seen.header("idempotent-replayed") else "done"
    return str(seen.json()["type"]).rpartition(":")[2]


def test_a_key_is_replayed_for_a_day_refused_for_a_week_and_then_another_request(
    url: str, sql: Sql, tmp_path: Path
) -> None:
    def age(interval: str) -> None:
        sql("UPDATE workhorse.replies SET created_at = now() - %s::interval", interval)

    async def main() -> None:
        async with serving(shop(), url, tmp_path, idempotency={"purge_every_seconds": 0.05}) as service:
            assert kind(await order(service, "k")) == "done"
            age("23 hours 59 minutes")
            assert kind(await order(service, "k")) == "replayed"
            age(f"{DAYS_KEPT - 1} days 23 hours 59 minutes")
            await asyncio.sleep(0.3)  # several turns of the purge, which must leave it
            assert kind(await order(service, "k")) == "idempotency-key-stale"
            assert sql("SELECT count(*) FROM orders") == [(1,)]
            age(f"{DAYS_KEPT} days 1 minute")
            async with asyncio.timeout(10):
                while sql("SELECT count(*) FROM workhorse.replies") != [(0,)]:
                    await asyncio.sleep(0.02)
            assert kind(await order(service, "k")) == "done"
            assert sql("SELECT count(*) FROM orders") == [(2,)]

    asyncio.run(main())


def test_a_key_is_of_one_caller_and_callers_whom_nothing_names_share_theirs(url: str, sql: Sql, tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with serving(shop(), url, tmp_path) as service:
            return [
                kind(await order(service, "k", authorization="Bearer first")),
                kind(await order(service, "k", authorization="Bearer renewed")),
                kind(await order(service, "k")),
                kind(await order(service, "k")),
                kind(await order(service, "k", "lamp")),
            ]

    assert asyncio.run(main()) == ["done", "done", "done", "replayed", "idempotency-key-reused"]
    assert sql("SELECT count(*) FROM orders") == [(3,)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_key_that_is_under_way_for_too_long_is_refused_and_not_run_twice(
    processes: int, url: str, sql: Sql, tmp_path: Path
) -> None:
    """Two services on one database stand for two processes: they share nothing else."""

    async def main() -> None:
        go_on = asyncio.Event()
        database = {"url": url, "statement_timeout_seconds": 1}
        async with (
            serving(shop(go_on), url, tmp_path, database=database) as one,
            serving(shop(go_on), url, tmp_path, database=database) as two,
        ):
            first = asyncio.create_task(order(one, "k"))
            while not sql(HELD):
                await asyncio.sleep(0.01)
            other = one if processes == 1 else two
            assert kind(await order(other, "k")) == "idempotency-key-in-flight"
            go_on.set()
            assert kind(await first) == "done"
            assert kind(await order(other, "k")) == "replayed"

    asyncio.run(main())
    assert sql("SELECT count(*) FROM orders") == [(1,)]


@pytest.mark.parametrize("fault", ["cut_before_commit", "cut_after_commit"])
def test_a_network_that_breaks_at_the_commit_leaves_the_client_without_word_and_its_retry_does_it_once(
    fault: str, url: str, sql: Sql, tmp_path: Path
) -> None:
    stands = 1 if fault == "cut_after_commit" else 0

    async def main() -> None:
        async with FaultProxy(url) as wire, serving(shop(), wire.url, tmp_path) as service:
            cut = getattr(wire, fault)()
            assert kind(await order(service, "k")) == "outcome-unknown"
            assert cut.happened
            assert sql("SELECT count(*) FROM orders") == [(stands,)]
            assert kind(await order(service, "k")) == ("replayed" if stands else "done")
            assert kind(await order(service, "k")) == "replayed"

    asyncio.run(main())
    assert sql("SELECT count(*) FROM orders") == [(1,)]


def test_a_network_that_breaks_before_the_commit_is_not_noticed_by_the_client(
    url: str, sql: Sql, tmp_path: Path
) -> None:
    async def main() -> None:
        async with FaultProxy(url) as wire, serving(shop(), wire.url, tmp_path) as service:
            cut = wire.cut_unheard(roundtrip=2)  # BEGIN and the claim are the first, the order is the second
            assert kind(await order(service, "k")) == "done"
            assert cut.happened

    asyncio.run(main())
    assert sql("SELECT count(*) FROM orders") == [(1,)]
