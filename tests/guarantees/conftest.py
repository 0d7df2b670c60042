import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations

TABLES = Migrations.inline("guarantees-tests", "CREATE TABLE orders (item text NOT NULL)")
Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def url(database_url: str) -> str:
    """A database with the schema, and a table of orders."""
    asyncio.run(apply_migrations(database_url, [WORKHORSE, TABLES]))
    return database_url


@pytest.fixture
def sql(url: str) -> Sql:
    """Ask the database itself, on a connection of its own."""

    def ask(statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    return ask
