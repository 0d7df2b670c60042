"""The small process that owns the servers of one folder, so that they belong to no client and outlive none by chance.

    python -P -m workhorse.embedded.steward FOLDER LINGER_SECONDS

It takes the steward's lock, leaves the session of whoever started it by a second fork, and keeps the servers that are
wanted alive (`keeper`). Every quarter of a second, and at once when it is woken by the pipe or by the end of a child,
it looks round:

- does the folder still stand? A person may have deleted it: then there is nothing to keep;
- was it told to stop (`stop` leaves a file, a person may send SIGTERM)?
- is a client there? When it can have the clients' lock alone, nobody is. After the lingering time it takes that
  lock *and keeps it* until its servers have ended: a client that arrives meanwhile waits, then starts another steward.

Exit codes: 0 the steward runs (of the first process), or ended well; 2 usage; 3 another steward is there.

It imports nothing heavy: from call to answering servers a warm start takes a tenth of a second.
"""

import contextlib
import os
import select
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from workhorse.embedded.folder import Folder
from workhorse.embedded.keeper import Keeper
from workhorse.embedded.locks import FileLock
from workhorse.embedded.postgres import Postgres
from workhorse.embedded.state import ServerName, StewardRecord, write_record
from workhorse.embedded.valkey import Valkey
from workhorse.errors import EmbeddedServerError

__all__ = ["ANOTHER_IS_THERE", "Steward", "main"]

TICK_SECONDS: Final = 0.25
LOCK_SECONDS: Final = 2.0
"""A client that asks whether a steward lives holds the lock for an instant; only a steward holds it longer."""
LOG_CHECK_SECONDS: Final = 5.0
STOP_POLL_SECONDS: Final = 0.004
USAGE: Final = 2
ANOTHER_IS_THERE: Final = 3
SERVERS: Final = {server.name: server for server in (Postgres, Valkey)}


class Steward:
    """Keeps the wanted servers of `folder` until nobody is attached for `linger_seconds`."""

    def __init__(self, folder: Folder, *, linger_seconds: float) -> None:
        self._folder = folder
        self._linger_seconds = linger_seconds
        self._clients = FileLock(folder.clients_lock)
        self._lock = FileLock(folder.steward_lock)
        self._keepers: dict[ServerName, Keeper] = {}
        self._sockets: Path | None = None
        self._signalled = False
        self._published: StewardRecord | None = None
        self._token = uuid.uuid4().hex
        self._last_client = time.monotonic()
        self._next_look = 0.0
        self._next_log_check = 0.0
        self._wake = -1
        self._signals = (-1, -1)

    def take_office(self) -> bool:
        """Take the steward's lock; false where another has it."""
        try:
            self._lock.wait_exclusive(time.monotonic() + LOCK_SECONDS)
        except EmbeddedServerError:
            return False
        # What a dead predecessor said of its servers is no longer true.
        self._folder.state.unlink(missing_ok=True)
        return True

    def serve(self) -> None:
        """Keep the servers until there is a reason to stop them; then stop them, cleanly.

        Raises:
            OSError: the folder cannot be used.
        """
        note(f"steward {os.getpid()} begins")
        self._last_client = time.monotonic()
        self._open_bells()
        try:
            self._publish()
            reason = self._keep()
            note(f"stopping the servers: {reason}")
        finally:
            self._stop_servers()
            self._leave()

    def _keep(self) -> str:
        """Do what is due until there is a reason to stop; return it."""
        while True:
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + TICK_SECONDS
                if reason := self._reason_to_stop(now):
                    return reason
                self._hire()
            pauses = [keeper.step() for keeper in self._keepers.values()]
            self._publish()
            self._rest(min([*pauses, max(0.0, self._next_look - time.monotonic())]))

    def _reason_to_stop(self, now: float) -> str:
        if now >= self._next_log_check:
            self._next_log_check = now + LOG_CHECK_SECONDS
            self._folder.bound_logs()
        if not self._lock.is_in_place():
            return f"{self._folder.path} was deleted"
        if self._signalled:
            return "a signal came"
        if self._folder.stopped.exists():
            return "somebody called stop"
        if not self._clients.try_exclusive():
            self._last_client = now
            return ""
        if now - self._last_client >= self._linger_seconds:
            return f"nobody was attached for {self._linger_seconds:g} s"  # with the lock kept: see above
        self._clients.unlock()
        return ""

    def _hire(self) -> None:
        """Take on the servers that are wanted and not kept yet."""
        for name in ServerName:
            if name not in self._keepers and self._folder.wanted(name).exists():
                self._sockets = self._sockets or self._folder.socket_folder()
                self._keepers[name] = Keeper(SERVERS[name](self._folder, self._sockets))

    def _publish(self) -> None:
        record = StewardRecord(
            os.getpid(), self._token, {name: keeper.record for name, keeper in self._keepers.items()}
        )
        if record == self._published:
            return
        for name, server in record.servers.items():
            before = self._published.servers.get(name) if self._published else None
            if before is None or (before.state, before.error) != (server.state, server.error):
                note(f"{name} is {server.state}{f' (pid {server.pid})' if server.pid else ''} {server.error}".rstrip())
        try:
            write_record(self._folder.state, record)
        except OSError as error:  # a full disk must not take the servers down
            note(f"{self._folder.state} cannot be written: {error}")
        self._published = record

    def _open_bells(self) -> None:
        """Let signals, ended children and the named pipe end a rest."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._signals = (reader, writer)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        signal.signal(signal.SIGCHLD, self._on_child)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._folder.wake, 0o600)
        # Open for both, so that the pipe never reads as ended when its last writer has gone.
        self._wake = os.open(self._folder.wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._signalled = True

    def _on_child(self, _signum: int, _frame: FrameType | None) -> None:
        """Nothing but the byte that the interpreter writes into the pipe, which it does not without a handler."""

    def _rest(self, seconds: float) -> None:
        """Wait for `seconds`, or until a bell rings."""
        rung, _, _ = select.select([self._signals[0], self._wake], [], [], seconds)
        for bell in rung:
            with contextlib.suppress(BlockingIOError):
                os.read(bell, 4096)
            self._next_look = 0.0
        if self._wake in rung:
            for keeper in self._keepers.values():
                keeper.ask_again()

    def _stop_servers(self) -> None:
        stopping = [keeper.stop() for keeper in self._keepers.values()]
        while stopping:
            stopping = [steps for steps in stopping if next(steps, None) is not None]
            if self._lock.is_in_place():
                self._publish()
            time.sleep(STOP_POLL_SECONDS if stopping else 0)

    def _leave(self) -> None:
        """Leave nothing that says that servers run. The locks go with the process."""
        if self._lock.is_in_place():
            self._folder.state.unlink(missing_ok=True)
        note(f"steward {os.getpid()} ends")


def note(text: str) -> None:
    """Write a line to the steward's log, which is its standard error."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):
        os.write(2, f"{moment} {text}\n".encode())


def main(arguments: Sequence[str]) -> int:
    """Become the steward of the folder that the first argument names, in a process of its own."""
    os.umask(0o077)
    try:
        path, linger = arguments
        steward = Steward(Folder.at(Path(path)), linger_seconds=float(linger))
    except ValueError:
        note(f"usage: python -m workhorse.embedded.steward FOLDER LINGER_SECONDS; got {list(arguments)!r}")
        return USAGE
    if not steward.take_office():
        return ANOTHER_IS_THERE
    # The lock goes over to the child. Its parent ends at once, so that no client has a child to wait for.
    if os.fork() > 0:
        os._exit(0)
    steward.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
