"""A fresh database for each test."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.embedded.kit import query, serves
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.errors import EmbeddedServerError


@pytest.fixture
def url(servers: Attachment) -> Iterator[str]:
    url = fresh_database(servers)
    yield url
    drop_database(url)


def test_a_fresh_database_is_empty_and_apart_from_others(servers: Attachment, url: str) -> None:
    query(url, "CREATE TABLE mine (id int)")
    other = fresh_database(url)
    assert other != url
    assert query(other, "SELECT to_regclass('mine')") is None
    drop_database(other)
    assert not serves(other)
    assert serves(url)
    assert serves(servers.database_url)


def test_a_name_may_be_chosen_and_is_quoted(servers: Attachment) -> None:
    name = 'od"d / näme'
    url = fresh_database(servers, name)
    assert query(url, "SELECT current_database()") == name
    with pytest.raises(EmbeddedServerError, match="already exists"):
        fresh_database(servers, name)
    drop_database(url)
    drop_database(url)


def test_sessions_do_not_keep_a_database_from_being_dropped(servers: Attachment) -> None:
    url = fresh_database(servers)
    with psycopg.connect(url) as session:
        drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_the_databases_that_a_server_needs_are_not_dropped(servers: Attachment) -> None:
    with pytest.raises(EmbeddedServerError, match="'app'"):
        drop_database(servers.database_url)
