"""The clinic, served by `workhorse run` on a database of its own, one for the tests of a process."""

import os
from collections.abc import Iterator

import pytest

from clinic.demo import environment_of, prepare, serve
from clinic.story import Clinic
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.servers.launch import free_port

HOST = "127.0.0.1"
PASSWORD = "only in these tests"


@pytest.fixture(scope="module")
def clinic(servers: Attachment) -> Iterator[Clinic]:
    """A clinic with its staff, that runs."""
    url = fresh_database(servers.database_url)
    environment = environment_of(os.environ, url, PASSWORD)
    prepare(environment)
    port = free_port(HOST, 0)
    with serve(port, environment):
        yield Clinic(HOST, port, PASSWORD, url)
    drop_database(url)
