"""A unit of work as a request has it, without the request: for the tests of what is between the routes and the SQL."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Work


@asynccontextmanager
async def unit_on(url: str) -> AsyncGenerator[Work]:
    """A unit as a request has it; committed at the end, or rolled back by an exception."""
    database = PostgresDatabase(url)
    await database.open()
    try:
        transaction, _ = await database.begin()
        try:
            yield Work(transaction)
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()
    finally:
        await database.close()
