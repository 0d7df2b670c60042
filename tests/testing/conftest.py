"""Workhorse's own fixtures, as a project gets them that has the plugin, on the servers of this test run."""

import pytest

from workhorse.embedded import Attachment
from workhorse.testing.plugin import (
    as_caller,
    crash_test,
    service_client,
    workhorse_database,
    workhorse_environment,
    workhorse_migrations,
)

__all__ = [
    "as_caller",
    "crash_test",
    "service_client",
    "workhorse_database",
    "workhorse_environment",
    "workhorse_migrations",
]


@pytest.fixture(scope="session")
def workhorse_servers(servers: Attachment) -> Attachment:
    return servers
