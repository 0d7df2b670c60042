"""Apps that hold the unit wrongly: the promise stands all the same, and the next request finds a clean connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import psycopg
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from psycopg.rows import dict_row

from tests.asgi_client import Seen, call
from tests.units.conftest import Serving, Sql
from workhorse import Problem, unit
from workhorse.errors import UnitClosed, UnitError

KEYS: list[list[tuple[str, str]]] = [[], [("idempotency-key", "k")]]
ADD = "INSERT INTO notes (text) VALUES (%s)"
keyed_or_not = pytest.mark.parametrize("key", KEYS, ids=["without a key", "with a key"])


class Broke(Problem):
    status = 503
    type = "urn:test:problem:broke"


def post(serving: Serving, app: FastAPI, *requests: tuple[str, list[tuple[str, str]]], **overrides: Any) -> list[Seen]:
    """Send the requests one after the other over a pool of one connection, then see that it still serves."""

    @app.post("/after")
    async def after() -> str:
        await (await unit()).execute("SELECT 1")
        return "still here"

    async def main() -> list[Seen]:
        async with serving(app, database={"pool_max": 1, "acquire_timeout_seconds": 2}, **overrides) as service:
            seen = [await call(service, "POST", path, headers=headers, body=b"{}") for path, headers in requests]
            assert (await call(service, "POST", "/after", body=b"")).status == 200, "the connection was not given back"
            return seen

    return asyncio.run(main())


@keyed_or_not
def test_a_transaction_block_is_a_savepoint_even_as_the_first_thing(
    key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> None:
        connection = (await unit()).connection
        async with connection.transaction():
            await connection.execute(ADD, ("block",))
        raise RuntimeError("after the block")

    assert [seen.status for seen in post(serving, app, ("/notes", key))] == [500]
    assert sql("SELECT text FROM notes") == []


@keyed_or_not
@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_the_end_of_the_transaction_is_not_the_apps(
    end: str, key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    app = FastAPI()
    said: list[str] = []

    @app.post("/notes")
    async def add() -> str:
        work = await unit()
        await work.connection.execute(ADD, ("one",))
        with pytest.raises(UnitError) as refused:
            await getattr(work.connection, end)()
        said.append(str(refused.value))
        return "ok"

    assert [seen.status for seen in post(serving, app, ("/notes", key))] == [200]
    assert sql("SELECT text FROM notes") == [("one",)]
    assert said


@keyed_or_not
def test_a_rolled_back_savepoint_costs_nobody_anything(key: list[tuple[str, str]], serving: Serving, sql: Sql) -> None:
    """psycopg makes the server forget all prepared statements then, ours among them."""
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add(savepoint: bool = False) -> str:  # noqa: FBT001, FBT002
        runs.append(1)
        connection = (await unit()).connection
        for number in range(8):
            await connection.execute("SELECT %s::int", (number,))
        if savepoint:
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with connection.transaction():
                    await connection.execute("SELECT 1 / 0")
        return "ok"

    requests = [
        (f"/notes{'?savepoint=1' if number % 2 else ''}", [(n, f"{v}{number}") for n, v in key]) for number in range(8)
    ]
    assert [seen.status for seen in post(serving, app, *requests)] == [200] * 8
    assert len(runs) == 8, "a request was run again"


@keyed_or_not
def test_a_block_that_closes_after_the_reply_commits_nothing_and_breaks_nobody(
    key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    app = FastAPI()

    async def block() -> AsyncIterator[Any]:
        work = await unit()
        async with work.connection.transaction():
            yield work

    @app.post("/notes")
    async def add(work: Annotated[Any, Depends(block)]) -> str:
        await work.execute(ADD, ("never",))
        return "ok"

    @app.post("/proper")
    async def proper(work: Annotated[Any, Depends(block, scope="function")]) -> str:
        await work.execute(ADD, ("proper",))
        return "ok"

    seen = post(serving, app, ("/notes", key), ("/proper", []))
    assert [one.status for one in seen] == [500, 200]
    assert sql("SELECT text FROM notes") == [("proper",)]


def test_a_connection_kept_for_later_is_dead(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    said: list[str] = []

    @app.post("/notes")
    async def add(tasks: BackgroundTasks) -> str:
        work = await unit()
        cursor = await work.execute("SELECT 1")

        async def later() -> None:
            for use in (cursor, cursor.connection):
                with pytest.raises(UnitClosed) as refused:
                    await use.execute(ADD, ("late",))
                said.append(str(refused.value))

        tasks.add_task(later)
        return "ok"

    assert [seen.status for seen in post(serving, app, ("/notes", []))] == [200]
    assert len(said) == 2
    assert sql("SELECT text FROM notes") == []


def test_a_statement_that_fails_while_the_reply_leaves_is_no_success(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    tasks: set[Any] = set()

    @app.post("/notes", status_code=201)
    async def add() -> str:
        work = await unit()
        await work.execute(ADD, ("lost",))
        tasks.add(asyncio.create_task(work.execute("SELECT 1 / (count(*) - 1) FROM pg_sleep(0.2)")))
        await asyncio.wait(tasks, timeout=0.05)
        return "created"

    assert [seen.status for seen in post(serving, app, ("/notes", []))] == [500]
    assert sql("SELECT text FROM notes") == []


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_bytes_like_body_is_kept(kind: Any, serving: Serving, sql: Sql) -> None:
    app = FastAPI()

    class Plain(Response):
        def render(self, content: Any) -> Any:
            return content

    @app.post("/notes")
    async def add() -> Response:
        await unit()
        return Plain(kind(b"hello"))

    first, second = post(serving, app, ("/notes", KEYS[1]), ("/notes", KEYS[1]))
    assert (first.status, first.body) == (second.status, second.body) == (200, b"hello")


def test_a_body_that_was_refused_commits_nothing_although_the_app_carries_on(serving: Serving, sql: Sql) -> None:
    app = FastAPI()

    @app.post("/swallow")
    async def add(request: Request) -> int:
        await (await unit()).execute(ADD, ("big",))
        read = 0
        try:
            async for chunk in request.stream():
                read += len(chunk)
        except Exception:  # noqa: BLE001
            return read
        return read

    async def main() -> Seen:
        async with serving(app, guard={"max_body_bytes": 10}) as service:
            return await call(service, "POST", "/swallow", body=[b"x" * 8] * 3, declare_length=False)

    assert asyncio.run(main()).status == 413
    assert sql("SELECT text FROM notes") == []


def test_a_retry_does_not_wait_for_the_firsts_background_tasks(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    release = asyncio.Event()

    @app.post("/notes")
    async def add(tasks: BackgroundTasks) -> str:
        tasks.add_task(release.wait)
        return "ok"

    async def main() -> Seen:
        async with serving(app) as service:
            first = asyncio.create_task(call(service, "POST", "/notes", headers=KEYS[1], body=b"{}"))
            while not sql("SELECT 1 FROM workhorse.replies"):
                await asyncio.sleep(0.02)
            second = await asyncio.wait_for(call(service, "POST", "/notes", headers=KEYS[1], body=b"{}"), 5)
            release.set()
            await first
            return second

    assert asyncio.run(main()).header("idempotent-replayed") == "true"


def test_a_task_that_outlives_its_run_opens_no_unit(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    strays: list[asyncio.Task[Any]] = []

    @app.post("/notes")
    async def add() -> None:
        async def stray() -> str:
            await asyncio.sleep(0.1)
            with pytest.raises(UnitClosed):
                await unit()
            return "refused"

        strays.append(asyncio.create_task(stray()))
        raise RuntimeError("at once")

    async def main() -> str:
        async with serving(app, database={"pool_max": 1}) as service:
            await call(service, "POST", "/notes", body=b"")
            said: str = await strays[0]
            return said

    assert asyncio.run(main()) == "refused"


def test_what_a_unit_sets_on_its_session_is_gone_for_the_next(serving: Serving, sql: Sql) -> None:
    app = FastAPI()

    @app.post("/set")
    async def change() -> str:
        work = await unit()
        work.connection.row_factory = dict_row
        for statement in (
            "SET search_path = pg_catalog",
            "SET app.tenant = 'a'",
            "SET statement_timeout = 0",
            "SET ROLE pg_monitor",
        ):
            await work.execute(statement)
        return "ok"

    @app.post("/see")
    async def see() -> JSONResponse:
        cursor = await (await unit()).execute(
            "SELECT current_setting('search_path'), coalesce(current_setting('app.tenant', true), ''),"
            " current_setting('statement_timeout'), current_user"
        )
        return JSONResponse(list(await cursor.fetchone()))

    _, seen = post(serving, app, ("/set", []), ("/see", []))
    assert seen.json() == ['"$user", public', "", "30s", "postgres"]


@pytest.mark.parametrize("failure", ["DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", "SELECT 1 / 0"])
def test_a_kept_server_error_whose_commit_fails_gives_its_connection_back(
    failure: str, serving: Serving, sql: Sql
) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> None:
        work = await unit()
        work.keep()
        with pytest.raises(psycopg.Error):
            await work.execute(failure)
        raise Broke

    seen = post(serving, app, ("/notes", []), ("/notes", []), ("/notes", KEYS[1]))
    assert {one.status for one in seen} <= {500, 503}


def test_under_repeatable_read_too_two_processes_with_one_key_have_one_effect(serving: Serving, sql: Sql) -> None:
    sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_isolation = ''repeatable read''',"
        " current_database()); END $$"
    )
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        await (await unit()).execute("INSERT INTO notes (text) VALUES (gen_random_uuid()::text)")
        await asyncio.sleep(0.2)
        return "ok"

    async def main() -> list[Seen]:
        async with serving(app) as one, serving(app) as two:
            return await asyncio.gather(
                *[call(service, "POST", "/notes", headers=KEYS[1], body=b"{}") for service in (one, two)]
            )

    assert [seen.status for seen in asyncio.run(main())] == [200, 200]
    assert sql("SELECT count(*) FROM notes") == [(1,)]


@keyed_or_not
def test_a_server_without_room_is_said_to_be_away_and_logged_once(
    key: list[tuple[str, str]], serving: Serving, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> None:
        work = await unit()
        await work.execute(ADD, ("full",))
        await work.execute("DO $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$")

    for seen in post(serving, app, ("/notes", key), ("/notes", key)):
        assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:database-unavailable")
    assert sql("SELECT text FROM notes") == []
    assert len([record for record in caplog.records if "No space left on device" in record.message]) == 1


@keyed_or_not
def test_a_statement_that_takes_too_long_is_said_to_have(
    key: list[tuple[str, str]], serving: Serving, sql: Sql
) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> None:
        runs.append(1)
        work = await unit()
        await work.execute(ADD, ("slow",))
        await work.execute("SET LOCAL statement_timeout = '50ms'")
        await work.execute("SELECT pg_sleep(5)")

    (seen,) = post(serving, app, ("/notes", key))
    assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:database-timeout")
    assert runs == [1]
    assert sql("SELECT text FROM notes") == []


def test_a_conflict_inside_a_task_group_is_repeated(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> str:
        runs.append(1)
        work = await unit()
        if len(runs) == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(work.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return "ok"

    assert [seen.status for seen in post(serving, app, ("/notes", []))] == [200]
    assert len(runs) == 2
