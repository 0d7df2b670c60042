"""What the tests of the warehouse copy and ask, and the engines that they do it with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.analytics.measures.kit import REVENUE
from tests.units.databases import open_database
from workhorse.analytics.measures import Measure, Measures, Row
from workhorse.analytics.warehouse import Column, CopiedTable, Warehouse
from workhorse.state.warehouses.opening import open_engine
from workhorse.units import Unit

ENGINES = ["postgres", "duckdb"]
KEPT = Measure(
    "kept",
    of="transfer.posted",
    by=("currency",),
    window=("1 minute", "1 day"),
    keep=("2 days", None),
    sum="amount",
)
TRANSFERS = CopiedTable(
    "transfers",
    of="transfer.posted",
    columns=(Column("currency"), Column("country", "json", path="debtor.country"), Column("amount", "number")),
)
MEASURES = Measures([REVENUE, KEPT])


@asynccontextmanager
async def opened(database_url: str, engine_url: str, *, table: CopiedTable = TRANSFERS) -> AsyncIterator[Any]:
    """The journal's database, and a warehouse on the engine."""
    engine = open_engine(engine_url, statement_timeout_seconds=30)
    try:
        async with open_database("pool", database_url) as database:
            yield database, Warehouse([table], measures=[REVENUE, KEPT], engine=engine)
    finally:
        await engine.close()


async def embedded(database: Any, name: str = "revenue", **asked: Any) -> list[Row]:
    """What the measures of the journal's own database tell."""
    async with Unit(database) as work:
        return await MEASURES.read(work, name, **asked)


def told(rows: list[Row]) -> list[str]:
    """Rows in one order, for those of one window have none; with the digits of their numbers."""
    return sorted(str((r.starts.isoformat(), sorted(r.by.items(), key=str), *exact(r))) for r in rows)


def exact(row: Row) -> tuple[Any, ...]:
    """The figures. Of the least and the greatest the digits may be those of any that are as great."""
    least, most = (None if one is None else one.normalize() for one in (row.min, row.max))
    return row.events, row.rejected, str(row.sum), str(least), str(most), str(row.average)
