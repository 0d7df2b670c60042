"""A real Postgres for the bank's tests: one server for the whole run, a database of its own for each test."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from workhorse.embedded import Attachment, attach, drop_database, fresh_database
from workhorse.migrations import Migrations
from workhorse.state.postgres.migrate import apply_migrations

BANK = Migrations(name="bank", package="bank", folder="sql/migrations")


@pytest.fixture(scope="session")
def bank_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attachment]:
    folder = tmp_path_factory.getbasetemp()
    # Under pytest-xdist the workers share the server; their folders lie side by side.
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with attach(shared / "bank-server", cache=False) as attachment:
        yield attachment


@pytest.fixture
def bank_database(bank_server: Attachment) -> Iterator[str]:
    """The URL of an empty bank."""
    url = fresh_database(bank_server)
    asyncio.run(apply_migrations(url, [BANK]))
    yield url
    drop_database(url)


@pytest.fixture
def ledger(bank_database: str) -> Iterator[psycopg.Connection]:
    """An autocommitting connection to an empty bank."""
    with psycopg.connect(bank_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def samples() -> Path:
    """The folder of payment files."""
    return Path(__file__).parent / "pain001"
