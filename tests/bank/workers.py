"""A worker of the bank's jobs in this process, for the tests of what they do."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from bank.app import service
from workhorse.jobs import WorkerOptions
from workhorse.jobs.in_process import in_process
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit, Work

OPTIONS = WorkerOptions(concurrency=10, drain_seconds=5.0)
DEADLINE_SECONDS = 30


@asynccontextmanager
async def bank_on(url: str) -> AsyncGenerator[PostgresDatabase]:
    """The database, open during the block, for units of one's own."""
    database = PostgresDatabase(url, pool_min=1, pool_max=12)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def work_off(database: PostgresDatabase) -> None:
    """Run a worker until no job of the bank is left, dead ones aside."""
    async with in_process(database, service.jobs, options=OPTIONS), asyncio.timeout(DEADLINE_SECONDS):
        while await count(database, "SELECT count(*) FROM workhorse.jobs WHERE state <> 'dead'"):
            await asyncio.sleep(0.02)


async def count(database: PostgresDatabase, sql: str, *params: object) -> int:
    """The number that a query tells."""
    async with Unit(database) as work:
        ((number,),) = await (await work.execute(sql, params)).fetchall()
    return int(number)


def told(url: str, story: Callable[[Work], Awaitable[Any]]) -> Any:
    """Tell a story in a unit, have all jobs done that follow from it, and return its result."""

    async def tell() -> Any:
        async with bank_on(url) as database:
            async with Unit(database) as work:
                result = await story(work)
            await work_off(database)
        return result

    return asyncio.run(tell())
