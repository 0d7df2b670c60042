"""Applies migrations: forward, one process at a time, while the old version serves.

A statement that would wait long for a table's lock gives up and tries again, because whoever queues behind it would
wait as well. Each migration is recorded in the transaction that runs it (`migration_run`), so that a process which is
killed leaves nothing that the next run could not take up.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql

from workhorse.errors import StartupError
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.migrations.script import read_script
from workhorse.migrations.standing import Applied, Pending, Standing, compare
from workhorse.sql import Queries, load_queries
from workhorse.state.postgres.migration_patience import Deadline, Patience
from workhorse.state.postgres.migration_run import Runner, record_of
from workhorse.state.postgres.migration_turn import turn

__all__ = [
    "Patience",
    "Pending",
    "apply_migrations",
    "pending_migrations",
    "read_standing",
    "render_pending",
    "require_migrated",
]

CONNECT_SECONDS: Final = 10
# application_name holds 63 bytes.
MAX_NAME: Final = 63


async def read_standing(url: str, sets: Sequence[Migrations]) -> Standing:
    """Compare the sets with the database at `url`. Changes nothing.

    Raises:
        StartupError: the database cannot be reached, or a file of a set is missing or misnamed.
    """
    async with await _connect(url) as connection:
        return await _standing(connection, _queries(), sets)


async def pending_migrations(url: str, sets: Sequence[Migrations]) -> list[Pending]:
    """Tell which migrations the database at `url` lacks. Changes nothing.

    Raises:
        StartupError: the database cannot be reached, a migration was changed after it had been applied, or the database
            is of a version on which this code does not run.
    """
    standing = await read_standing(url, sets)
    standing.require()
    return list(standing.pending)


async def require_migrated(url: str, sets: Sequence[Migrations], *, target: str = "MODULE:ATTRIBUTE") -> None:
    """Insist that the database at `url` lacks nothing. Changes nothing.

    Args:
        url: of the database.
        sets: what it should have.
        target: the service, as the operator has to name it to `workhorse migrate`.

    Raises:
        StartupError: it lacks something, or see `pending_migrations`.
    """
    pending = await pending_migrations(url, sets)
    if pending:
        names = ", ".join(map(str, pending))
        ours = all(one.migrations == WORKHORSE for one in pending)
        command = "workhorse migrate" if ours else f"workhorse migrate {target}"
        raise StartupError(f"the database lacks migrations: {names}. Run `{command}` before this version.")


async def apply_migrations(
    url: str,
    sets: Sequence[Migrations],
    *,
    report: Callable[[Pending], None] | None = None,
    say: Callable[[str], None] | None = None,
    patience: Patience | None = None,
) -> list[Pending]:
    """Apply what the database at `url` lacks, and return it.

    Args:
        url: of the database: a direct connection, not a pooler's in transaction mode.
        sets: what it should have.
        report: called before each.
        say: is told, in a sentence, what is waited for.
        patience: how long.

    Raises:
        StartupError: the database cannot be reached, another process migrates it for too long, or a migration failed,
            could not have its locks in time, or was changed after it had been applied. Those before it stand; what of
            itself does, the message says.
    """
    queries, patience = _queries(), patience or Patience()
    deadline = Deadline(patience.deadline_seconds)
    heard = say if say is not None else _nobody
    async with await _connect(url) as connection:
        try:
            # Usually there is nothing to do, and then nobody has to wait for a lock.
            standing = await _standing(connection, queries, sets)
            standing.require()
            if not standing.pending:
                return []
            seconds = min(patience.turn_seconds, patience.deadline_seconds)
            async with turn(connection, queries, seconds=seconds, say=heard):
                await _prepare(connection, queries)
                standing = await _standing(connection, queries, sets)
                standing.require()
                runner = Runner(connection, queries, patience=patience, deadline=deadline, say=heard)
                for one in standing.pending:
                    if report is not None:
                        report(one)
                    await runner.run(one)
        except psycopg.Error as error:
            raise StartupError(
                f"the database cannot be migrated: {str(error).strip()}. What is done stands; run it again"
            ) from error
        return list(standing.pending)


def render_pending(standing: Standing) -> str:
    """The SQL that `apply_migrations` would run, to be read, or to be run by somebody else with psql."""
    queries = _queries()
    if not standing.pending:
        return ""
    parts = [f"{queries[name]};" for name in ("create_schema", "create_ledger", "add_needs")]
    for one in standing.pending:
        script = read_script(one.migration.sql, origin=str(one))
        record = _with_values(queries["record"], record_of(one, script)) + ";"
        if script.alone:
            steps = [
                ("-- again until it changes no row\n" if step.repeats else "") + f"{step.text};"
                for step in script.statements
            ]
            parts.append("\n".join((f"-- {one}, in no transaction", *steps, record)))
            continue
        limits = f"SET LOCAL lock_timeout = '{round(Patience().lock_seconds * 1000)}ms';"
        text = one.migration.sql.strip()
        end = "" if text.endswith(";") else "\n;"
        parts.append("\n".join((f"-- {one}", "BEGIN;", limits, record, text + end, "COMMIT;")))
    return "\n\n".join(parts) + "\n"


def _nobody(_: str) -> None:
    """Hears nothing."""


def _with_values(query: str, values: Sequence[str | int]) -> str:
    return query % tuple(sql.Literal(value).as_string() for value in values)


async def _standing(connection: AsyncConnection[Any], queries: Queries, sets: Sequence[Migrations]) -> Standing:
    _, ledger, *_ = await _books(connection, queries)
    if not ledger:
        return compare(sets, ())
    rows = await (await connection.execute(queries["applied"].encode())).fetchall()
    return compare(sets, [Applied(*row) for row in rows])


async def _books(connection: AsyncConnection[Any], queries: Queries) -> tuple[bool, bool, bool, bool]:
    row = await (await connection.execute(queries["books"].encode())).fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3]


async def _prepare(connection: AsyncConnection[Any], queries: Queries) -> None:
    """Make what is missing of the migrator's own tables. Only that: a role may lack the right to make a schema."""
    there = await _books(connection, queries)
    for exists, name in zip(there, ("create_schema", "create_ledger", "add_needs", "create_progress"), strict=True):
        if not exists:
            await connection.execute(queries[name].encode())


async def _connect(url: str) -> AsyncConnection[Any]:
    name = f"workhorse migrate {os.getpid()}@{socket.gethostname()}"[:MAX_NAME]
    try:
        return await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name=name
        )
    except psycopg.Error as error:
        raise StartupError(f"the database cannot be reached to migrate it: {str(error).strip()}") from error


def _queries() -> Queries:
    return load_queries("workhorse.state.postgres", "migrate.sql")
