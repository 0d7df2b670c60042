"""A worker whose job writes a frame and, at its first attempt, is killed before the commit: `URL`."""

import asyncio
import os
import signal
import sys
from typing import Any, Final

import polars as pl

from tests.jobs.kit import opened
from workhorse.analytics.frames import read_frame, write_frame
from workhorse.analytics.tables import Tables
from workhorse.contracts import Query
from workhorse.jobs import Retries, WorkerOptions, current_job, job
from workhorse.jobs.in_process import in_process
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.units import unit

UNFINISHED: Final = Query("SELECT count(*)::int FROM workhorse.jobs")

tables = Tables()


@job(name="sum_up", retries=Retries(attempts=5, first_seconds=0.1))
async def sum_up() -> None:
    """The sum of each account."""
    entries: Any = await read_frame(tables.select("SELECT account, amount FROM entries"), "polars")
    await write_frame(entries.group_by("account").agg(total=pl.col("amount").sum()), into="totals")
    work = await unit()
    await work.emit("totals.written", subject="totals")
    if current_job().attempt == 1:
        await work.flush()
        os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str) -> None:
    """Work until no job is left."""
    source = PostgresFrames(url)
    options = WorkerOptions(concurrency=2, lease_seconds=1.0, beat_seconds=0.3, drain_seconds=2.0)
    async with opened(url) as database, asyncio.timeout(60):
        tables.bind(source, database=database, max_rows=1_000_000)
        async with in_process(database, [sum_up], options=options):
            while (await database.run(UNFINISHED))[0][0]:
                await asyncio.sleep(0.05)
    await source.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
