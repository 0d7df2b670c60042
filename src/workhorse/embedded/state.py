"""What the steward says of itself and its servers, and how that crosses to its clients.

The steward writes one small JSON file at each change and renames it into place, so a reader sees a whole record or
the one before. The record is only a hint: that the steward lives is told by its lock, and that a server serves by
asking it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

__all__ = ["DATABASE", "ServerName", "ServerRecord", "ServerState", "StewardRecord", "read_record", "write_record"]

DATABASE: Final = "app"
"""The database that every embedded Postgres has, beside its own `postgres`."""
RECORD_BYTES: Final = 256 * 1024


class ServerName(StrEnum):
    """The servers that a steward can run."""

    POSTGRES = "postgres"
    """The database."""
    VALKEY = "valkey"
    """The Redis-compatible cache."""


class ServerState(StrEnum):
    """Where a server stands."""

    STOPPED = "stopped"
    """It does not run, and nobody asks for it."""
    STARTING = "starting"
    """It is being made ready, is starting, or recovers from a crash."""
    RUNNING = "running"
    """It has answered."""
    WAITING = "waiting"
    """It ended unasked, and is started again after a pause that grows with each failure."""
    FAILED = "failed"
    """It could not be started. The next process that attaches makes the steward try again."""
    STOPPING = "stopping"
    """It was told to stop and has not ended yet."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server, as its steward sees it."""

    name: ServerName
    state: ServerState
    pid: int = 0
    """The server's process, as seen from outside its user namespace; 0: none."""
    version: str = ""
    socket: str = ""
    """The path of its socket (Postgres: of the folder with the socket)."""
    since: float = 0.0
    """When it was last found ready, in seconds since the epoch."""
    attempt: int = 0
    """How often this steward tried to start it."""
    restarts: int = 0
    """How often it ended unasked."""
    error: str = ""
    """Why it could not be started, or ended."""
    binary_folder: str = ""
    """Where its programs are."""


@dataclass(frozen=True, slots=True)
class StewardRecord:
    """A steward and its servers."""

    pid: int = 0
    token: str = ""
    """Tells one steward from the next."""
    servers: Mapping[ServerName, ServerRecord] = field(default_factory=dict[ServerName, ServerRecord])


def write_record(path: Path, record: StewardRecord) -> None:
    """Replace the record at `path`.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_suffix(".json.new")
    servers = [asdict(server) for server in record.servers.values()]
    fresh.write_text(json.dumps({"pid": record.pid, "token": record.token, "servers": servers}), encoding="utf-8")
    fresh.replace(path)


def read_record(path: Path) -> StewardRecord:
    """The record at `path`; an empty one where there is none, or one of another version of Workhorse."""
    try:
        with path.open("rb") as file:
            value = cast("dict[str, Any]", json.loads(file.read(RECORD_BYTES)))
        rows = cast("list[dict[str, Any]]", value["servers"])
        servers = [ServerRecord(ServerName(row.pop("name")), ServerState(row.pop("state")), **row) for row in rows]
        return StewardRecord(int(value["pid"]), str(value["token"]), {server.name: server for server in servers})
    except (OSError, ValueError, TypeError, KeyError):
        return StewardRecord()
