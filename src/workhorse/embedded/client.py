"""Attach to the servers of a folder: be there, so that they run, and bring them back when their steward is killed.

`attach` counts itself as a client first and only then looks for a steward, so none can leave in between; then it asks,
in this order, what a crash can make untrue: does a steward live (its lock), what does it say (its record), and do the
servers themselves answer. It believes the last.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from workhorse.embedded.folder import Folder, log_tail
from workhorse.embedded.locks import is_held
from workhorse.embedded.presence import Presence, ring, start_steward
from workhorse.embedded.state import DATABASE, ServerName, ServerRecord, ServerState, StewardRecord, read_record
from workhorse.embedded.wire import ask_valkey, ensure_database
from workhorse.errors import EmbeddedServerError

__all__ = ["Attachment", "attach", "require_posix"]

POLL_SECONDS: Final = 0.004
LONGEST_POLL_SECONDS: Final = 0.05
STEWARDS: Final = 5
"""How many stewards one call starts before it gives up: they are killed, or they fail."""


def require_posix() -> None:
    """Refuse systems without Unix sockets, `flock` and sessions.

    Raises:
        EmbeddedServerError: this is Windows.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "embedded servers need Linux or macOS: use WSL, or name running servers with DATABASE_URL and CACHE_URL"
        )


def attach(
    folder: Path,
    *,
    postgres: bool = True,
    cache: bool = True,
    postgres_bin: Path | None = None,
    linger_seconds: float = 5.0,
    deadline_seconds: float = 60.0,
) -> "Attachment":
    """Make sure that the servers of `folder` run, and keep them running until `close` or the end of this process.

    The first process that attaches makes the folder and starts the servers (a second or two, the first time); the
    others find them (milliseconds). May be called in any thread and any process, any number of times.

    Args:
        folder: where data, logs and sockets are. It is made, or must be empty, or made by an earlier call.
        postgres: whether the database is wanted.
        cache: whether the Redis-compatible cache is wanted.
        postgres_bin: the bin folder of the Postgres to use instead of the wheel's.
        linger_seconds: how long the servers outlive the last process; the value of whoever starts the steward holds.
        deadline_seconds: longest wait for the servers to be ready.

    Raises:
        EmbeddedServerError: the folder cannot be used, or a server cannot be found, started or reached in time; the
            message has the mend or the end of the server's log.
    """
    require_posix()
    until = time.monotonic() + deadline_seconds
    wanted = tuple(name for name, on in ((ServerName.POSTGRES, postgres), (ServerName.VALKEY, cache)) if on)
    here = Folder.at(folder)
    here.prepare()
    presence = Presence(here, linger_seconds)
    try:
        sockets = _await_servers(presence, wanted, postgres_bin, until)
        presence.watch()
    except OSError as error:
        presence.close()
        raise EmbeddedServerError(f"the embedded servers in {here.path} cannot be reached: {error}") from error
    except BaseException:
        presence.close()
        raise
    return Attachment(here.path, sockets, presence)


class Attachment:
    """The right to use the servers of a folder, which run as long as somebody holds one.

    A context manager. What is dropped without `close` holds until the process ends. After a fork parent and child
    each hold their own.
    """

    __slots__ = ("_presence", "_sockets", "folder")

    def __init__(self, folder: Path, sockets: Mapping[ServerName, str], presence: Presence) -> None:
        self.folder = folder
        self._sockets = sockets
        self._presence = presence

    @property
    def database_url(self) -> str:
        """The database `app`, for libpq and all drivers that take its URLs. It stays the same across restarts.

        Raises:
            EmbeddedServerError: attached with `postgres=False`.
        """
        host = quote(self._socket(ServerName.POSTGRES, "postgres"), safe="/")
        return f"postgresql://postgres@/{DATABASE}?host={host}&port=5432"

    @property
    def cache_url(self) -> str:
        """The cache, for redis-py and valkey-py. It stays the same across restarts.

        Raises:
            EmbeddedServerError: attached with `cache=False`.
        """
        return f"unix://{quote(self._socket(ServerName.VALKEY, 'cache'), safe='/')}"

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._presence.closed

    def close(self) -> None:
        """Need the servers no longer. The last one to go lets them stop, after the lingering time. May be repeated."""
        self._presence.close()

    def _socket(self, name: ServerName, option: str) -> str:
        try:
            return self._sockets[name]
        except KeyError:
            raise EmbeddedServerError(f"{self!r} was made without it: attach with {option}=True") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Attachment {self.folder} ({', '.join(self._sockets)}{', closed' if self.closed else ''})>"


class Verdict(NamedTuple):
    """What the steward's record means to a client that waits."""

    ready: bool
    failure: str = ""


