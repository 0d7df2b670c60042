"""Single statements outside any unit."""

import asyncio

import psycopg
import pytest

from workhorse.contracts import Query
from workhorse.errors import DatabaseUnavailable
from workhorse.state.postgres.database import PostgresDatabase


def test_a_statement_commits_by_itself_and_gives_its_rows(database_url: str) -> None:
    async def main() -> None:
        database = PostgresDatabase(database_url, pool_max=1)
        await database.open()
        try:
            assert await database.run(Query("CREATE TABLE t (a int)")) == ()
            assert await database.run(Query("INSERT INTO t VALUES (%s), (%s) RETURNING a", (1, 2))) == [(1,), (2,)]
            with pytest.raises(psycopg.errors.DivisionByZero):
                await database.run(Query("SELECT 1 / %s::int", (0,)))
            assert await database.run(Query("SELECT sum(a) FROM t")) == [(3,)]
        finally:
            await database.close()

    asyncio.run(main())


def test_a_connection_that_died_is_replaced_only_for_what_may_run_twice(database_url: str) -> None:
    async def main() -> None:
        database = PostgresDatabase(database_url, pool_max=1)
        await database.open()
        kill = Query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        try:
            other = PostgresDatabase(database_url, pool_max=1)
            await other.open()
            await other.run(kill)
            with pytest.raises(DatabaseUnavailable):
                await database.run(Query("SELECT 1"))
            await database.run(Query("SELECT 1"), repeatable=True)
            await other.run(kill)
            assert await database.run(Query("SELECT 1"), repeatable=True) == [(1,)]
            await other.close()
        finally:
            await database.close()

    asyncio.run(main())
