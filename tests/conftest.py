"""Real servers for every test: one embedded Postgres and Valkey for the whole run, a fresh database a test."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from workhorse.embedded import Attachment, attach, drop_database, fresh_database
from workhorse.settings import Settings, load_settings

# How long one example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attachment]:
    """The servers of this test run, shared by the processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with attach(shared / "servers", linger_seconds=2) as attachment:
        yield attachment


@pytest.fixture
def database_url(servers: Attachment) -> Iterator[str]:
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