def failed_attempts(record: StewardRecord) -> dict[ServerName, int]:
    """The number of the attempt that failed, of each server that stands as failed."""
    return {server.name: server.attempt for server in record.servers.values() if server.state is ServerState.FAILED}


def judge(record: StewardRecord, wanted: tuple[ServerName, ...], failed_before: Mapping[ServerName, int]) -> Verdict:
    """Whether all wanted servers are said to run, or one could not be started since the client asked.

    Args:
        record: the steward's.
        wanted: the servers that the client waits for.
        failed_before: `failed_attempts` of when the client asked; a failure of then is not news.
    """
    servers = [record.servers.get(name) for name in wanted]
    for server in servers:
        if server and server.state is ServerState.FAILED and server.attempt > failed_before.get(server.name, 0):
            return Verdict(ready=False, failure=server.error)
    return Verdict(ready=all(server is not None and server.state is ServerState.RUNNING for server in servers))


def _await_servers(
    presence: Presence, wanted: tuple[ServerName, ...], postgres_bin: Path | None, until: float
) -> dict[ServerName, str]:
    """Be counted as a client, ask for the servers, and wait until each has answered. Returns their sockets."""
    folder = presence.folder
    if presence.lock.try_exclusive():
        # Nobody else is attached, so what is said to be wanted is left over from those who were.
        for name in ServerName:
            folder.wanted(name).unlink(missing_ok=True)
        presence.lock.unlock()
    presence.lock.wait_shared(until)
    if not presence.lock.is_in_place():
        raise EmbeddedServerError(f"{folder.path} was deleted while this process attached to it: attach again")
    started = 0
    pause = POLL_SECONDS
    asked = ""  # the token of the steward that was asked
    failed_before: Mapping[ServerName, int] = {}
    while True:
        lives = is_held(folder.steward_lock)
        stopping = folder.stopped.exists()
        if not lives:
            _want(folder, wanted, postgres_bin)
            started += start_steward(folder, linger_seconds=presence.linger_seconds, even_if_stopped=True)
            if started > STEWARDS:
                raise EmbeddedServerError(
                    f"{STEWARDS} stewards of {folder.path} ended one after the other. Their log says:\n"
                    f"{log_tail(folder.steward_log)}"
                )
        record = read_record(folder.state)
        if lives and not stopping and record.token:
            _check_binaries(record, postgres_bin if ServerName.POSTGRES in wanted else None)
            if record.token != asked:
                failed_before = failed_attempts(record)
                _want(folder, wanted, postgres_bin)
                ring(folder)
                asked = record.token
            verdict = judge(record, wanted, failed_before)
            if verdict.failure:
                raise EmbeddedServerError(verdict.failure)
            if verdict.ready and all(_answers(record.servers[name]) for name in wanted):
                return {name: record.servers[name].socket for name in wanted}
        if time.monotonic() >= until:
            raise EmbeddedServerError(_late(folder, record))
        time.sleep(pause)
        pause = min(pause * 1.2, LONGEST_POLL_SECONDS)  # many may wait, and what they wait for needs the processor


def _want(folder: Folder, wanted: tuple[ServerName, ...], postgres_bin: Path | None) -> None:
    """Say which servers are wanted. Whoever names a bin folder wins over whoever takes any."""
    for name in wanted:
        chosen = str(postgres_bin.absolute()) if postgres_bin and name is ServerName.POSTGRES else ""
        note = folder.wanted(name)
        if not note.exists() or (chosen and note.read_text(encoding="utf-8") != chosen):
            fresh = note.with_name(f"{note.name}.{os.getpid()}.{threading.get_ident()}")
            fresh.write_text(chosen, encoding="utf-8")
            fresh.replace(note)


def _check_binaries(record: StewardRecord, postgres_bin: Path | None) -> None:
    server = record.servers.get(ServerName.POSTGRES)
    if postgres_bin is None or server is None or not server.binary_folder:
        return
    if Path(server.binary_folder) != postgres_bin.absolute():
        raise EmbeddedServerError(
            f"the Postgres of this folder runs from {server.binary_folder}, and {postgres_bin} was asked for: "
            "stop it first (workhorse.embedded.stop)"
        )


def _answers(server: ServerRecord) -> bool:
    if server.name is ServerName.VALKEY:
        return ask_valkey(Path(server.socket)) is not None
    greeting = ensure_database(Path(server.socket), DATABASE)
    return greeting is not None and greeting.serves


def _late(folder: Folder, record: StewardRecord) -> str:
    states = ", ".join(f"{server.name} is {server.state} {server.error}".rstrip() for server in record.servers.values())
    return (
        f"the embedded servers in {folder.path} were not ready in time ({states or 'no steward'}). "
        f"The steward's log says:\n{log_tail(folder.steward_log)}"
    )
