"""A unit of work as a request has it, without the request: for the tests of what is between the routes and the SQL."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit, Work


@asynccontextmanager
async def unit_on(url: str) -> AsyncGenerator[Work]:
    """A unit as a request has it; committed at the end, or rolled back by an exception."""
    database = PostgresDatabase(url)
    await database.open()
    try:
        async with Unit(database) as work:
            yield work
    finally:
        await database.close()
