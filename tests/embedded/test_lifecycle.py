"""Servers run while somebody is attached, are shared by all who are, and keep their data."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.embedded.kit import (
    cache_at,
    client_process,
    pid_of,
    processes_of,
    query,
    server,
    serves,
    steward_of,
    wait_until,
)
from workhorse.embedded import Attachment, ServerName, ServerState, attach, reset, status, stop
from workhorse.errors import EmbeddedServerError


def test_a_virgin_folder_gives_a_durable_postgres_and_a_cache(folder: Path) -> None:
    with attach(folder, linger_seconds=0) as servers, psycopg.connect(servers.database_url) as connection:
        shown = {
            name: connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "server_encoding")
        }
        assert shown == {
            "fsync": ("on",),
            "synchronous_commit": ("on",),
            "full_page_writes": ("on",),
            "listen_addresses": ("",),
            "server_encoding": ("UTF8",),
        }
        with cache_at(servers.cache_url) as cache:
            assert cache.set("key", "value")
            assert cache.config_get("appendonly") == {"appendonly": "yes"}
            assert cache.config_get("port") == {"port": "0"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


def test_data_survives_a_stop_and_a_start(folder: Path) -> None:
    with attach(folder) as servers:
        query(servers.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with cache_at(servers.cache_url) as cache:
            cache.set("answer", 42)
        url = servers.database_url
    assert stop(folder)
    assert not processes_of(folder)
    assert not serves(url)
    with attach(folder) as servers:
        assert servers.database_url == url
        assert query(url, "SELECT answer FROM kept") == 42
        with cache_at(servers.cache_url) as cache:
            assert cache.get("answer") == b"42"


def test_the_servers_leave_when_the_last_client_has_been_gone_for_the_lingering_time(folder: Path) -> None:
    with attach(folder, linger_seconds=0.5) as servers, client_process(folder) as (process, url):
        assert url == servers.database_url
        servers.close()
        time.sleep(1.2)
        assert serves(url), "another process is still attached"
        process.kill()
        process.wait()
    assert wait_until(lambda: not processes_of(folder), seconds=5) > 0.2
    assert not status(folder).running


def test_one_that_arrives_while_the_servers_leave_gets_servers(folder: Path) -> None:
    attach(folder, linger_seconds=0).close()
    for pause in (0.0, 0.1, 0.2, 0.25, 0.3, 0.35):
        time.sleep(pause)
        with attach(folder, linger_seconds=0) as servers:
            assert query(servers.database_url, "SELECT 1") == 1


def test_ten_processes_that_attach_at_once_to_a_virgin_folder_share_one_server(folder: Path) -> None:
    script = """
import sys
from pathlib import Path
import psycopg
from workhorse.embedded import attach
with attach(Path(sys.argv[1])) as servers, psycopg.connect(servers.database_url) as connection:
    print(connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone())
