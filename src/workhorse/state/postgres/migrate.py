"""Applies migrations: one process at a time, each file in a transaction of its own together with its record.

An advisory lock keeps the workers of a cluster that start at once from doing it twice: the second one waits, then
finds nothing left to do. A statement that would wait long for a table's lock gives up instead, because whoever queues
behind it would wait as well, while the old version still serves; it is tried again after a pause, until patience ends.

A migration that runs in no transaction can be cut off in the middle. CREATE INDEX CONCURRENTLY then leaves an index
that is not valid, which is dropped and built anew; one that is whole already is left as it is, and recorded.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from workhorse.errors import StartupError
from workhorse.migrations import Migration, Migrations
from workhorse.migrations.statements import statements
from workhorse.sql import load_queries

__all__ = ["Applied", "Pending", "Unknown", "apply_migrations", "list_migrations", "pending_migrations"]

# An arbitrary key that no other program is likely to use: "workhors" in ASCII.
LOCK_KEY: Final = int.from_bytes(b"workhors", "big")


PATIENCE_SECONDS: Final = 120.0
"""How long a migration is tried again that cannot have its lock."""
FIRST_PAUSE_SECONDS: Final = 0.5
MAX_PAUSE_SECONDS: Final = 8.0
_INDEX: Final = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>(?!ON\b)\S+)\s+ON\s+"
    r"(?:ONLY\s+)?(?P<table>[^\s(]+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that the database has."""

    migrations: Migrations
    migration: Migration
    at: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """A migration that the database has, and this code does not: a newer version's."""

    set_name: str
    number: int
    name: str
    at: datetime


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


async def list_migrations(url: str, sets: Sequence[Migrations]) -> list[Applied | Pending | Unknown]:
    """Every migration of the sets, and those that the database has of their names beside. Changes nothing.

    Raises:
        StartupError: see `pending_migrations`.
    """
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    async with await _connect(url) as connection:
        row = await (await connection.execute(_sql(queries["has_ledger"]))).fetchone()
        if not row or not row[0]:
            return [*_all(sets)]
        pending = {(one.migrations.name, one.migration.number) for one in await _pending(connection, sets)}
        rows = await (await connection.execute(_sql(queries["applied"]))).fetchall()
    at = {(set_name, number): (name, when) for set_name, number, _, name, when in rows}
    listed: list[Applied | Pending | Unknown] = []
    for migrations in sets:
        known = migrations.load()
        for one in known:
            key = (migrations.name, one.number)
            listed.append(Pending(migrations, one) if key in pending else Applied(migrations, one, at[key][1]))
        newer = (key for key in at if key[0] == migrations.name and key[1] > len(known))
        listed += [Unknown(*key, *at[key]) for key in newer]
    return listed


async def apply_migrations(
    url: str,
    sets: Sequence[Migrations],
    *,
    report: Callable[[Pending], None] | None = None,
    waiting: Callable[[Pending, float], None] | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[Pending]:
    """Apply what the database at `url` lacks, and return it.

    Args:
        url: of the database.
        sets: what it should have.
        report: called before each.
        waiting: called when one cannot have its lock, with the seconds until it is tried again.
        patience_seconds: how long one is tried.

    Raises:
        StartupError: the database cannot be reached, another process migrates it for too long, a migration failed
            (nothing of it stands; those before it do), could not have its lock in time, or was changed after it had
            been applied.
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
                f"another process has been migrating this database for over a minute ({await _holder(connection)});"
                " wait for it, or end it: what it was at is undone then"
            ) from error
        except psycopg.Error as error:
            raise StartupError(f"the database cannot be prepared for migrations: {str(error).strip()}") from error
        pending = await _pending(connection, sets)
        for one in pending:
            if report is not None:
                report(one)
            await _apply(connection, one, waiting=waiting, until=time.monotonic() + patience_seconds)
        return pending


async def _apply(
    connection: AsyncConnection[Any],
    one: Pending,
    *,
    waiting: Callable[[Pending, float], None] | None,
    until: float,
) -> None:
    """Apply one, again and again while it cannot have its lock."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            await (_run_alone if one.migration.alone else _run)(connection, one)
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() + pause > until:
                raise StartupError(
                    f"the migration {one} could not have its lock, and nothing of it stands: others' transactions hold"
                    " it. Look for the oldest in pg_stat_activity (xact_start), end them, and migrate again"
                ) from error
            if waiting is not None:
                waiting(one, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_SECONDS)
        except psycopg.Error as error:
            undone = "failed; run it again when that is mended" if one.migration.alone else "failed and was undone"
            raise StartupError(f"the migration {one} {undone}: {error}") from error
        else:
            return


async def _run(connection: AsyncConnection[Any], one: Pending) -> None:
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    async with connection.transaction():
        await connection.execute(_sql(queries["limit_locks"]))
        await connection.execute(_sql(one.migration.sql))
        await connection.execute(_sql(queries["record"]), _record(one))


async def _run_alone(connection: AsyncConnection[Any], one: Pending) -> None:
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    found = list(statements(one.migration.sql))
    if len(found) != 1:
        raise StartupError(
            f"the migration {one} runs in no transaction and has {len(found)} statements; give each a file of its own,"
            " since a crash between them could not be told"
        )
    await connection.execute(_sql(queries["limit_none_alone"]))
    built = _INDEX.search(found[0].words)
    if built is not None:
        name = _beside(built["name"], built["table"])
        row = await (await connection.execute(_sql(queries["index_state"]), (name,))).fetchone()
        if row is not None and not row[0]:
            await connection.execute(_sql(f"DROP INDEX CONCURRENTLY {name}"))  # what a crash has left of it
        whole = row is not None and row[0]
    else:
        whole = False
        await connection.execute(_sql(queries["limit_locks_alone"]))
    if not whole:
        await connection.execute(_sql(one.migration.sql))
    await connection.execute(_sql(queries["record"]), _record(one))


def _beside(index: str, table: str) -> str:
    """The index's name in the schema of its table, where Postgres makes it."""
    schema, dot, _ = table.rpartition(".")
    return f"{schema}{dot}{index}"


def _record(one: Pending) -> tuple[str, int, str, str]:
    return one.migrations.name, one.migration.number, one.migration.name, one.migration.checksum


async def _holder(connection: AsyncConnection[Any]) -> str:
    """Who holds the lock of migrations."""
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    keys = LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF
    row = await (await connection.execute(_sql(queries["holder"]), keys)).fetchone()
    return f"{row[0]}, connected for {row[1]} s" if row else "it has just ended"


def _all(sets: Sequence[Migrations]) -> list[Pending]:
    return [Pending(migrations, migration) for migrations in sets for migration in migrations.load()]


async def _pending(connection: AsyncConnection[Any], sets: Sequence[Migrations]) -> list[Pending]:
    queries = load_queries("workhorse.state.postgres", "migrate.sql")
    rows = await (await connection.execute(_sql(queries["applied"]))).fetchall()
    applied: dict[tuple[str, int], str] = {(set_name, number): checksum for set_name, number, checksum, *_ in rows}
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
