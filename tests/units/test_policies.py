"""A route's policy says on what terms its transactions are begun, and where."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import Seen, call
from tests.units.databases import Sql, layered, on, open_database
from workhorse import Policy, unit
from workhorse.errors import SettingsError
from workhorse.state.postgres.database import PostgresDatabase

TERMS = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_database()"
KEY = [("idempotency-key", "k")]


def terms_app() -> FastAPI:
    app = FastAPI()

    async def tell() -> list[Any]:
        return list(await (await (await unit()).execute(TERMS)).fetchone())

    for path in ("/plain", "/serializable", "/repeatable", "/reading"):
        app.post(path)(tell)
    return app


POLICIES = [
    Policy("POST /serializable", isolation="serializable", idempotent=True),
    Policy("POST /repeatable", isolation="repeatable read"),
    Policy("POST /reading", read_only=True),
]


def test_isolation_and_read_only_are_the_routes_with_and_without_a_claim(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> list[Seen]:
        service = layered(terms_app(), database, *POLICIES)
        requests = [
            ("/plain", []),
            ("/serializable", []),
            ("/serializable", KEY),
            ("/repeatable", []),
            ("/reading", []),
        ]
        return [await call(service, "POST", path, headers=key, body=b"{}") for path, key in requests]

    seen = asyncio.run(on("pool", database_url, script, size=1))
    assert [one.json()[:2] for one in seen] == [
        ["read committed", "off"],
        ["serializable", "off"],
        ["serializable", "off"],
        ["repeatable read", "off"],
        ["read committed", "on"],
    ]


def test_a_read_only_route_cannot_write(database_url: str) -> None:
    app = FastAPI()

    @app.get("/notes")
    async def sneak() -> None:
        await (await unit()).execute("INSERT INTO notes (text) VALUES ('sneaked in')")

    async def script(database: Any, sql: Sql) -> None:
        seen = await call(layered(app, database, Policy("GET /notes", read_only=True)), "GET", "/notes")
        assert seen.status == 500
        assert sql("TABLE notes") == []

    asyncio.run(on("pool", database_url, script))


def test_read_only_routes_use_the_replica_and_others_do_not(database_url: str, servers: Any) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with open_database("pool", servers.database_url) as replica:
            service = layered(terms_app(), database, *POLICIES, replica=replica)
            places = {
                path: (await call(service, "POST", path, body=b"{}")).json()[2] for path in ("/reading", "/plain")
            }
            assert places["/reading"] != places["/plain"] == sql("SELECT current_database()")[0][0]

    asyncio.run(on("pool", database_url, script))


def test_a_replica_that_is_away_is_said_to_be_and_the_primary_is_spared(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        replica = PostgresDatabase(database_url)  # never opened
        service = layered(terms_app(), database, *POLICIES, replica=replica)
        seen = await call(service, "POST", "/reading", body=b"{}")
        assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:database-unavailable")
        assert (await call(service, "POST", "/plain", body=b"{}")).status == 200

    asyncio.run(on("pool", database_url, script))


def test_a_claim_under_one_snapshot_waits_and_does_not_run_the_handler_twice(database_url: str) -> None:
    """It cannot see what was committed while it waited; so it waits elsewhere and begins anew."""
    app = FastAPI()
    runs: list[int] = []

    @app.post("/serializable")
    async def add() -> int:
        runs.append(1)
        await (await unit()).execute("INSERT INTO notes (text) VALUES (gen_random_uuid()::text)")
        await asyncio.sleep(0.15)
        return len(runs)

    async def script(database: Any, sql: Sql) -> list[Seen]:
        layers = [layered(app, database, POLICIES[0]) for _ in range(4)]  # each as a process of its own
        calls = [call(layer, "POST", "/serializable", headers=KEY, body=b"{}") for layer in layers]
        return await asyncio.gather(*calls)

    seen = asyncio.run(on("pool", database_url, script))
    assert [one.status for one in seen] == [200] * 4
    assert {one.body for one in seen} == {b"1"}
    assert sorted(one.header("idempotent-replayed") or "" for one in seen) == ["", "true", "true", "true"]
    assert runs == [1]


def test_a_key_whose_holder_gives_up_is_taken_by_one_of_those_who_wait(database_url: str) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/serializable")
    async def add() -> str:
        runs.append(1)
        number = len(runs)
        await (await unit()).execute("SELECT 1")
        await asyncio.sleep(0.1)
        if number == 1:
            raise RuntimeError("the first one fails")
        return "done"

    async def script(database: Any, sql: Sql) -> list[int]:
        layers = [layered(app, database, POLICIES[0]) for _ in range(3)]
        calls = [call(layer, "POST", "/serializable", headers=KEY, body=b"{}") for layer in layers]
        return sorted(seen.status for seen in await asyncio.gather(*calls))

    assert asyncio.run(on("pool", database_url, script)) == [200, 200, 500]
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"isolation": "snapshot"}, "isolation='snapshot'"),
        ({"read_only": True, "idempotent": True}, "could not keep"),
        ({"read_only": True, "idempotent": "required"}, "could not keep"),
    ],
)
def test_terms_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Policy("GET /x", **options)