"""
    command = [sys.executable, "-c", script, str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(10)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, outputs
    assert len({printed for printed, _ in outputs}) == 1
    begun = [line for line in (folder / "steward.log").read_text().splitlines() if line.endswith("begins")]
    assert len(begun) == 1


def test_threads_of_one_process_may_attach_at_once(folder: Path) -> None:
    attached: list[Attachment] = []
    threads = [threading.Thread(target=lambda: attached.append(attach(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({servers.database_url for servers in attached}) == 1
    assert status(folder).clients == 4
    for servers in attached:
        servers.close()
        servers.close()
    assert status(folder).clients == 0


def test_a_server_that_was_not_asked_for_is_started_when_somebody_asks(folder: Path) -> None:
    with attach(folder, postgres=False) as first:
        assert [server.name for server in status(folder).servers] == [ServerName.VALKEY]
        with pytest.raises(EmbeddedServerError, match="postgres=True"):
            _ = first.database_url
        steward = steward_of(folder)
        with attach(folder) as second:
            assert query(second.database_url, "SELECT 1") == 1
            assert steward_of(folder) == steward


def test_stop_wins_over_attached_clients_until_somebody_attaches_anew(folder: Path) -> None:
    with attach(folder) as servers, client_process(folder):
        assert stop(folder)
        time.sleep(1.5)  # three rounds of each client's watch
        assert not status(folder).running
        assert not serves(servers.database_url)
        with attach(folder):
            assert serves(servers.database_url), "the earlier attachment is served as well"
    assert stop(folder)
    assert not stop(folder)


def test_stop_finds_nothing_to_stop_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert stop(tmp_path / "nothing") is False
    assert not (tmp_path / "nothing").exists()


def test_status_tells_what_a_person_wants_to_know(folder: Path) -> None:
    assert status(folder).servers == ()
    assert not folder.exists()
    with attach(folder), attach(folder):
        seen = status(folder)
        assert seen.running
        assert seen.clients == 2
        assert [server.name for server in seen.servers] == [ServerName.POSTGRES, ServerName.VALKEY]
        for one in seen.servers:
            assert one.state is ServerState.RUNNING
            assert one.pid in processes_of(folder)
            assert one.version[0].isdigit()
            assert one.socket is not None
            assert one.socket.exists()
            assert one.uptime_seconds is not None
            assert 0 <= one.uptime_seconds < 60
            assert one.restarts == 0
        assert server(folder, ServerName.POSTGRES).data_bytes > 10_000_000
    stop(folder)
    assert [(server.state, server.pid) for server in status(folder).servers] == [(ServerState.STOPPED, None)] * 2


def test_reset_deletes_the_data_and_says_what_it_deleted(folder: Path) -> None:
    with attach(folder) as servers:
        query(servers.database_url, "CREATE TABLE doomed (id int)")
    deleted = reset(folder)
    assert {folder / "postgres", folder / "valkey", folder / "postgres.log"} <= set(deleted)
    assert not any(path.exists() for path in deleted)
    assert status(folder).servers == ()
    with attach(folder) as servers:
        assert query(servers.database_url, "SELECT to_regclass('doomed')") is None


def test_reset_refuses_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    precious = tmp_path / "postgres"
    precious.mkdir()
    with pytest.raises(EmbeddedServerError, match="nothing was deleted"):
        reset(tmp_path)
    assert precious.exists()


def test_a_forked_child_is_a_client_of_its_own(folder: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from workhorse.embedded import attach
servers = attach(Path(sys.argv[1]), linger_seconds=0.3)
child = os.fork()
if child == 0:
    time.sleep(2)
    os._exit(0)
servers.close()
print(servers.database_url, child, flush=True)
time.sleep(30)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url, child = parent.stdout.readline().split()
        time.sleep(1)
        assert serves(url), "the child is attached, although its parent has closed"
        assert status(folder).clients == 1
        parent.kill()
        assert serves(url)
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    wait_until(lambda: not processes_of(folder), seconds=5)


def test_an_executed_program_does_not_keep_the_servers(folder: Path) -> None:
    with attach(folder, linger_seconds=0.2), subprocess.Popen(["sleep", "30"], close_fds=False) as program:
        try:
            opened = [str(link.readlink()) for link in Path(f"/proc/{program.pid}/fd").iterdir()]
            assert opened
            assert not [path for path in opened if path.startswith(str(folder))]
        finally:
            program.kill()


def test_starts_are_fast(folder: Path) -> None:
    """Bounds of thrice what is promised, for machines that are busy; `docs/embedded.md` has the measured times."""
    start = time.perf_counter()
    attach(folder).close()
    cold = time.perf_counter() - start
    stop(folder)
    start = time.perf_counter()
    servers = attach(folder)
    warm = time.perf_counter() - start
    start = time.perf_counter()
    attach(folder).close()
    again = time.perf_counter() - start
    pid_of(folder, ServerName.POSTGRES)
    servers.close()
    print(f"cold {cold:.3f} s, warm {warm:.3f} s, attach {again * 1000:.1f} ms")
    assert cold < 6
    assert warm < 1
    assert again < 0.1
