"""A job's frames, its events and its end are one commit, whatever is killed; and it reads what its caller may read."""

import asyncio
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.analytics.frames.job_process import sum_up
from tests.jobs.kit import opened, until
from workhorse.analytics.frames import FrameMisfit, read_frame, sync_read_frame, sync_write_frame, write_frame
from workhorse.analytics.tables import Access, Tables
from workhorse.analytics.tables.access import ColumnsRefused
from workhorse.jobs import Job, Retries, job
from workhorse.jobs.in_process import in_process
from workhorse.migrations import WORKHORSE
from workhorse.principal import Principal
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.sqlalchemy.database import SQLAlchemyDatabase
from workhorse.units import Unit, unit
from workhorse.units.threads import sync_unit

ROOT = Path(__file__).parents[3]
TOTALS = "SELECT account, total::text FROM totals ORDER BY account"
DONE = "SELECT count(*) FROM workhorse.finished_jobs WHERE outcome = 'done'"
DEAD = "SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'"


@pytest.fixture
def url(database_url: str) -> str:
    """Two accounts with three entries, and a table for their totals."""
    asyncio.run(apply_migrations(database_url, [WORKHORSE]))
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE entries (account int8, amount numeric(12,2), name text)")
        connection.execute("CREATE TABLE totals (account int8, total numeric(12,2), tags text[], meta jsonb)")
        connection.execute("INSERT INTO entries VALUES (1, 0.10, 'Ada'), (1, 0.20, 'Ada'), (2, 5, 'Bob')")
    return database_url


def ask(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def run(url: str, tables: Tables, one: Job[Any, Any], *, until_query: str) -> None:
    """Enqueue a job, and work until the query counts one."""

    async def main() -> None:
        source = PostgresFrames(url)
        async with opened(url) as database:
            tables.bind(source, database=database, max_rows=1_000)
            await one.enqueue_alone(database)
            async with in_process(database, [one]):
                await until(lambda: ask(url, until_query) == [(1,)])
        await source.close()

    asyncio.run(main())


def test_a_job_in_a_thread_reads_and_writes_frames_and_its_event_commits_with_them(url: str) -> None:
    tables = Tables()

    @job()
    def totals() -> None:
        frame = sync_read_frame(tables.select("SELECT account, amount FROM entries"), "pandas")
        sums = frame.groupby("account", as_index=False)["amount"].sum().rename(columns={"amount": "total"})
        sync_write_frame(sums, into="totals", mode="replace", key=["account"])
        sync_unit().emit("totals.written", subject="totals")

    run(url, tables, totals, until_query=DONE)
    assert ask(url, TOTALS) == [(1, "0.30"), (2, "5.00")]
    assert ask(url, "SELECT type FROM workhorse.events") == [("totals.written",)]


def test_a_job_whose_second_frame_misfits_has_written_neither(url: str) -> None:
    @job(retries=Retries(attempts=1))
    async def totals() -> None:
        await write_frame(pl.DataFrame({"account": [1]}), into="totals")
        await (await unit()).emit("totals.written", subject="totals")
        await write_frame(pl.DataFrame({"account": ["x"]}), into="totals")

    run(url, Tables(), totals, until_query=DEAD)
    assert ask(url, TOTALS) == []
    assert ask(url, "SELECT count(*) FROM workhorse.events") == [(0,)]
    [(failures,)] = ask(url, "SELECT failures::text FROM workhorse.jobs")
    assert "row 1, account: 'x'" in failures


@pytest.mark.slow
def test_a_job_that_is_killed_between_its_frame_and_its_commit_writes_once_when_it_is_run_again(url: str) -> None:
    async def enqueue() -> None:
        async with opened(url) as database:
            await sum_up.enqueue_alone(database)

    asyncio.run(enqueue())
    command = [sys.executable, "-m", "tests.analytics.frames.job_process", url]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert ask(url, TOTALS) == []
    subprocess.run(command, cwd=ROOT, check=True, timeout=90)
    assert ask(url, TOTALS) == [(1, "0.30"), (2, "5.00")]
    assert ask(url, "SELECT count(*) FROM workhorse.events") == [(1,)]
    assert ask(url, "SELECT attempt FROM workhorse.finished_jobs") == [(2,)]


class OwnersOnly:
    """Names are for who has a scope."""

    def class_of(self, column: str) -> str | None:
        return {"name": "personal", "account": "plain"}.get(column)

    def access(self, class_: str, principal: Principal) -> Access:
        return Access.ALLOW if class_ == "plain" or principal.may("names:read") else Access.REFUSE

    def audited(self, class_: str) -> bool:
        return class_ == "personal"


def test_a_job_may_not_read_a_personal_column_that_a_caller_without_scopes_may_not_read(url: str) -> None:
    tables, told = Tables(privacy=OwnersOnly()), []

    @job()
    async def look() -> None:
        assert (await read_frame(tables.select("SELECT account FROM entries"))).num_rows == 3
        try:
            await read_frame(tables.select("SELECT account, name FROM entries"))
        except ColumnsRefused as refused:
            told.append(str(refused))
        await unit()

    run(url, tables, look, until_query=DONE)
    assert len(told) == 1


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_over_an_apps_own_engine_a_frame_is_written_all_the_same(url: str, driver: str) -> None:
    frame: dict[str, Any] = {
        "account": list(range(5_000)),
        "total": [Decimal("1.10")] * 5_000,
        "tags": [["a", None, 'b"\\']] * 5_000,
        "meta": ['{"a": "\\"%s"}'] * 5_000,
    }

    async def main() -> None:
        engine = create_async_engine(url.replace("postgresql://", f"postgresql+{driver}://"))
        try:
            database = SQLAlchemyDatabase(engine)
            async with Unit(database):
                await write_frame(pa.table(frame), into="totals", mode="replace", key=["account"])
            with pytest.raises(FrameMisfit, match=r"does not fit public\.totals: row 1, account"):
                async with Unit(database):
                    await write_frame(pa.table({"account": ["x"]}), into="totals")
        finally:
            await engine.dispose()

    asyncio.run(main())
    assert ask(url, "SELECT count(*), sum(total)::text FROM totals") == [(5_000, "5500.00")]
    assert ask(url, "SELECT DISTINCT tags, meta FROM totals") == [(["a", None, 'b"\\'], {"a": '"%s'})]
