"""kill -9 of any process heals within seconds; what was committed is there, and nothing is left over."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.embedded.kit import (
    cache_at,
    client_process,
    kill,
    pid_of,
    processes_of,
    query,
    server,
    serves,
    steward_of,
    wait_until,
)
from workhorse.embedded import Attachment, ServerName, ServerState, attach, status


@pytest.fixture
def servers(folder: Path) -> Iterator[Attachment]:
    with attach(folder, linger_seconds=0.3) as servers:
        query(servers.database_url, "CREATE TABLE committed AS SELECT generate_series(1, 1000) AS id")
        yield servers


def rows(servers: Attachment) -> object:
    return query(servers.database_url, "SELECT count(*) FROM committed")


def assert_nothing_is_left(servers: Attachment) -> None:
    servers.close()
    wait_until(lambda: not processes_of(servers.folder), seconds=8)


def test_a_killed_client_takes_nothing_with_it_and_keeps_nothing_running(folder: Path) -> None:
    with client_process(folder, linger_seconds=0.5) as (process, url):
        assert serves(url)
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(folder), seconds=5)
    with attach(folder) as servers:
        assert serves(servers.database_url)


def test_a_killed_steward_takes_its_servers_along_and_a_client_starts_another(servers: Attachment) -> None:
    folder = servers.folder
    before = steward_of(folder)
    old = {pid_of(folder, name) for name in ServerName}
    kill(before)
    seconds = wait_until(lambda: status(folder).steward_pid not in {None, before} and serves(servers.database_url))
    assert seconds < 5
    assert rows(servers) == 1000
    assert steward_of(folder) != before
    assert not old & set(processes_of(folder))
    wait_until(lambda: server(folder, ServerName.VALKEY).state is ServerState.RUNNING)
    with cache_at(servers.cache_url) as cache:
        assert cache.ping()
    assert_nothing_is_left(servers)


def test_a_steward_killed_without_clients_leaves_nothing(folder: Path) -> None:
    attach(folder, linger_seconds=60).close()
    assert len(processes_of(folder)) > 2
    kill(steward_of(folder))
    wait_until(lambda: not processes_of(folder), seconds=5)
    with attach(folder) as servers:
        assert serves(servers.database_url)


def test_a_killed_postmaster_is_started_again(servers: Attachment) -> None:
    folder = servers.folder
    killed = pid_of(folder, ServerName.POSTGRES)
    with psycopg.connect(servers.database_url, autocommit=True) as session:
        session.execute("INSERT INTO committed VALUES (1001)")
        kill(killed)
        seconds = wait_until(lambda: serves(servers.database_url))
        assert seconds < 5
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert rows(servers) == 1001
    wait_until(lambda: server(folder, ServerName.POSTGRES).state is ServerState.RUNNING)
    assert server(folder, ServerName.POSTGRES).restarts == 1
    assert killed not in processes_of(folder)
    assert_nothing_is_left(servers)


def test_a_killed_backend_is_recovered_by_postgres_itself(servers: Attachment) -> None:
    postmaster = pid_of(servers.folder, ServerName.POSTGRES)
    with psycopg.connect(servers.database_url) as session:
        assert session.info.backend_pid in processes_of(servers.folder)
        kill(session.info.backend_pid)
        assert wait_until(lambda: serves(servers.database_url)) < 5
    assert rows(servers) == 1000
    assert pid_of(servers.folder, ServerName.POSTGRES) == postmaster
    assert_nothing_is_left(servers)


def test_a_killed_valkey_is_started_again_with_its_data(servers: Attachment) -> None:
    folder = servers.folder
    with cache_at(servers.cache_url) as cache:
        cache.set("kept", 1)
    killed = pid_of(folder, ServerName.VALKEY)
    kill(killed)
    wait_until(lambda: server(folder, ServerName.VALKEY).pid not in {None, killed}, seconds=5)
    wait_until(lambda: server(folder, ServerName.VALKEY).state is ServerState.RUNNING, seconds=5)
    with cache_at(servers.cache_url) as cache:
        assert cache.get("kept") == b"1"
    assert_nothing_is_left(servers)


def test_everything_killed_at_once_comes_back(servers: Attachment) -> None:
    for pid in processes_of(servers.folder):
        try:
            kill(pid)
        except ProcessLookupError:
            continue
    assert wait_until(lambda: serves(servers.database_url)) < 10
    assert rows(servers) == 1000
    assert_nothing_is_left(servers)


@pytest.mark.slow
def test_no_committed_row_is_lost_when_processes_are_killed_while_rows_are_written(servers: Attachment) -> None:
    folder = servers.folder
    query(servers.database_url, "CREATE TABLE ledger (id int PRIMARY KEY)")
    committed: list[int] = []
    number = 0
    for victim in (ServerName.POSTGRES, None, ServerName.POSTGRES, None):
        end = time.monotonic() + 0.5
        struck = False
        while time.monotonic() < end + 0.5 or not serves(servers.database_url):
            number += 1
            try:
                with psycopg.connect(servers.database_url, autocommit=True) as session:
                    session.execute("INSERT INTO ledger VALUES (%s)", (number,))
                    committed.append(number)
            except psycopg.Error:
                time.sleep(0.02)
            if time.monotonic() > end and not struck:
                struck = True
                kill(steward_of(folder) if victim is None else pid_of(folder, victim))
    wait_until(lambda: serves(servers.database_url))
    with psycopg.connect(servers.database_url) as session:
        stored = {row[0] for row in session.execute("SELECT id FROM ledger")}
    assert len(committed) > 20
    assert set(committed) <= stored
    assert_nothing_is_left(servers)


def test_a_steward_that_gets_sigterm_stops_its_servers_cleanly(folder: Path) -> None:
    attach(folder, linger_seconds=60).close()
    os.kill(steward_of(folder), signal.SIGTERM)
    wait_until(lambda: not processes_of(folder), seconds=5)
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_a_folder_that_is_deleted_takes_its_servers_along(folder: Path, tmp_path: Path) -> None:
    with attach(folder, linger_seconds=60):
        folder.rename(tmp_path / "moved")
        wait_until(lambda: not processes_of(folder) and not processes_of(tmp_path / "moved"), seconds=10)
        time.sleep(1)
        assert not folder.exists(), "the watch must not make it again"
