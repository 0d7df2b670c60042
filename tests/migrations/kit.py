"""What the tests of migrations share: runs, readers that hold locks, and processes to be killed."""

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from workhorse.migrations import Migrations
from workhorse.state.postgres.migrate import Patience, apply_migrations

SOON = Patience(lock_seconds=0.2, retry_seconds=20, turn_seconds=20, deadline_seconds=30)


def apply(url: str, *steps: str, patience: Patience = SOON, said: list[str] | None = None) -> list[str]:
    """Apply the steps as the set `own`, and return what was applied."""
    sets = [Migrations.inline("own", *steps)]
    say = None if said is None else said.append
    return [str(one) for one in asyncio.run(apply_migrations(url, sets, patience=patience, say=say))]


def ask(url: str, statement: str, *params: object) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), params)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def reader(url: str) -> Iterator[psycopg.Connection]:
    """A transaction of the old version's, which holds the lock that any reader holds."""
    with psycopg.connect(url, application_name="long report") as connection:
        connection.execute("SELECT * FROM t LIMIT 1")
        yield connection
        connection.rollback()


def migrator(url: str, *steps: str) -> subprocess.Popen[str]:
    """A process that applies the steps, to be killed."""
    program = f"""
        import asyncio
        from workhorse.migrations import Migrations
        from workhorse.state.postgres.migrate import Patience, apply_migrations

        patience = Patience(lock_seconds=0.2, retry_seconds=20, turn_seconds=20, deadline_seconds=30)
        sets = [Migrations.inline("own", *{steps!r})]
        asyncio.run(apply_migrations({url!r}, sets, patience=patience))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def until(what: Callable[[], Any], *, seconds: float = 15) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def migrators(url: str) -> int:
    """How many server processes work for a migrator."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^workhorse m'"
    )
    return int(ask(url, query)[0][0])
