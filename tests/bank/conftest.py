"""An empty bank of its own for each test, on the servers of the whole run."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.bank.ledgers import Connection
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations

BANK = Migrations(name="bank", package="bank", folder="sql/migrations")


@pytest.fixture
def bank_database(database_url: str) -> str:
    """The URL of an empty bank."""
    asyncio.run(apply_migrations(database_url, [WORKHORSE, BANK]))
    return database_url


@pytest.fixture
def ledger(bank_database: str) -> Iterator[Connection]:
    """An autocommitting connection to an empty bank."""
    with psycopg.connect(bank_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def samples() -> Path:
    """The folder of payment files."""
    return Path(__file__).parent / "pain001"
