"""Workhorse's own migrations, and the bank's: what an old version does goes on while they run, and after them."""

import asyncio
import itertools
import re
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest

from workhorse.migrations import WORKHORSE, Migration, Migrations
from workhorse.migrations.safety import hazards
from workhorse.sql import parse_queries
from workhorse.state.postgres.migrate import Patience, apply_migrations

BANK = Migrations("bank", "bank")
PLACEHOLDER = re.compile(r"%s|%%")


@pytest.mark.parametrize("migrations", [WORKHORSE, BANK], ids=["workhorse", "bank"])
def test_our_own_are_safe(migrations: Migrations) -> None:
    found = {one.name: [str(hazard) for hazard in hazards(one.sql, number=one.number)] for one in migrations.load()}
    assert not any(found.values()), found


def relations(connection: "psycopg.Connection[Any]") -> set[int]:
    return {oid for (oid,) in connection.execute("SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm')")}


def exclusive(connection: "psycopg.Connection[Any]") -> set[tuple[int, str]]:
    """What this transaction has locked against readers, up to now: locks are held to its end."""
    return set(
        connection.execute(
            "SELECT l.relation, l.relation::regclass::text FROM pg_locks l WHERE l.pid = pg_backend_pid()"
            " AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted"
        )
    )


def test_none_of_ours_locks_readers_of_an_existing_table_out_for_longer_than_a_lock_may_be_waited_for(
    database_url: str,
) -> None:
    asyncio.run(apply_migrations(database_url, [Migrations.inline("none", "SELECT 1")]))
    seen: dict[str, list[str]] = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for migrations in (WORKHORSE, BANK):
            for migration in migrations.load():
                before = relations(connection)
                with connection.transaction():
                    began = time.monotonic()
                    connection.execute(migration.sql.encode())
                    locked = [name for oid, name in exclusive(connection) if oid in before]
                    held = time.monotonic() - began
                seen[f"{migrations.name} {migration.label}"] = locked
                assert not locked or held < Patience().lock_seconds, f"{migration.label} holds {locked} for {held} s"
    assert len(seen) == len(WORKHORSE.load()) + len(BANK.load())
    # What the probe sees at all, so that an empty list means something.
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE workhorse.leases ADD COLUMN x int")
        assert "workhorse.leases" in {name for _, name in exclusive(connection)}
        connection.rollback()


def statements() -> dict[str, str]:
    """All queries of the package, by file and name, as a server is asked to prepare them."""
    found: dict[str, str] = {}
    root = Path(str(files("workhorse")))
    for path in sorted(root.rglob("*.sql")):
        if path.parent.name == "migrations" or "testing" in path.parts:
            continue
        origin = str(path.relative_to(root))
        for name, text in parse_queries(path.read_text(encoding="utf-8"), origin=origin).items():
            found[f"{origin} {name}"] = numbered(text)
    return found


def numbered(text: str) -> str:
    """With the server's own placeholders in place of the driver's."""
    count = 0

    def place(match: "re.Match[str]") -> str:
        nonlocal count
        if match[0] == "%%":
            return "%"
        count += 1
        return f"${count}"

    return PLACEHOLDER.sub(place, text)


def accepted(connection: "psycopg.Connection[Any]", texts: dict[str, str]) -> set[str]:
    """Which of the statements the schema as it is now understands."""
    understood: set[str] = set()
    for name, text in texts.items():
        try:
            with connection.transaction():
                connection.execute(f"PREPARE probe AS {text}".encode())
                connection.execute("DEALLOCATE probe")
        except psycopg.Error:
            continue
        understood.add(name)
    return understood


@pytest.mark.slow
def test_a_statement_that_one_schema_of_ours_understands_all_later_ones_understand(database_url: str) -> None:
    texts, stages = statements(), list[set[str]]()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA workhorse")
        for migration in WORKHORSE.load():
            connection.execute(migration.sql.encode())
            stages.append(accepted(connection, texts))
    for earlier, later in itertools.pairwise(stages):
        assert not earlier - later, f"old code would fail in {sorted(earlier - later)}"
    assert len(stages[0]) < len(stages[-1])
    assert len(stages[-1]) > 40


def test_a_statement_of_old_code_that_no_longer_fits_would_be_seen(database_url: str) -> None:
    breaking = Migration(9, "x", "ALTER TABLE workhorse.leases RENAME COLUMN token TO fence")
    asyncio.run(apply_migrations(database_url, [WORKHORSE]))
    texts = {"select": "SELECT token FROM workhorse.leases WHERE name = $1"}
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert accepted(connection, texts) == {"select"}
        connection.execute(breaking.sql.encode())
        assert accepted(connection, texts) == set()
