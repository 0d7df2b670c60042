"""Applies migrations: one process at a time, each file in a transaction of its own together with its record.

An advisory lock keeps the workers of a cluster that start at once from doing it twice: the second one waits, then
finds nothing left to do. A statement that would wait long for a table lock gives up instead, because whoever queues
behind it would wait as well: the old version still serves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from workhorse.errors import StartupError
from workhorse.migrations import Migration, Migrations
from workhorse.sql import load_queries

__all__ = ["Pending", "apply_migrations", "pending_migrations"]

# An arbitrary key that no other program is likely to use: "workhors" in ASCII.
LOCK_KEY: Final = int.from_bytes(b"workhors", "big")


@dataclass(frozen=True, slots=True)
class Pending:
    """A migration that the database has not seen."""

    migrations: Migrations
    migration: Migration

    def __str__(self) -> str:
        return f"{self.migrations.name} {self.migration.number:04d}_{self.migration.name}"


async def pending_migrations(url: str, sets: Sequence[Migrations]) -> list[Pending]:
    """Tell which migrations the database at `url` lacks. Changes nothing.

    Raises:
        StartupError: the database cannot be reached, or a migration was changed after it had been applied.
    """
    async with await _connect(url) as connection:
        queries = load_queries("workhorse.state.postgres", "migrate.sql")
        row = await (await connection.execute(_sql(queries["has_ledger"]))).fetchone()
        return await _pending(connection, sets) if row and row[0] else _all(sets)


async def apply_migrations(
    url: str, sets: Sequence[Migrations], *, report: Callable[[Pending], None] | None = None
) -> list[Pending]:
    """Apply what the database at `url` lacks, and return it. `report` is called before each.

    Raises:
        StartupError: the database cannot be reached, a migration failed (nothing of it stands; those before it do),
            or one was changed after it had been applied.
    """
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    async with await _connect(url) as connection:
        try:
            await connection.execute(_sql(queries["limit_wait"]))
            await connection.execute(_sql(queries["lock"]), (LOCK_KEY,))
            await connection.execute(_sql(queries["create_schema"]))
            await connection.execute(_sql(queries["create_ledger"]))
        except psycopg.errors.LockNotAvailable as error:
            raise StartupError(
                "another process has been migrating this database for over a minute; wait for it"
            ) from error
        except psycopg.Error as error:
            raise StartupError(f"the database cannot be prepared for migrations: {str(error).strip()}") from error
        pending = await _pending(connection, sets)
        for one in pending:
            if report is not None:
                report(one)
            try:
                async with connection.transaction():
                    await connection.execute(_sql(queries["limit_locks"]))
                    await connection.execute(_sql(one.migration.sql))
                    await connection.execute(
                        _sql(queries["record"]),
                        (one.migrations.name, one.migration.number, one.migration.name, one.migration.checksum),
                    )
            except psycopg.Error as error:
                raise StartupError(f"the migration {one} failed and was undone: {error}") from error
        return pending


def _all(sets: Sequence[Migrations]) -> list[Pending]:
    return [Pending(migrations, migration) for migrations in sets for migration in migrations.load()]


async def _pending(connection: AsyncConnection[Any], sets: Sequence[Migrations]) -> list[Pending]:
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    rows = await (await connection.execute(_sql(queries["applied"]))).fetchall()
    applied: dict[tuple[str, int], str] = {(name, number): checksum for name, number, checksum in rows}
    pending: list[Pending] = []
    for one in _all(sets):
        checksum = applied.get((one.migrations.name, one.migration.number))
        if checksum is None:
            pending.append(one)
        elif checksum != one.migration.checksum:
            raise StartupError(
                f"the migration {one} was changed after this database had applied it; restore it and write a new one"
            )
    return pending


async def _connect(url: str) -> AsyncConnection[Any]:
    try:
        return await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=10, application_name="workhorse migrate"
        )
    except psycopg.Error as error:
        raise StartupError(f"the database cannot be reached to migrate it: {str(error).strip()}") from error


def _sql(text: str) -> bytes:
    """Psycopg takes literal strings, or bytes from those who vouch for them: these come from the package's files."""
    return text.encode()
