"""A worker whose job writes a frame and, at its first attempt, is killed before the commit: `URL ACCOUNTS`."""

import asyncio
import os
import signal
import sys

import polars as pl

from tests.jobs.kit import opened
from workhorse.analytics.frames import read_frame, write_frame
from workhorse.analytics.tables import Tables
from workhorse.jobs import WorkerOptions, current_job, job
from workhorse.jobs.in_process import in_process
from workhorse.jobs.retries import Retries
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.units import unit

tables = Tables()


@job(name="sum_up", retries=Retries(attempts=5, first_seconds=0.1))
async def sum_up() -> None:
    entries: pl.DataFrame = await read_frame(tables.select("SELECT account, amount FROM entries"), "polars")
    await write_frame(entries.group_by("account").agg(total=pl.col("amount").sum()), into="sums")
    await (await unit()).emit("sums.written", subject="sums")
    if current_job().attempt == 1:
        await (await unit()).flush()
        os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str) -> None:
    source = PostgresFrames(url)
    async with opened(url) as database:
        tables.bind(source, database=database, max_rows=1_000_000)
        options = WorkerOptions(concurrency=2, lease_seconds=1.0, beat_seconds=0.3, drain_seconds=2.0)
        async with in_process(database, [sum_up], options=options):
            async with asyncio.timeout(60):
                while await database.run(UNFINISHED) != [(0,)]:
                    await asyncio.sleep(0.05)
    await source.close()


if __name__ == "__main__":
    from workhorse.contracts import Query

    UNFINISHED = Query("SELECT count(*)::int FROM workhorse.jobs")
    asyncio.run(main(sys.argv[1]))
