"""What a unit promises, it promises over every database: the pool, and an app's own SQLAlchemy engine."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse

from tests.asgi_client import Seen, call
from tests.units.databases import Sql, layered, on, over_each_database
from workhorse import Policy, Problem, unit
from workhorse.context import RequestContext
from workhorse.contracts import Query, Terms
from workhorse.errors import OutcomeUnknown, UnitError
from workhorse.units import Unit, Work

ADD = "INSERT INTO notes (text) VALUES (%s)"
KEY = [("idempotency-key", "k")]
KILL_ME = "SELECT pg_terminate_backend(pg_backend_pid())"


class Refused(Problem):
    status = 409
    type = "urn:test:problem:refused"


def post_on(kind: str, url: str, app: FastAPI, *keys: list[tuple[str, str]], **options: Any) -> tuple[list[Seen], Any]:
    """Send the requests one after the other over one connection. Returns the replies and the notes."""

    async def script(database: Any, sql: Sql) -> Any:
        service = layered(app, database, **options)
        seen = [await call(service, "POST", "/notes", headers=key, body=b"{}") for key in keys]
        return seen, [text for (text,) in sql("SELECT text FROM notes ORDER BY id")]

    return asyncio.run(on(kind, url, script, size=1))  # type: ignore[no-any-return]


@over_each_database
def test_rows_reply_and_events_commit_together_and_a_retry_gets_the_reply(kind: str, database_url: str) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes", status_code=201)
    async def add() -> JSONResponse:
        runs.append(1)
        work = await unit()
        row = await (await work.execute(ADD + " RETURNING id", ("a",))).fetchone()
        await work.emit("note.added", subject=str(row[0]), data={"runs": len(runs)})
        return JSONResponse({"id": row[0]}, 201, headers={"x-run": str(len(runs))})

    async def script(database: Any, sql: Sql) -> None:
        service = layered(app, database)
        first, second = [await call(service, "POST", "/notes", headers=KEY, body=b"{}") for _ in range(2)]
        assert (first.status, first.json()) == (second.status, second.json()) == (201, {"id": 1})
        assert second.header("idempotent-replayed") == "true"
        assert second.header("x-run") == "1"
        assert sql("SELECT text FROM notes") == [("a",)]
        assert sql("SELECT type, subject, data FROM workhorse.events") == [("note.added", "1", {"runs": 1})]
        assert sql(
            "SELECT count(DISTINCT x) FROM (SELECT xmin::text FROM notes UNION SELECT xmin::text FROM"
            " workhorse.events UNION SELECT xmin::text FROM workhorse.replies) AS t (x)"
        ) == [(1,)]

    asyncio.run(on(kind, database_url, script))


@over_each_database
def test_a_refusal_undoes_rows_and_events_and_frees_the_key(kind: str, database_url: str) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> str:
        runs.append(1)
        work = await unit()
        await work.execute(ADD, (f"run {len(runs)}",))
        await work.emit("note.added", subject="x")
        if len(runs) == 1:
            raise Refused
        return "ok"

    seen, notes = post_on(kind, database_url, app, KEY, KEY)
    assert [one.status for one in seen] == [409, 200]
    assert notes == ["run 2"]


@over_each_database
def test_two_processes_with_one_key_have_one_effect(kind: str, database_url: str) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        await (await unit()).execute("INSERT INTO notes (text) VALUES (gen_random_uuid()::text)")
        await asyncio.sleep(0.1)
        return "ok"

    async def script(database: Any, sql: Sql) -> None:
        calls = [
            call(
                layered(app, database, Policy("POST /notes", idempotent=True, isolation=isolation)),
                "POST",
                "/notes",
                headers=KEY,
                body=b"{}",
            )
            for isolation in ("repeatable read", "serializable", "read committed", None)
        ]
        assert [seen.status for seen in await asyncio.gather(*calls)] == [200] * 4
        assert sql("SELECT count(*) FROM notes") == [(1,)]

    asyncio.run(on(kind, database_url, script))


@over_each_database
def test_writers_that_conflict_are_run_again_until_all_get_through(kind: str, database_url: str) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> int:
        runs.append(1)
        work = await unit()
        total: int = (await (await work.execute("SELECT count(*) FROM notes")).fetchone())[0]
        await asyncio.sleep(0.01)
        await work.execute(ADD, (f"note {total}",))
        return total

    async def script(database: Any, sql: Sql) -> None:
        service = layered(app, database, Policy("POST /notes", isolation="serializable"), attempts=20)
        replies = await asyncio.gather(*[call(service, "POST", "/notes", body=b"{}") for _ in range(4)])
        assert [reply.status for reply in replies] == [200] * 4
        assert sorted(reply.json() for reply in replies) == [0, 1, 2, 3]
        assert len(runs) > 4, "no run was repeated, so nothing was tested"

    asyncio.run(on(kind, database_url, script))


@over_each_database
@pytest.mark.parametrize("key", [[], KEY], ids=["without a key", "with a key"])
def test_a_connection_that_breaks_before_the_commit_is_replaced(
    kind: str, key: list[tuple[str, str]], database_url: str
) -> None:
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> str:
        runs.append(1)
        work = await unit()
        await work.execute(ADD, ("once",))
        if len(runs) == 1:
            await work.execute(KILL_ME)
        return "ok"

    seen, notes = post_on(kind, database_url, app, key)
    assert [one.status for one in seen] == [200]
    assert (len(runs), notes) == (2, ["once"])


@over_each_database
def test_connections_that_died_in_the_pool_are_not_noticed(kind: str, database_url: str) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        await (await unit()).execute("SELECT 1")
        return "ok"

    async def script(database: Any, sql: Sql) -> None:
        service = layered(app, database)
        await asyncio.gather(*[call(service, "POST", "/notes", body=b"") for _ in range(3)])
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        replies = await asyncio.gather(*[call(service, "POST", "/notes", body=b"") for _ in range(3)])
        assert [reply.status for reply in replies] == [200] * 3

    asyncio.run(on(kind, database_url, script, size=3))


@over_each_database
def test_a_commit_whose_connection_breaks_has_an_unknown_outcome(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sql(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$"
        )
        sql(
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION die()"
        )
        with pytest.raises(OutcomeUnknown):
            async with Unit(database) as work:
                await work.execute(ADD, ("?",))
        async with Unit(database) as work:  # the pool has recovered
            assert await (await work.execute("SELECT 1")).fetchone() == (1,)

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
def test_a_constraint_that_fails_at_the_commit_is_no_success(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sql("CREATE TABLE parents (id int PRIMARY KEY)")
        sql("CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")

        async def orphan(work: Work) -> None:
            await work.execute("INSERT INTO children VALUES (1)")
            await work.emit("child.born", subject="1")

        with pytest.raises(Exception, match="foreign key"):
            await Unit.run(database, orphan)
        assert sql("SELECT * FROM children") == sql("SELECT * FROM workhorse.events") == []

    asyncio.run(on(kind, database_url, script))


@over_each_database
def test_a_swallowed_failure_of_the_transaction_is_no_success(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        for last in ([], [Query("SELECT 1")]):
            transaction, _ = await database.begin()
            await transaction.execute(ADD, ("lost",))
            with pytest.raises(Exception, match="division by zero"):
                await transaction.execute("SELECT 1 / 0")
            with pytest.raises(Exception, match=r"swallowed|aborted"):
                await transaction.commit(last)
            await transaction.rollback()
        assert sql("SELECT text FROM notes") == []

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_end_of_the_transaction_that_is_not_the_units_is_noticed_at_once(
    kind: str, end: str, database_url: str
) -> None:
    """Also where more statements follow it, for which the driver would begin a transaction of its own."""

    async def script(database: Any, sql: Sql) -> None:
        transaction, _ = await database.begin()
        await transaction.execute(ADD, ("before",))
        await transaction.execute(end)
        with pytest.raises(UnitError, match="not the unit's"):
            await transaction.execute(ADD, ("after",))
        with pytest.raises(UnitError, match="not the unit's"):
            await transaction.commit()
        await transaction.rollback()
        assert "after" not in [text for (text,) in sql("SELECT text FROM notes")]

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
def test_a_savepoint_undoes_its_rows_and_events_and_the_unit_goes_on(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.emit("before.block", subject="1")
            with contextlib.suppress(Refused):
                async with work.savepoint():
                    await work.execute(ADD, ("undone",))
                    await work.emit("undone", subject="2")
                    raise Refused
            async with work.savepoint():
                await work.execute(ADD, ("kept",))
                async with work.savepoint():
                    await work.emit("kept", subject="3")
        assert sql("SELECT text FROM notes") == [("kept",)]
        assert sql("SELECT type FROM workhorse.events ORDER BY id") == [("before.block",), ("kept",)]

    asyncio.run(on(kind, database_url, script))


@over_each_database
def test_the_terms_of_a_unit_are_the_transactions(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        seen: list[Any] = []
        terms = Terms(isolation="serializable", read_only=True, deadline=time.monotonic() + 5)
        for on_terms in (terms, Terms()):  # on the same connection, the second after the first
            transaction, row = await database.begin(Query("SELECT 1"), terms=on_terms)
            assert row is not None
            assert tuple(row) == (1,)
            asked = await transaction.execute(
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
                " extract(epoch FROM current_setting('statement_timeout')::interval)::float,"
                " extract(epoch FROM current_setting('lock_timeout')::interval)::float"
            )
            seen.append(await asked.fetchone())
            await transaction.commit()
        first, second = seen
        assert first[:2] == ("serializable", "on")
        assert 3 < first[3] < first[2] <= 5
        assert second == ("read committed", "off", 30, 0)

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
def test_a_deadline_ends_a_statement(kind: str, database_url: str) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> None:
        work = await unit()
        await work.execute(ADD, ("late",))
        await work.execute("SELECT pg_sleep(20)")

    async def script(database: Any, sql: Sql) -> None:
        def hurried() -> RequestContext:
            request = RequestContext()
            request.deadline = time.monotonic() + 0.4
            return request

        began = time.monotonic()
        seen = await call(layered(app, database, request=hurried), "POST", "/notes", body=b"{}")
        assert (seen.status, seen.json()["type"]) == (503, "urn:workhorse:problem:database-timeout")
        assert time.monotonic() - began < 5
        async with Unit(database) as work:  # the one connection is there again, with the usual time-out
            assert await (await work.execute("SHOW statement_timeout")).fetchone() == ("30s",)
        assert sql("SELECT text FROM notes") == []

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
def test_a_cancelled_request_rolls_back_and_frees_its_connection(kind: str, database_url: str) -> None:
    app = FastAPI()
    inside = asyncio.Event()

    @app.post("/notes")
    async def add() -> None:
        await (await unit()).execute(ADD, ("cancelled",))
        inside.set()
        await asyncio.sleep(60)

    async def script(database: Any, sql: Sql) -> None:
        task = asyncio.create_task(call(layered(app, database), "POST", "/notes", headers=KEY, body=b"{}"))
        await inside.wait()
        task.cancel()
        await asyncio.wait({task})
        async with Unit(database) as work:
            await work.execute(ADD, ("next",))
        assert sql("SELECT text FROM notes") == [("next",)]

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_database
def test_a_unit_of_its_own_commits_at_the_end_of_its_block_and_rolls_back_on_an_exception(
    kind: str, database_url: str
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        done = Query("INSERT INTO notes (text) VALUES (%s)", ("acknowledged",))
        async with Unit(database, finish=[done]) as work:
            assert await unit() is work
            await (await unit()).execute(ADD, ("done",))

        async def refuse(work: Work) -> None:
            await work.execute(ADD, ("undone",))
            raise Refused

        with pytest.raises(Refused):
            await Unit.run(database, refuse, finish=lambda _: [done])
        assert sql("SELECT text FROM notes ORDER BY id") == [("done",), ("acknowledged",)]

    asyncio.run(on(kind, database_url, script, size=1))
