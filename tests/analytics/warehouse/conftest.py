"""A second server, which has nothing to do with that of the journal."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analytics.warehouse.kit import ENGINES
from workhorse.embedded import Attachment, attach, drop_database, fresh_database


@pytest.fixture(scope="session")
def second_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attachment]:
    """Another Postgres server, with data and processes of its own."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with attach(shared / "warehouse", cache=False, linger_seconds=2) as attachment:
        yield attachment


@pytest.fixture(params=ENGINES)
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty engine of each kind."""
    if request.param == "duckdb":
        yield f"duckdb:{tmp_path}/warehouse.duckdb"
        return
    server: Attachment = request.getfixturevalue("second_server")
    url = fresh_database(server.database_url)
    yield url
    drop_database(url)
