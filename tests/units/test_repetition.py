"""A request that loses to another transaction, or its connection, is run again, and no more often than it may."""

import asyncio
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI, Request

from tests.asgi_client import Seen, call
from tests.units.conftest import Serving, Sql
from workhorse import unit
from workhorse.state.postgres.faults import sqlstates

KILL_ME = "SELECT pg_terminate_backend(pg_backend_pid())"


def test_writers_that_conflict_under_serializable_all_get_through(serving: Serving, sql: Sql) -> None:
    """Each reads the sum and writes it plus one: without repetition, concurrent ones fail; without conflicts, lose."""
    runs: list[int] = []
    app = FastAPI()

    @app.post("/add")
    async def add() -> int:
        runs.append(1)
        work = await unit()
        await work.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        total: int = (await (await work.execute("SELECT count(*) FROM notes")).fetchone())[0]
        await asyncio.sleep(0.01)
        await work.execute("INSERT INTO notes (text) VALUES (%s)", (f"note {total}",))
        return total

    async def main() -> list[Seen]:
        async with serving(app, database={"attempts": 20}) as service:
            return await asyncio.gather(*[call(service, "POST", "/add", body=b"{}") for _ in range(6)])

    replies = asyncio.run(main())
    assert [reply.status for reply in replies] == [200] * 6
    assert sorted(reply.json() for reply in replies) == [0, 1, 2, 3, 4, 5]
    assert len(runs) > 6, "no run was repeated, so nothing was tested"


def test_the_body_can_be_read_again(serving: Serving, sql: Sql) -> None:
    bodies: list[bytes] = []
    app = FastAPI()

    @app.post("/add")
    async def add(request: Request) -> str:
        bodies.append(await request.body())
        work = await unit()
        if len(bodies) == 1:
            await work.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        return "ok"

    async def main() -> Seen:
        async with serving(app) as service:
            return await call(service, "POST", "/add", body=[b"one ", b"two ", b"three"], declare_length=False)

    assert asyncio.run(main()).status == 200
    assert bodies == [b"one two three"] * 2


@pytest.mark.parametrize(("attempts", "expected"), [(1, 1), (3, 3)])
def test_a_request_that_always_conflicts_is_given_up_after_its_attempts(
    attempts: int, expected: int, serving: Serving, sql: Sql
) -> None:
    runs: list[int] = []
    app = FastAPI()

    @app.post("/add")
    async def add() -> None:
        runs.append(1)
        await (await unit()).execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    async def main() -> Seen:
        async with serving(app, database={"attempts": attempts}) as service:
            return await call(service, "POST", "/add", body=b"{}")

    seen = asyncio.run(main())
    assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:conflict")
    assert seen.header("retry-after") == "1"
    assert len(runs) == expected


def test_a_body_too_long_to_remember_is_not_run_again(serving: Serving, sql: Sql) -> None:
    runs: list[int] = []
    app = FastAPI()

    @app.post("/add")
    async def add(request: Request) -> None:
        runs.append(len(await request.body()))
        await (await unit()).execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    async def main() -> Seen:
        async with serving(app, guard={"max_body_bytes": 4_000_000}) as service:
            return await call(service, "POST", "/add", body=[b"x" * 1_000_000] * 3)

    assert asyncio.run(main()).status == 503
    assert runs == [3_000_000]


@pytest.mark.parametrize("key", [[], [("idempotency-key", "k")]])
def test_a_connection_that_breaks_before_the_commit_is_replaced(
    key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    runs: list[int] = []
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        runs.append(1)
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('once')")
        if len(runs) == 1:
            await work.execute(KILL_ME)
        return "ok"

    async def main() -> Seen:
        async with serving(app) as service:
            return await call(service, "POST", "/notes", headers=key, body=b"{}")

    assert asyncio.run(main()).status == 200
    assert len(runs) == 2
    assert sql("SELECT text FROM notes") == [("once",)]


@pytest.mark.parametrize("key", [[], [("idempotency-key", "k")]])
def test_connections_that_died_in_the_pool_are_not_noticed_by_clients(
    key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        await (await unit()).execute("SELECT 1")
        return "ok"

    async def main() -> list[int]:
        async with serving(app, database={"pool_min": 8, "pool_max": 8}) as service:
            await asyncio.gather(*[call(service, "POST", "/notes", body=b"") for _ in range(8)])
            sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'workhorse'"
                " AND datname = current_database()"
            )
            replies = await asyncio.gather(
                *[call(service, "POST", "/notes", headers=[(n, f"{v}{i}") for n, v in key], body=b"") for i in range(8)]
            )
            return [reply.status for reply in replies]

    assert asyncio.run(main()) == [200] * 8


def test_a_commit_whose_outcome_is_unknown_is_said_to_be(serving: Serving, sql: Sql) -> None:
    """The server dies inside COMMIT: a deferred trigger ends the very backend that commits."""
    sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$"
    )
    sql(
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()"
    )
    runs: list[int] = []
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        runs.append(1)
        await (await unit()).execute("INSERT INTO notes (text) VALUES ('?')")
        return "ok"

    async def main() -> Seen:
        async with serving(app) as service:
            return await call(service, "POST", "/notes", headers=[("idempotency-key", "k")], body=b"{}")

    seen = asyncio.run(main())
    assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:outcome-unknown")
    assert runs == [1], "a run whose outcome is unknown must not be repeated by itself"


def test_a_constraint_that_fails_at_the_commit_is_no_success(serving: Serving, sql: Sql) -> None:
    sql("CREATE TABLE parents (id int PRIMARY KEY)")
    sql("CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
    app = FastAPI()

    @app.post("/notes", status_code=201)
    async def add() -> str:
        await (await unit()).execute("INSERT INTO children VALUES (1)")
        return "created"

    async def main() -> Seen:
        async with serving(app) as service:
            return await call(service, "POST", "/notes", headers=[("idempotency-key", "k")], body=b"{}")

    assert asyncio.run(main()).status == 500
    assert sql("SELECT * FROM children") == []
    assert sql("SELECT * FROM workhorse.replies") == []


def test_more_requests_than_connections_wait_and_then_are_told(serving: Serving, sql: Sql) -> None:
    app = FastAPI()

    @app.post("/hold")
    async def hold() -> str:
        await (await unit()).execute("SELECT pg_sleep(0.6)")
        return "ok"

    async def main() -> list[Seen]:
        async with serving(app, database={"pool_max": 1, "acquire_timeout_seconds": 0.3}) as service:
            return await asyncio.gather(*[call(service, "POST", "/hold", body=b"") for _ in range(3)])

    replies = asyncio.run(main())
    assert sorted(reply.status for reply in replies) == [200, 503, 503]
    refused = next(reply for reply in replies if reply.status == 503)
    assert refused.json()["type"] == "urn:workhorse:problem:database-unavailable"


def test_the_state_of_a_wrapped_error_is_found() -> None:
    class Wrapper(Exception):
        orig: Any = psycopg.errors.SerializationFailure()

    assert "40001" in sqlstates(Wrapper())
    try:
        try:
            raise psycopg.errors.DeadlockDetected
        except psycopg.Error as error:
            raise RuntimeError from error
    except RuntimeError as error:
        found = sqlstates(error)
    assert "40P01" in found
    assert sqlstates(ValueError()) == set()
