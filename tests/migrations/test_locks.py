"""A migration never makes requests wait behind it, and what runs in no transaction survives being cut off."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from workhorse.errors import StartupError
from workhorse.migrations import Migrations
from workhorse.state.postgres.migrate import Applied, Pending, Unknown, apply_migrations, list_migrations

TABLE = "CREATE TABLE t (a int)"
ADD = "ALTER TABLE t ADD b int"
INDEX = "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY t_a ON t (a)"


def apply(url: str, *steps: str, patience: float = 30) -> list[str]:
    sets = [Migrations.inline("own", *steps)]
    return [str(one) for one in asyncio.run(apply_migrations(url, sets, patience_seconds=patience))]


@contextmanager
def reader(url: str) -> Iterator[psycopg.Connection]:
    """A transaction of the old version's, which holds the lock that any reader holds."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT * FROM t")
        yield connection
        connection.rollback()


def test_a_migration_waits_for_a_long_reader_without_making_others_wait(database_url: str) -> None:
    apply(database_url, TABLE)
    waits: list[float] = []
    slowest = 0.0

    with reader(database_url) as long:
        end = threading.Timer(4, long.rollback)
        end.start()
        sets = [Migrations.inline("own", TABLE, ADD)]
        migrating = threading.Thread(
            target=lambda: asyncio.run(
                apply_migrations(database_url, sets, waiting=lambda _, seconds: waits.append(seconds))
            )
        )
        migrating.start()
        with psycopg.connect(database_url, autocommit=True) as other:
            while migrating.is_alive():
                began = time.monotonic()
                other.execute("INSERT INTO t (a) VALUES (1)")
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.01)
        migrating.join()
        end.join()
    assert waits, "it should have given way at least once"
    assert slowest < 3  # lock_timeout is 2 s
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT b FROM t")


def test_without_its_lock_it_ends_with_what_to_do_and_nothing_of_it_stands(database_url: str) -> None:
    apply(database_url, TABLE)
    with reader(database_url), pytest.raises(StartupError, match=r"0002_inline could not have its lock.*xact_start"):
        apply(database_url, TABLE, ADD, patience=0.1)
    assert apply(database_url, TABLE, ADD) == ["own 0002_inline"]


def test_an_index_is_built_beside_those_who_write(database_url: str) -> None:
    assert apply(database_url, TABLE, INDEX) == ["own 0001_inline", "own 0002_inline"]
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a'::regclass").fetchone()
    assert row == (True,)


def test_an_index_that_a_crash_left_half_built_is_built_anew(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO t VALUES (1), (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)")  # leaves an index that is not valid
    assert apply(database_url, TABLE, INDEX) == ["own 0002_inline"]
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a'::regclass").fetchone()
    assert row == (True,)


def test_an_index_that_was_whole_before_the_crash_is_only_recorded(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE INDEX t_a ON t (a)")
        before = connection.execute("SELECT 't_a'::regclass::oid").fetchone()
        assert apply(database_url, TABLE, INDEX) == ["own 0002_inline"]
        assert connection.execute("SELECT 't_a'::regclass::oid").fetchone() == before


def test_two_statements_without_a_transaction_are_refused(database_url: str) -> None:
    apply(database_url, TABLE)
    with pytest.raises(StartupError, match="runs in no transaction and has 2 statements"):
        apply(database_url, TABLE, f"{INDEX}; DROP TABLE t")


def test_the_list_has_what_is_applied_lacking_and_of_a_newer_version(database_url: str) -> None:
    def listed(*steps: str) -> list[type]:
        sets = [Migrations.inline("own", *steps)]
        return [type(one) for one in asyncio.run(list_migrations(database_url, sets))]

    assert listed(TABLE) == [Pending]
    apply(database_url, TABLE, ADD)
    assert listed(TABLE, ADD, INDEX) == [Applied, Applied, Pending]
    assert listed(TABLE) == [Applied, Unknown]
