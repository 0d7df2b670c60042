"""What the tests of measures count, and how they count it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from tests.units.databases import Sql, open_database
from workhorse.analytics.measures import Measure
from workhorse.feeds import FeedReader
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit

REVENUE = Measure(
    "revenue",
    of="transfer.posted",
    by=("currency", "debtor.country"),
    sum="amount",
    min="amount",
    max="amount",
    average="amount",
)
Script = Callable[[Any, Sql], Awaitable[Any]]


def run(database_url: str, script: Script) -> Any:
    """Run a script on a database, with a connection beside it for SQL by hand."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def sql(statement: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

        async def main() -> Any:
            await apply_migrations(database_url, [WORKHORSE])
            async with open_database("pool", database_url) as database:
                return await script(database, sql)

        return asyncio.run(main())


async def drain(database: Any, *counted: Any) -> None:
    """Read all that there is for what has feeds: measures, or a warehouse."""
    for one in counted:
        for feed in one.feeds:
            while await FeedReader(database, feed).drain():
                pass


async def post(database: Any, *amounts: Any, currency: Any = "EUR", country: Any = "DE") -> None:
    """Commit a transfer of each amount."""
    async with Unit(database) as work:
        for amount in amounts:
            data = {"amount": amount, "currency": currency, "debtor": {"country": country}}
            await work.emit("transfer.posted", subject="t", data=data)
