"""Starts the program under test in a session of its own, and kills all of it at once."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from workhorse.errors import StartupError
from workhorse.servers.launch import free_port

__all__ = ["HOST", "Program", "child_environment", "free_address", "serve_command"]

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.01
LOG_LINES: Final = 40
PORTS_TRIED: Final = 100


class Program:
    """One run of a program.

    Args:
        command: what to run.
        environment: all of it.
        folder: where it runs.
        log: where it writes.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self._command = list(command)
        self._log = log
        with log.open("ab") as out:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - it runs what the test names
                    self._command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartupError(f"{self._command[0]} cannot be started: {error}") from error

    @property
    def exit_code(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it, by SIGTERM and then by SIGKILL, and wait for that."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await self.wait(STOP_SECONDS)
        self.kill()
        await self.wait(STOP_SECONDS)

    async def wait(self, seconds: float) -> int:
        """Wait for its end, and return its exit code.

        Raises:
            TimeoutError: it goes on.
        """
        give_up = time.monotonic() + seconds
        while (code := self._process.poll()) is None:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{self} has not ended within {seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)
        return code

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])

    def __str__(self) -> str:
        return " ".join(self._command)


def free_address(taken: set[int]) -> tuple[str, int]:
    """Where a server may listen. The port is added to those that are taken.

    Raises:
        StartupError: nowhere.
    """
    for _ in range(PORTS_TRIED):
        port = free_port(HOST, 0)
        if port not in taken:
            taken.add(port)
            return HOST, port
    raise StartupError(f"no free port of {HOST} was found in {PORTS_TRIED} tries")


def serve_command(target: str) -> list[str]:
    """What serves `module:attribute` in one worker process, at `{host}` and `{port}`."""
    command = [sys.executable, "-m", "workhorse.cli", "run", target]
    return [*command, "--host", "{host}", "--port", "{port}", "--workers", "1"]


def child_environment(folder: Path, further: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, for a child that is to import what this process can import.

    What the test runner has put on the path is not in the environment, so it is put there.
    """
    standard = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places = [str(folder), *(place for place in sys.path if place and place not in standard)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONUNBUFFERED": "1",
        **further,
    }
