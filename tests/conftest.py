"""Real servers for every test: one embedded Postgres and Valkey for the whole run, a database of its own a test."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest

from workhorse.embedded import Attachment, attach, drop_database, fresh_database
from workhorse.settings import Settings, load_settings
from workhorse.testing import migrated_database

# How long one example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attachment]:
    """The servers of this test run, shared by the processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with attach(shared / "servers", linger_seconds=2) as attachment:
        _forgo_syncs(attachment.database_url)
        yield attachment


def _forgo_syncs(url: str) -> None:
    """Have this run's Postgres leave writes to the operating system.

    That loses something only when the machine itself goes down; processes are killed here, never the machine. Each test
    makes and drops a database, which waits for the disk otherwise, longer than for all else that it does.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def database_url(servers: Attachment) -> Iterator[str]:
    """A database of this test's own, with Workhorse's tables: to copy them is quicker than to make them."""
    url = migrated_database(servers.database_url)
    yield url
    drop_database(url)


@pytest.fixture
def empty_database_url(servers: Attachment) -> Iterator[str]:
    """An empty database of this test's own."""
    url = fresh_database(servers.database_url)
    yield url
    drop_database(url)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Development settings on this test's own database."""
    return load_settings(tmp_path, database={"url": database_url}, log={"access": False})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in list(os.environ):
        if name.startswith("WORKHORSE_") or name in {"DATABASE_URL", "CACHE_URL"}:
            monkeypatch.delenv(name)
