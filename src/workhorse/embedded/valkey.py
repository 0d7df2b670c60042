"""Valkey: the Redis-compatible cache, on a Unix socket, with its append-only file written out every second.

A kill of the process loses nothing, because each write is with the kernel before it is answered; a crash of the machine
may lose the last second. That is the usual production setting, and a cache needs no more.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from workhorse.embedded.binaries import find_valkey
from workhorse.embedded.credentials import Disguise, Identity
from workhorse.embedded.keeper import Server, Steps
from workhorse.embedded.state import ServerName
from workhorse.embedded.wire import ask_valkey

__all__ = ["Valkey"]


class Valkey(Server):
    """The embedded Valkey of one folder."""

    name: ClassVar[ServerName] = ServerName.VALKEY
    programs: ClassVar[frozenset[str]] = frozenset({"valkey-server", "redis-server"})
    dies_by: ClassVar[signal.Signals] = signal.SIGTERM
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    _program: Path | None = None

    @property
    def socket(self) -> Path:
        """The socket."""
        return self.sockets / "valkey.sock"

    @property
    def pid_file(self) -> Path:
        """Where it writes its pid."""
        return self.data / "valkey.pid"

    def identity(self) -> Identity:
        """Ourselves: unlike Postgres, it does not mind."""
        return Identity(Disguise.NONE, os.geteuid(), os.getegid(), "this user")

    def binary_folder(self) -> str:
        """The folder of `valkey-server`."""
        return str(self._program.parent if self._program else "")

    def prepare(self) -> Steps:
        """Find the program and make the data folder."""
        self._program = find_valkey()
        self.data.mkdir(mode=0o700, exist_ok=True)
        yield from ()

    def command(self) -> Sequence[str]:
        """No port, no snapshots, an append-only file."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "pidfile": str(self.pid_file),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        return [str(self._program), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def ask(self) -> str | None:
        """The version, once it answers PING."""
        return ask_valkey(self.socket)
