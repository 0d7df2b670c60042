"""What a unit leaves on its connection, and how it ends where others would lose the connection: nothing is left."""

import asyncio
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.errors import Diagnostic
from psycopg.types.numeric import FloatLoader

from tests.units.databases import Sql, on
from workhorse.contracts import Query
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit, Work

ADD = "INSERT INTO notes (text) VALUES (%s)"


def test_what_an_app_tells_psycopg_of_its_connection_ends_with_the_unit(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        heard: list[str | None] = []

        def hear(notice: Diagnostic) -> None:
            heard.append(notice.message_primary)

        await database.run(Query("SELECT 1"))  # psycopg has made the pooled connection's adapters by now
        async with Unit(database) as work:
            work.connection.adapters.register_loader("numeric", FloatLoader)
            work.connection.add_notice_handler(hear)
            work.connection.prepare_threshold = None
            assert await (await work.execute("SELECT 0.1::numeric")).fetchone() == (0.1,)
            await work.execute("DO $$ BEGIN RAISE NOTICE 'mine'; END $$")
        async with Unit(database) as work:
            assert await (await work.execute("SELECT 0.1::numeric")).fetchone() == (Decimal("0.1"),)
            await work.execute("DO $$ BEGIN RAISE NOTICE 'of another'; END $$")
            assert work.connection.prepare_threshold == 5
        assert heard == ["mine"]

    asyncio.run(on("pool", database_url, script, size=1))


def test_a_unit_that_is_left_in_another_context_ends_all_the_same(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def generator() -> AsyncGenerator[Work]:
            async with Unit(database) as work:
                await work.execute(ADD, ("by a generator",))
                yield work

        given = generator()
        await asyncio.create_task(anext(given))  # each task has a context of its own
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(given))
        assert sql("SELECT text FROM notes") == [("by a generator",)]
        async with Unit(database):
            pass

    asyncio.run(on("pool", database_url, script, size=1))


def test_a_callback_that_times_out_by_itself_does_not_cost_the_others_theirs(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        called: list[str] = []

        async def fails() -> None:
            raise TimeoutError("its own socket did not answer")

        async with Unit(database) as work:
            work.after_commit(fails)
            work.after_commit(lambda: called.append("the other"))
        assert called == ["the other"]

    asyncio.run(on("pool", database_url, script))
    assert "failed; the commit stands" in caplog.text


def test_a_text_with_a_nul_is_refused_and_never_cut_off(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        with pytest.raises(ValueError, match=r"U\+0000"):
            async with Unit(database, finish=[Query(ADD, ("account 7\x00 of another",))]) as work:
                await work.execute(ADD, ("first",))
        with pytest.raises(ValueError, match=r"U\+0000"):
            await database.run(Query(ADD, ("account 7\x00",)))
        assert sql("SELECT text FROM notes") == []

    asyncio.run(on("pool", database_url, script, size=1))


SLOW_COMMIT = """
CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER nap AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nap()
"""


@pytest.mark.parametrize("driver", ["sqlalchemy over psycopg", "sqlalchemy in threads"])
def test_cancelled_while_the_server_commits_it_waits_for_no_answer_and_keeps_its_pool(
    driver: str, database_url: str
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(SLOW_COMMIT)

        async def add(number: int) -> None:
            async with Unit(database) as work:
                await work.execute(ADD, (f"{number}",))

        for number in range(5):  # with a thread that read from a closed connection, this ended the process
            task = asyncio.create_task(add(number))
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait({task}, timeout=10)
            assert task.cancelled()
        opened = [await database.begin() for _ in range(2)]
        for transaction, _ in opened:
            await transaction.rollback()
        async with asyncio.timeout(10):
            while sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'") != [(0,)]:
                await asyncio.sleep(0.05)

    asyncio.run(on(driver, database_url, script, size=2))


def test_neither_user_nor_role_nor_settings_of_a_unit_are_those_of_the_next(database_url: str) -> None:
    who = "SELECT session_user::text, current_user::text, current_setting('search_path')"
    tenant = f"tenant_{database_url.partition('?')[0].rpartition('/')[2]}"

    async def script(database: Any, sql: Sql) -> None:
        sql(f"CREATE ROLE {tenant}")
        try:
            (before,) = await database.run(Query(who))
            for change in (f"SET SESSION AUTHORIZATION {tenant}", f"SET ROLE {tenant}", "SET search_path = pg_temp"):
                async with Unit(database) as work:
                    await work.execute(change)
                    assert await (await work.execute(who)).fetchone() != before
                assert await database.run(Query(who)) == [before], change
                async with Unit(database) as work:
                    assert await (await work.execute(who)).fetchone() == before, change
            begins_as_tenant = PostgresDatabase(f"{database_url}&options=-c%20role%3D{tenant}", pool_max=1)
            await begins_as_tenant.open()
            for _ in range(2):
                ((user,),) = await begins_as_tenant.run(Query("SELECT current_user::text"))
                assert user == tenant, "the role that a connection begins with is what is reset to"
                async with Unit(begins_as_tenant) as work:
                    assert await (await work.execute("SHOW statement_timeout")).fetchone() == ("30s",)
                    await work.execute("SET ROLE NONE")
            await begins_as_tenant.close()
        finally:
            sql(f"DROP ROLE {tenant}")

    asyncio.run(on("pool", database_url, script, size=1))


def test_a_value_that_cannot_travel_costs_no_connection(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        backend = Query("SELECT pg_backend_pid()")
        ((before,),) = await database.run(backend)
        for bad in ("a\0b", "a\ud800b", object()):
            with pytest.raises((TypeError, ValueError)):
                await database.run(Query(ADD, (bad,)))
            with pytest.raises((TypeError, ValueError)):
                await database.begin(Query(ADD, (bad,)))
        assert await database.run(backend) == [(before,)]
        assert sql("TABLE notes") == []

    asyncio.run(on("pool", database_url, script, size=1))
