"""The fixtures, as a plugin of pytest: installed with Workhorse, and there without an import.

    workhorse_servers      real Postgres and Valkey for the test run, shared by the processes of pytest-xdist
    workhorse_migrations   the app's own migrations; override it in your conftest.py
    workhorse_database     the URL of a fresh, migrated database for each test
    workhorse_environment  points Workhorse's settings in this process at the two
    service_client         starts a service in this process, on the test's database, and gives a client
    as_caller              headers that prove who calls, with a token of the development issuer
    crash_test             kills a program at each of its dealings with the database

Nothing is started before a test asks for it, and nothing heavy imported: pytest loads this file in every run.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import httpx

    from workhorse.asgi import ASGIApp
    from workhorse.embedded import Attachment
    from workhorse.migrations import Migrations
    from workhorse.testing.crash import CrashTest

__all__ = [
    "AsCaller",
    "ServiceClient",
    "as_caller",
    "crash_test",
    "service_client",
    "workhorse_database",
    "workhorse_environment",
    "workhorse_migrations",
    "workhorse_servers",
]

# The imports within the fixtures keep pytest's start quick for projects whose tests use none of them.
# ruff: noqa: PLC0415


class ServiceClient(Protocol):
    """What the fixture `service_client` gives: `workhorse.testing.service_client`, on the test's own database."""

    def __call__(
        self,
        app: "ASGIApp",
        *,
        headers: Mapping[str, str] | None = None,
        base_url: str = "http://localhost",
        raise_app_exceptions: bool = False,
    ) -> "AbstractAsyncContextManager[httpx.AsyncClient]":
        """Start the service, and give a client of it."""
        ...


class AsCaller(Protocol):
    """What the fixture `as_caller` gives."""

    def __call__(self, subject: str, *scopes: str, **claims: Any) -> dict[str, str]:
        """The headers of a request by `subject`, with these scopes, and claims such as `roles` and `tenant`."""
        ...


@pytest.fixture(scope="session")
def workhorse_servers(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Attachment]":
    """The servers of this test run, shared by the processes of pytest-xdist."""
    from workhorse.embedded import attach

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with attach(shared / "workhorse-servers", linger_seconds=2) as attachment:
        yield attachment


@pytest.fixture(scope="session")
def workhorse_migrations() -> "Sequence[Migrations]":
    """The app's own sets of migrations: none. Override this fixture to return yours, such as `service.migrations`."""
    return ()


@pytest.fixture
def workhorse_database(workhorse_servers: "Attachment", workhorse_migrations: "Sequence[Migrations]") -> Iterator[str]:
    """The URL of a database of this test's own, with Workhorse's tables and the app's."""
    from workhorse.testing.databases import drop_database, migrated_database

    url = migrated_database(workhorse_servers.database_url, workhorse_migrations)
    yield url
    drop_database(url)


@pytest.fixture
def workhorse_environment(
    workhorse_servers: "Attachment", workhorse_database: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The variables that point Workhorse's settings at the test's servers. They are set while the test runs.

    The developer's own are taken out, so that a test means the same on every machine.
    """
    for name in list(os.environ):
        if name.startswith("WORKHORSE_"):
            monkeypatch.delenv(name)
    variables = {
        "WORKHORSE_ENVIRONMENT": "test",
        "WORKHORSE_EMBEDDED__FOLDER": str(workhorse_servers.folder),
        "DATABASE_URL": workhorse_database,
        "CACHE_URL": workhorse_servers.cache_url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def service_client(workhorse_environment: dict[str, str]) -> ServiceClient:
    """What starts a service in this process, on the test's database."""
    del workhorse_environment  # it is there for what it sets
    from workhorse.testing.client import service_client

    return service_client


@pytest.fixture
def as_caller(workhorse_environment: dict[str, str]) -> AsCaller:
    """Mints tokens: `await client.get("/accounts/1", headers=as_caller("alice", "accounts:read"))`."""
    del workhorse_environment  # it is there for what it sets
    from workhorse.identity import DevelopmentIssuer
    from workhorse.settings import load_settings

    issuer = DevelopmentIssuer(load_settings())

    def headers(subject: str, *scopes: str, **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {issuer.mint(subject, scopes=scopes, claims=claims)}"}

    return headers


@pytest.fixture
def crash_test(
    workhorse_environment: dict[str, str],
    workhorse_database: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> "CrashTest":
    """Crash tests that start from the test's own database; programs run in pytest's root folder."""
    from workhorse.testing.crash import CrashTest

    scratch = tmp_path / "crash"
    scratch.mkdir()
    environment = {**workhorse_environment, "WORKHORSE_LOG__ACCESS": "false"}
    return CrashTest(workhorse_database, folder=pytestconfig.rootpath, scratch=scratch, environment=environment)
