"""The servers under measurement."""

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import MeasurementError, ProcessTimes, free_port, read_stat, run_server, session_seconds

SERVER = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]


def ends(pid: int, *, within_seconds: float) -> bool:
    """Whether a process ends. Where nobody reaps orphans, it stays a zombie that runs no more."""
    until = time.monotonic() + within_seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_a_process_is_read_whatever_its_name() -> None:
    text = "4242 (a) b (c) S 17 4242 4242 0 -1 4194560 9000 3000 0 0 120 30 40 5 20 0 12 0 999 0 0"
    assert read_stat(text) == ProcessTimes(pid=4242, parent=17, session=4242, own=150, reaped=45)


def test_a_free_port_is_one_that_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()


def test_a_server_runs_as_long_as_its_context_and_no_longer(tmp_path: Path) -> None:
    async def main() -> int:
        async with run_server("files", SERVER, folder=tmp_path, environment={}, ready="/") as server:
            assert server.process.returncode is None
            seconds = server.cpu_seconds()
            assert seconds is None or seconds > 0
            return server.process.pid

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not session_seconds(pid)


def test_a_workers_processes_end_with_their_server(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "import runpy; sys.argv = ['http.server', sys.argv[1], '--bind', '127.0.0.1']\n"
        "runpy.run_module('http.server', run_name='__main__')\n"
    )

    async def main() -> None:
        command = [sys.executable, "two.py", "{port}"]
        async with run_server("two", command, folder=tmp_path, environment={}, ready="/"):
            pass

    asyncio.run(main())
    child = int((tmp_path / "child").read_text())
    assert ends(child, within_seconds=10)


def test_a_server_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    async def main() -> None:
        command = [sys.executable, "-c", "raise SystemExit('no {port} for me')"]
        async with run_server("refuser", command, folder=tmp_path, environment={}, ready="/"):
            pass

    with pytest.raises(MeasurementError, match=r"the server refuser ended with code 1.*\s+no \d+ for me"):
        asyncio.run(main())
