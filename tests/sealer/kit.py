"""A sealer over a real database, and the export of its log as an auditor gets it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.audit.kit import LOG, ORIGIN, TRUST
from tests.units.databases import Sql, open_database
from workhorse.audit import FolderExport, Report, Trust, verify
from workhorse.migrations import WORKHORSE
from workhorse.sealer import Anchor, KeyText, LogReader, Sealer, SealerOptions
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit

__all__ = ["KEYS", "ORIGIN", "TRUST", "Sql", "emit", "on_log", "on_sealed", "sealer", "verify_export"]

KEYS = KeyText(LOG)


def sealer(database: Any, *, keys: KeyText = KEYS, anchors: Sequence[Anchor] = (), batch: int = 1000) -> Sealer:
    return Sealer(database, SealerOptions(origin=ORIGIN, batch=batch, sign_every_seconds=0.0), keys, anchors=anchors)


async def emit(database: Any, count: int, *, first: int = 0) -> None:
    async with Unit(database) as work:
        for number in range(first, first + count):
            await work.emit("transfer.posted", subject=f"account:{number}", data={"amount": f"{number}.50"})


async def verify_export(database: Any, folder: Path, *, trust: Trust = TRUST, anchors: Sequence[bytes] = ()) -> Report:
    await LogReader(database).export(folder)
    return verify(FolderExport(folder), trust, anchors=anchors)


def on_log(database_url: str, script: Callable[[Any, Sql], Awaitable[Any]]) -> Any:
    """Run `script(database, sql)` on a database that is migrated first."""
    asyncio.run(apply_migrations(database_url, [WORKHORSE]))
    return on_sealed(database_url, script)


def on_sealed(database_url: str, script: Callable[[Any, Sql], Awaitable[Any]]) -> Any:
    """Run `script(database, sql)` on a database as it is."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def sql(statement: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

        async def main() -> Any:
            async with open_database("pool", database_url) as database:
                return await script(database, sql)

        return asyncio.run(main())
