"""Servers under measurement: a free port, a session of their own, their CPU time, and an end that nobody survives.

Each server leads a session of its own, which its workers belong to: that is how their CPU time is added up and how
all of them are ended. The port is one that nobody listened on: servers share ports by SO_REUSEPORT, so a left-over one
would silently take a part of the load.
"""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "HOST",
    "MeasurementError",
    "ProcessTimes",
    "RunningServer",
    "free_port",
    "read_stat",
    "run_server",
    "session_seconds",
    "stop_session",
    "tree_seconds",
]

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.02
TAIL_BYTES: Final = 4096
PROC: Final = Path("/proc")


class MeasurementError(Exception):
    """A measurement cannot be made, or what was measured is not right. The message says what, and what to do."""


class ProcessTimes(NamedTuple):
    """One process as /proc tells of it (proc_pid_stat(5)). CPU times in clock ticks."""

    pid: int
    parent: int
    session: int
    own: int
    """User and system time."""
    reaped: int
    """The same of its children that have ended and were waited for."""


def read_stat(text: str) -> ProcessTimes:
    """Read a /proc/<pid>/stat. The program's name may hold anything, so what follows its last bracket counts."""
    pid, _, rest = text.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    return ProcessTimes(
        pid=int(pid),
        parent=int(fields[1]),
        session=int(fields[3]),
        own=int(fields[11]) + int(fields[12]),
        reaped=int(fields[13]) + int(fields[14]),
    )


def session_seconds(leader: int) -> float | None:
    """CPU seconds of all processes in the session of `leader`; None where the system has no /proc."""
    return _seconds(process.own + process.reaped for process in _processes() if process.session == leader)


def tree_seconds(root: int) -> float | None:
    """CPU seconds of `root` and its children, those that have ended included; None where there is no /proc."""
    return _seconds(
        process.own + (process.reaped if process.pid == root else 0)
        for process in _processes()
        if root in {process.pid, process.parent}
    )


def _seconds(ticks: Iterable[int]) -> float | None:
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if PROC.is_dir() and (PROC / "self/stat").exists() else None


def _processes() -> Iterable[ProcessTimes]:
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield read_stat(stat.read_text(encoding="utf-8", errors="replace"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    name: str
    port: int
    process: asyncio.subprocess.Process
    log: Path

    def cpu_seconds(self) -> float | None:
        """CPU seconds of all its processes so far."""
        return session_seconds(self.process.pid)

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return _tail(self.log)


@contextlib.asynccontextmanager
async def run_server(
    name: str, command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str], ready: str
) -> AsyncGenerator[RunningServer]:
    """Run a server as long as the context lasts.

    Args:
        name: what to call it in messages.
        command: its command line, in which `{port}` stands for the port to listen on.
        folder: its working directory.
        environment: variables beside those of this process.
        ready: the path that it answers with 200 when it is ready.

    Raises:
        MeasurementError: it ended, or was not ready within a minute; the message has the end of its log.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        log = Path(scratch) / "server.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(str(part).replace("{port}", str(port)) for part in command),
                cwd=folder,
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await _until_ready(name, port, process, log, ready)
            yield RunningServer(name, port, process, log)
        finally:
            await stop_session(process)


async def _until_ready(name: str, port: int, process: asyncio.subprocess.Process, log: Path, path: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while process.returncode is None and loop.time() < deadline:
        if await asyncio.to_thread(answers, port, path):
            return
        await asyncio.sleep(POLL_SECONDS)
    state = "was not ready in time" if process.returncode is None else f"ended with code {process.returncode}"
    raise MeasurementError(f"the server {name} {state}. Its log ends:\n{_tail(log)}")


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def stop_session(process: asyncio.subprocess.Process) -> None:
    """Ask a session's leader to stop, and end whoever of the session has not stopped by then."""
    try:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
    finally:
        # Also when the wait itself was cancelled. A worker without its parent would keep the port.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _tail(log: Path) -> str:
    return log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip()
