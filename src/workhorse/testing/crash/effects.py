"""What a request has done to the database: how many rows each table has, and what the test's own queries say.

Two databases that began as copies of one and went through the same requests must look alike here, whatever crashed
in between. Row counts need no word from the test; sums and balances it asks for by its `outcome` queries. Of
Workhorse's own tables only the events and the jobs are effects: kept replies, counters and sessions are bookkeeping.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from workhorse.errors import StartupError
from workhorse.sql import load_queries

__all__ = ["Effects", "Invariant", "await_rest", "broken_invariants", "difference", "read_effects"]

REST_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.02
SHOWN_ROWS: Final = 5

Invariant = Callable[[psycopg.Connection[Any]], object]
"""Looks at the database. It raises, or returns False, where something is not as it must be."""


@dataclass(frozen=True, slots=True)
class Effects:
    """How the database looks. `rows` by table, `outcomes` by query."""

    rows: Mapping[str, int]
    outcomes: Mapping[str, tuple[tuple[Any, ...], ...]]


def read_effects(url: str, *, outcome: Sequence[str] = (), ignore: Sequence[str] = ()) -> Effects:
    """Look at a database.

    Args:
        url: the database's.
        outcome: queries of the test.
        ignore: tables that are no effects, as `schema.table`.

    Raises:
        psycopg.Error: a query failed.
    """
    queries = load_queries("workhorse.testing.crash", "effects.sql")
    with psycopg.connect(url) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows: dict[str, int] = {}
        for schema, table, effect in connection.execute(queries["effect_tables"].encode()).fetchall():
            if f"{schema}.{table}" in ignore or effect in ignore:
                continue
            counting = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
            (count,) = connection.execute(counting).fetchone() or (0,)
            rows[effect] = rows.get(effect, 0) + count
        outcomes = {query: tuple(connection.execute(query.encode()).fetchall()) for query in outcome}
        connection.rollback()
    return Effects(rows, outcomes)


def difference(found: Effects, wanted: Effects) -> list[str]:
    """Each difference as a sentence, none where both look alike. Pure."""
    sentences = [
        f"{name}: {found.rows.get(name, 0)} rows instead of {wanted.rows.get(name, 0)}"
        for name in sorted({*found.rows, *wanted.rows})
        if found.rows.get(name, 0) != wanted.rows.get(name, 0)
    ]
    sentences += [
        f"`{query}`: {_shown(found.outcomes.get(query, ()))} instead of {_shown(rows)}"
        for query, rows in wanted.outcomes.items()
        if found.outcomes.get(query, ()) != rows
    ]
    return sentences


def broken_invariants(url: str, invariants: Sequence[Invariant]) -> list[str]:
    """Ask each invariant; a sentence for each that does not hold. What they write is rolled back."""
    broken: list[str] = []
    for invariant in invariants:
        name = getattr(invariant, "__name__", repr(invariant))
        with psycopg.connect(url) as connection:
            try:
                if invariant(connection) is False:
                    broken.append(f"{name} is not true")
            except Exception as error:  # noqa: BLE001 - whatever a test's function raises is what it has to say
                broken.append(f"{name}: {type(error).__name__}: {error}".rstrip(": "))
            connection.rollback()
    return broken


def await_rest(url: str) -> None:
    """Wait until nobody else is connected: what the dead left behind has been rolled back.

    Raises:
        StartupError: somebody stays.
    """
    others = load_queries("workhorse.testing.crash", "effects.sql")["others"].encode()
    give_up = time.monotonic() + REST_SECONDS
    with psycopg.connect(url, autocommit=True) as connection:
        while left := connection.execute(others).fetchall():
            if time.monotonic() > give_up:
                raise StartupError(f"{REST_SECONDS:g} s after the crash there are still connections: {left}")
            time.sleep(POLL_SECONDS)


def _shown(rows: Sequence[tuple[Any, ...]]) -> str:
    shown = ", ".join(str(row[0]) if len(row) == 1 else str(row) for row in rows[:SHOWN_ROWS])
    return (shown or "nothing") + (f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else "")
