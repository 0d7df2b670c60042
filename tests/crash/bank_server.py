"""The bank under test: `workhorse run` in a session of its own, to be killed whole or in parts, and started again.

Jobs are none of its business here: `workhorse worker` runs them (`job_workers.py`).

`supervise` plays the part of systemd or Kubernetes: whenever the main process has ended, it starts the bank anew.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Final

from bank.demo_server import FOLDER, demo_environment
from bank.traffic_http import Address
from tests.crash.processes import alive, processes, session

STOP_SECONDS: Final = 20.0
GONE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.005

WORKHORSE: Final = str(Path(sysconfig.get_path("scripts")) / "workhorse")


def environment_of(embedded_folder: Path, temporary: Path) -> dict[str, str]:
    """The environment of the bank's processes. What a killed one could not clear away goes with the test's folder."""
    return {
        **demo_environment(os.environ),
        "WORKHORSE_EMBEDDED__FOLDER": str(embedded_folder),
        "WORKHORSE_ENVIRONMENT": "test",
        "WORKHORSE_JOBS__IN_PROCESS": "off",
        "TMPDIR": str(temporary),
    }


class BankServer:
    """One bank, and its processes of now.

    Args:
        address: where it listens.
        embedded_folder: its Postgres.
        workers: processes that serve.
        log: where it writes.
    """

    def __init__(self, address: Address, embedded_folder: Path, *, workers: int, log: Path) -> None:
        self.address = address
        self.log = log
        self._embedded_folder = embedded_folder
        self._workers = workers
        self._main: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def main(self) -> int:
        """The pid of the main process, and of its session."""
        assert self._main is not None
        return self._main.pid

    def start(self) -> None:
        """Start it. That it serves is for the clients to find out."""
        environment = environment_of(self._embedded_folder, self.log.parent)
        command = [WORKHORSE, "run", "bank.app:service"]
        command += ["--host", self.address.host, "--port", str(self.address.port), "--workers", str(self._workers)]
        self.starts += 1
        with self.log.open("ab") as log:
            self._main = subprocess.Popen(
                command, cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def workers(self) -> list[int]:
        """The pids of the worker processes."""
        return [pid for pid, parent, command in processes() if parent == self.main and "spawn_main" in command]

    def describe(self) -> str:
        """Its processes and the end of its log without the driver's complaints, for the message of a failure."""
        here = session(self.main) if self._main is not None else []
        lines = [f"{pid} (parent {parent}) {command or 'ended'}" for pid, parent, command in processes() if pid in here]
        log = [line for line in self.log.read_text("utf-8", "replace").splitlines() if "psycopg" not in line]
        return "\n".join([f"started {self.starts} times; its processes:", *lines, "its log ends:", *log[-40:]])

    def kill_all(self) -> None:
        """SIGKILL to every process of it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.main, signal.SIGKILL)

    def kill_main(self) -> None:
        """SIGKILL to the main process alone."""
        assert self._main is not None
        self._main.kill()

    async def supervise(self) -> None:
        """Start it again whenever its main process has ended, until cancelled.

        Raises:
            AssertionError: workers outlive their main process.
        """
        while True:
            assert self._main is not None
            if self._main.poll() is not None:
                await asyncio.to_thread(self._await_gone)
                self.start()
            await asyncio.sleep(POLL_SECONDS)

    def _await_gone(self) -> None:
        give_up = time.monotonic() + GONE_SECONDS
        while left := [pid for pid in session(self.main) if alive(pid)]:
            assert time.monotonic() < give_up, f"the workers {left} outlive their main process"
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it, in whatever state it is."""
        if self._main is None:
            return
        if self._main.poll() is None:
            self._main.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._main.wait(STOP_SECONDS)
        self.kill_all()
        self._main.wait(STOP_SECONDS)
