"""What every server is started with and needs: a free port, a common folder, and a stop that first says "not ready".

The run folder is how the processes of one run find each other: the workers' metrics, the file `started` once a
worker serves, and the file `draining` once the run is being stopped. It is deleted at the end.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workhorse.errors import StartupError
from workhorse.servers.limits import ConnectionLimits, configured_limits
from workhorse.service.supervision import PARENT, RUN_FOLDER, say

__all__ = ["Launch", "announce_when_started", "begin_drain", "free_port", "run_folder"]

POLL_SECONDS: Final = 0.02
ANNOUNCE_WITHIN_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One run of a server."""

    target: str
    """`module:attribute` of the ASGI app."""
    host: str
    port: int
    workers: int
    reload: bool
    backlog: int
    drain_seconds: float
    stop_timeout_seconds: int
    run_folder: Path
    runtime: str = "asyncio"
    """What the app's code waits on: asyncio or trio."""
    limits: ConnectionLimits = field(default_factory=configured_limits)
    """Of each worker. By default, what this process's settings say."""

    @property
    def address(self) -> str:
        """The address for a person's browser."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.port}"


@contextmanager
def run_folder() -> Generator[Path]:
    """A private folder for the processes of one run, told to them through the environment."""
    folder = Path(tempfile.mkdtemp(prefix="workhorse-run-"))
    (folder / "metrics").mkdir()
    os.environ[RUN_FOLDER] = str(folder)
    os.environ[PARENT] = str(os.getpid())
    try:
        yield folder
    finally:
        del os.environ[RUN_FOLDER], os.environ[PARENT]
        shutil.rmtree(folder, ignore_errors=True)


def free_port(host: str, port: int) -> int:
    """Check that nobody listens on `port`, or choose a free one for 0.

    Servers bind with SO_REUSEPORT for their workers, so that a left-over server would silently share the load.

    Raises:
        StartupError: the port is taken, or the host is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"{host}:{port} cannot be listened on: {error.strerror}."
                " Is another server running there? Stop it, or choose another with --port."
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def begin_drain(launch: Launch) -> None:
    """Tell the readiness probes of all workers that this run is being stopped."""
    (launch.run_folder / "draining").touch()


def announce_when_started(launch: Launch, started: threading.Event) -> None:
    """Wait in the background for the first worker that serves; then say so and set `started`."""

    def wait() -> None:
        give_up = time.monotonic() + ANNOUNCE_WITHIN_SECONDS
        while time.monotonic() < give_up and launch.run_folder.exists():
            if (launch.run_folder / "started").exists():
                started.set()
                say(f"workhorse: serving {launch.target} at {launch.address}")
                return
            time.sleep(POLL_SECONDS)

    threading.Thread(target=wait, name="announce", daemon=True).start()
