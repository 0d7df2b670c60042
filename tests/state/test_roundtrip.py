"""Several commands in one round trip: their rows, their failures, and a connection that forgets."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus

from workhorse.contracts import Query
from workhorse.embedded import attach
from workhorse.errors import OutcomeUnknown, UnitError
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.roundtrip import Prepared, encoded, numbered, round_trip

Connection = psycopg.AsyncConnection[Any]
KEY = UUID("8e03978e-40d5-43dd-bc93-6894a57f9324")


def on_connection(url: str, script: Callable[[Connection, Prepared], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await script(connection, set())

    return asyncio.run(main())


def test_each_command_gets_its_rows_and_values_keep_their_types(database_url: str) -> None:
    async def script(connection: Connection, prepared: Prepared) -> Any:
        typed = Query(
            "SELECT %s::uuid, %s::bytea, %s::int, %s::text, %s::bool", (KEY, b"\0'\\\xff", -7, "%\u20ac'", None)
        )
        return await round_trip(connection, (Query("BEGIN"), typed, Query("SELECT 1 WHERE false")), prepared)

    assert on_connection(database_url, script) == [(), [(KEY, b"\0'\\\xff", -7, "%\u20ac'", None)], ()]


def test_a_failure_ends_the_rest_and_leaves_a_usable_connection(database_url: str) -> None:
    async def script(connection: Connection, prepared: Prepared) -> Any:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await round_trip(connection, (Query("BEGIN"), Query("SELECT 1 / 0"), Query("SELECT 2")), prepared)
        assert connection.pgconn.pipeline_status == PipelineStatus.OFF
        assert connection.info.transaction_status == TransactionStatus.INERROR
        await round_trip(connection, (Query("ROLLBACK"),), prepared)
        return await round_trip(connection, (Query("SELECT 2"),), prepared)

    assert on_connection(database_url, script) == [[(2,)]]


def test_what_the_connection_forgot_is_noticed_and_prepared_anew(database_url: str) -> None:
    async def script(connection: Connection, prepared: Prepared) -> Any:
        await round_trip(connection, (Query("SELECT 1"),), prepared)
        assert len(prepared) == 1
        await connection.execute("DEALLOCATE ALL")
        await connection.rollback()
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            await round_trip(connection, (Query("SELECT 1"),), prepared)
        assert not prepared
        return await round_trip(connection, (Query("SELECT 1"),), prepared)

    assert on_connection(database_url, script) == [[(1,)]]


def test_a_unit_survives_an_app_that_makes_its_connection_forget(database_url: str) -> None:
    async def main() -> list[int]:
        database = PostgresDatabase(database_url, pool_min=1, pool_max=1)
        await database.open()
        seen: list[int] = []
        for number in range(3):
            transaction, row = await database.begin(Query("SELECT %s::int", (number,)))
            assert row is not None
            seen.append(row[0])
            await transaction.commit()
            async with database._pool.connection() as connection:
                await connection.execute("DEALLOCATE ALL")
        await database.close()
        return seen

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_statement_longer_than_the_sockets_buffers_gets_through(database_url: str) -> None:
    big = b"x" * 30_000_000

    async def script(connection: Connection, prepared: Prepared) -> Any:
        return await round_trip(connection, (Query("SELECT length(%s::bytea)", (big,)),) * 2, prepared)

    assert on_connection(database_url, script) == [[(30_000_000,)]] * 2


def test_placeholders_are_numbered_and_named_ones_refused() -> None:
    assert numbered("SELECT %s, %s, 5 %% 3")[1] == b"SELECT $1, $2, 5 % 3"
    assert numbered("SELECT 1")[0] == numbered("SELECT 1")[0] != numbered("SELECT 2")[0]
    for sql in ("SELECT %(name)s", "SELECT 5 % 3"):
        with pytest.raises(ValueError, match="only %s"):
            numbered(sql)


def test_values_of_other_types_are_refused() -> None:
    assert encoded([1, "a", KEY, b"b", None]) == ([b"1", b"a", str(KEY).encode(), b"b", None], [0, 0, 0, 1, 0])
    with pytest.raises(TypeError, match="list cannot be sent"):
        encoded([[1]])


def test_a_transaction_whose_connection_dies_before_the_commit_reports_an_unknown_outcome(database_url: str) -> None:
    async def main() -> None:
        database = PostgresDatabase(database_url)
        await database.open()
        transaction, row = await database.begin(Query("SELECT pg_backend_pid()"))
        assert row is not None
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", row)
        try:
            with pytest.raises(OutcomeUnknown):
                await transaction.commit([Query("SELECT 1")])
            assert transaction.lost
        finally:
            await database.close()

    asyncio.run(main())


def test_a_failed_transaction_is_never_called_committed(database_url: str) -> None:
    async def main() -> None:
        database = PostgresDatabase(database_url)
        await database.open()
        transaction, _ = await database.begin(Query("SELECT 1"))
        with pytest.raises(psycopg.Error):
            await transaction.execute("SELECT 1 / 0")
        with pytest.raises(UnitError, match="nothing can be committed"):
            await transaction.commit([Query("SELECT 1")])
        await transaction.rollback()
        await database.close()

    asyncio.run(main())


def test_a_server_that_neither_answers_nor_ends_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """Its processes are stopped, so its own time-outs do not fire."""
    with attach(tmp_path / "own", cache=False, linger_seconds=0) as own:

        async def main() -> list[float]:
            database = PostgresDatabase(own.database_url, statement_timeout_seconds=0.2)
            database._patience = 0.5
            await database.open()
            transaction, row = await database.begin(Query("SELECT pg_backend_pid()"))
            assert row is not None
            waits: list[float] = []
            os.kill(row[0], signal.SIGSTOP)
            try:
                for work in (transaction.execute("SELECT 1"), transaction.rollback()):
                    began = time.monotonic()
                    with contextlib.suppress(psycopg.errors.QueryCanceled):
                        await work
                    waits.append(time.monotonic() - began)
            finally:
                os.kill(row[0], signal.SIGCONT)
            another, _ = await database.begin(Query("SELECT 1"))
            await another.commit()
            await database.close()
            return waits

        waits = asyncio.run(main())
    assert waits[0] >= 0.5, "it did not wait, so nothing was tested"
    assert max(waits) < 8
