import asyncio

import psycopg
import pytest

from tests.jobs.kit import Sql
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations

TABLES = Migrations.inline(
    "jobs-tests",
    "CREATE TABLE effects (id int GENERATED ALWAYS AS IDENTITY, what text, at timestamptz DEFAULT clock_timestamp())",
)


@pytest.fixture
def url(database_url: str) -> str:
    """A database with the schema, and a table for the effects of jobs."""
    asyncio.run(apply_migrations(database_url, [WORKHORSE, TABLES]))
    return database_url


@pytest.fixture
def sql(url: str) -> Sql:
    """Ask the database itself, on a connection of its own."""

    def ask(statement: str, *params: object) -> list[tuple[object, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    return ask
