"""Sessions that are lent by a pooler for one transaction: nothing is told to them for longer.

No pooler comes in a wheel, so these look at what is said to Postgres itself; docs/units.md tells what was seen through
PgBouncer.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from workhorse.contracts import Query, Terms
from workhorse.errors import StartupError
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit

TIMEOUTS = "SELECT name, setting FROM pg_settings WHERE name ~ '^(statement|lock|idle_in_transaction_session)_timeout$'"


@asynccontextmanager
async def pooled(url: str, **options: Any) -> AsyncGenerator[PostgresDatabase]:
    database = PostgresDatabase(url, pool_max=1, pooled=True, **options)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def test_time_limits_are_those_of_each_transaction_and_end_with_it(database_url: str) -> None:
    async def main() -> None:
        async with pooled(database_url, statement_timeout_seconds=7, idle_timeout_seconds=9) as database:
            limits = {"statement_timeout": "7000", "idle_in_transaction_session_timeout": "9000", "lock_timeout": "0"}
            async with Unit(database) as work:
                assert dict(await (await work.execute(TIMEOUTS)).fetchall()) == limits
                await work.execute("SET statement_timeout = 1")
            assert dict(await database.run(Query(TIMEOUTS))) == limits
            transaction, row = await database.begin(Query("SELECT 5"), terms=Terms(deadline=time.monotonic() + 2))
            assert row == (5,)
            near: dict[str, str] = dict(await (await transaction.execute(TIMEOUTS)).fetchall())
            assert 1_500 < int(near["lock_timeout"]) < int(near["statement_timeout"]) <= 2_000
            await transaction.rollback()
            connection = await database._pool.getconn()  # pyright: ignore[reportPrivateUsage]
            kept = await (await connection.execute(TIMEOUTS)).fetchall()
            await connection.rollback()
            await database._pool.putconn(connection)  # pyright: ignore[reportPrivateUsage]
            assert {setting for name, setting in kept if name != "statement_timeout"} == {"0"}

    asyncio.run(main())


def test_a_statement_outside_of_units_has_its_limit_too(database_url: str) -> None:
    async def main() -> None:
        async with pooled(database_url, statement_timeout_seconds=0.3) as database:
            with pytest.raises(psycopg.errors.QueryCanceled):
                await database.run(Query("SELECT pg_sleep(20)"))
            assert len(await database.run(Query("SELECT 1"))) == 1

    asyncio.run(main())


def test_no_statement_is_prepared(database_url: str) -> None:
    async def main() -> None:
        async with pooled(database_url) as database:
            for number in range(8):
                await database.run(Query("SELECT %s::int", (number,)))
                async with Unit(database) as work:
                    await work.execute("SELECT %s::int + 1", (number,))
            assert await database.run(Query("SELECT name FROM pg_prepared_statements")) == ()

    asyncio.run(main())


def test_a_session_that_is_not_what_was_asked_for_stops_the_start(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:  # as if another had had the session before
        connection.execute(
            "CREATE FUNCTION forget() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM set_config('statement_timeout', '0', false); END $$"
        )
        connection.execute("CREATE EVENT TRIGGER forget ON login EXECUTE FUNCTION forget()")

    async def main() -> None:
        database = PostgresDatabase(database_url)
        with pytest.raises(StartupError, match=r"database\.pooler_url"):
            await database.open()
        async with pooled(database_url) as database:
            assert len(await database.run(Query("SELECT 1"))) == 1

    asyncio.run(main())
