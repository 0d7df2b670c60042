"""Look at the servers of a folder, stop them, and delete their data, without attaching to them."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workhorse.embedded.client import require_posix
from workhorse.embedded.folder import Folder
from workhorse.embedded.locks import FileLock, is_held
from workhorse.embedded.presence import ring
from workhorse.embedded.state import ServerName, ServerState, read_record
from workhorse.errors import EmbeddedServerError

__all__ = ["ServerStatus", "Status", "reset", "status", "stop"]

POLL_SECONDS: Final = 0.01
RESET_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server."""

    name: ServerName
    state: ServerState
    pid: int | None
    version: str
    """Empty where it has not answered yet."""
    socket: Path | None
    """Its socket; of Postgres the folder with the socket, which is what `psql -h` takes."""
    uptime_seconds: float | None
    restarts: int
    """How often it ended unasked since the steward came."""
    data_bytes: int
    """What its data takes on disk, running or not."""
    error: str
    """Why it could not be started, or ended."""


@dataclass(frozen=True, slots=True)
class Status:
    """The servers of one folder, as of now."""

    folder: Path
    running: bool
    """Whether a steward is there."""
    steward_pid: int | None
    clients: int | None
    """How many attachments there are; None where the system does not tell (macOS)."""
    servers: tuple[ServerStatus, ...]
    """Those that run or have data."""


def status(folder: Path) -> Status:
    """Say how the servers of `folder` stand. Nothing is started or made; a folder that is not ours has no servers.

    Raises:
        EmbeddedServerError: the system is not supported.
    """
    require_posix()
    here = Folder.at(folder)
    running = is_held(here.steward_lock)
    record = read_record(here.state) if running else None
    servers: list[ServerStatus] = []
    for name in ServerName if here.is_ours() else ():
        server = record.servers.get(name) if record else None
        if server is not None:
            serves = server.state is ServerState.RUNNING
            uptime = max(0.0, time.time() - server.since) if serves else None
            pid, socket = server.pid or None, Path(server.socket) if serves else None
            size = _size(here.data(name))
            servers.append(
                ServerStatus(
                    name, server.state, pid, server.version, socket, uptime, server.restarts, size, server.error
                )
            )
        elif here.data(name).exists():
            servers.append(ServerStatus(name, ServerState.STOPPED, None, "", None, None, 0, _size(here.data(name)), ""))
    return Status(here.path, running, record.pid or None if record else None, _clients(here), tuple(servers))


def stop(folder: Path, *, deadline_seconds: float = 30.0) -> bool:
    """Stop the servers of `folder` cleanly, even where processes are attached: those do not start them again.

    The next `attach` does, and then they serve all that are still attached.

    Returns:
        True when something ran and has ended, False when nothing ran.

    Raises:
        EmbeddedServerError: the folder cannot be used, or the servers did not end in time.
    """
    require_posix()
    here = Folder.at(folder)
    if not here.is_ours():
        return False
    until = time.monotonic() + deadline_seconds
    try:
        with FileLock(here.start_lock) as turn:
            turn.wait_exclusive(until)
            if not is_held(here.steward_lock):
                return False
            token = read_record(here.state).token
            here.stopped.touch()
    except OSError as error:
        raise EmbeddedServerError(f"the servers in {here.path} cannot be stopped: {error}") from error
    ring(here)
    # Somebody who attaches anew may start the next steward before we see that the old one has gone.
    while is_held(here.steward_lock) and (here.stopped.exists() or read_record(here.state).token == token):
        if time.monotonic() >= until:
            raise EmbeddedServerError(
                f"the servers in {here.path} did not end within {deadline_seconds:g} s: see {here.steward_log}"
            )
        time.sleep(POLL_SECONDS)
    return True


def reset(folder: Path) -> tuple[Path, ...]:
    """Stop the servers of `folder` and delete their data, logs and sockets.

    Returns:
        What was deleted. The folder itself and its lock files stay (see `folder` for why); empty where there is none.

    Raises:
        EmbeddedServerError: the folder is not one of embedded servers, they did not end, or it cannot be deleted from.
    """
    require_posix()
    here = Folder.at(folder)
    if not here.path.exists():
        return ()
    if not here.is_ours():
        raise EmbeddedServerError(
            f"{here.path} is not a folder of embedded servers (it has no {here.marker.name}): nothing was deleted"
        )
    stop(folder, deadline_seconds=RESET_SECONDS)
    until = time.monotonic() + RESET_SECONDS
    try:
        # Both, so that nobody starts servers on data that is being deleted.
        with FileLock(here.start_lock) as turn, FileLock(here.steward_lock) as office:
            turn.wait_exclusive(until)
            office.wait_exclusive(until)
            here.stopped.touch()
            return here.erase()
    except OSError as error:
        raise EmbeddedServerError(f"the data in {here.path} cannot be deleted: {error}") from error


def _size(folder: Path) -> int:
    """Bytes on disk of all files below `folder`; files that vanish meanwhile do not count."""
    total = 0
    for above, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += Path(above, file).lstat().st_blocks * 512
    return total


def _clients(here: Folder) -> int | None:
    """How many hold the clients' lock together, from the kernel's table of locks (proc_locks(5))."""
    if sys.platform != "linux":
        return None
    try:
        inode = here.clients_lock.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    rows = [line.split() for line in lines]
    return sum(row[1:4:2] == ["FLOCK", "READ"] and row[5].rsplit(":", 1)[-1] == str(inode) for row in rows)
