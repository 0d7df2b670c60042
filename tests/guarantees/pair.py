"""A primary Postgres and a standby that streams from it: to part them, kill the one and promote the other."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from workhorse.embedded.binaries import find_postgres

SECONDS = 30
OURS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name <> 'canary'"
CANCEL = OURS.replace("pid", "pg_cancel_backend(pid)", 1)

# Postgres does not run as root, and a process with threads cannot disguise itself: so another one starts it.
LAUNCH = """
import os, signal, sys
from pathlib import Path
from workhorse.embedded.credentials import choose_identity, hand_over, launch

folder, identity = Path(sys.argv[1]), choose_identity()
hand_over(folder, identity)
pid = launch(sys.argv[2:], identity=identity, log=folder / "log", dies_by=signal.SIGKILL)
print(pid, flush=True)
sys.exit(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
"""


class Node:
    """One Postgres in a folder of its own, reached by a socket in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._data = folder / "data"
        self._programs = find_postgres(None)
        self._launcher: subprocess.Popen[bytes] | None = None
        self._pid = 0
        folder.mkdir(mode=0o711)

    def make(self) -> None:
        """Make an empty cluster."""
        self._tool("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")

    def copy(self, primary: "Node") -> None:
        """Make a standby that streams from `primary`."""
        self._tool(
            "pg_basebackup",
            "-h",
            str(primary.folder),
            "-U",
            "postgres",
            "-D",
            str(self._data),
            "-R",
            "-N",
            "-c",
            "fast",
        )

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        rules = ("listen_addresses=", f"unix_socket_directories={self.folder}", "jit=off", "shared_buffers=16MB")
        self._launcher = self._launch(
            "postgres", "-D", str(self._data), *(part for rule in rules for part in ("-c", rule))
        )
        assert self._launcher.stdout is not None
        self._pid = int(self._launcher.stdout.readline())
        until(self._answers)

    def kill(self) -> None:
        """SIGKILL to it and to all of its processes."""
        if self._launcher is not None:
            os.killpg(self._pid, signal.SIGKILL)
            self._launcher.communicate(timeout=SECONDS)
            self._launcher = None

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        """Make the standby a primary."""
        assert self.ask("SELECT pg_promote(true, 20)") == [(True,)]

    def part(self) -> None:
        """Let the standby hear no more of its primary."""
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.ask("SELECT pg_reload_conf()")
        until(lambda: not self.ask("SELECT 1 FROM pg_stat_wal_receiver"))

    def catch_up(self, primary: "Node") -> None:
        """Wait until the standby has all that the primary has now."""
        ((position,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
        until(lambda: self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)])

    def _answers(self) -> bool:
        try:
            return self.ask("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    def _tool(self, name: str, *arguments: str) -> None:
        launcher = self._launch(name, *arguments)
        launcher.communicate(timeout=SECONDS)
        assert launcher.returncode == 0, (self.folder / "log").read_text(errors="replace")

    def _launch(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", LAUNCH, str(self.folder), f"{self._programs}/{name}", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE)


def until(true: Callable[[], object]) -> None:
    """Wait for a condition, up to a bound."""
    ends = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < ends, f"this did not come true within {SECONDS} s"
        time.sleep(0.02)


@contextmanager
def pair(folder: Path) -> Generator[tuple[Node, Node]]:
    """A primary, and a standby with all that it has."""
    primary, standby = Node(folder / "p"), Node(folder / "s")
    try:
        primary.make()
        primary.start()
        standby.copy(primary)
        standby.start()
        yield primary, standby
    finally:
        standby.kill()
        primary.kill()


@contextmanager
def without_standby(node: Node) -> Generator[None]:
    """In the block, whatever is committed waits for a standby that is away."""
    ended = threading.Event()

    def sing() -> None:
        """Commit again and again, until that stops."""
        with psycopg.connect(f"{node.url}&application_name=canary", autocommit=True) as connection:
            while not ended.is_set():
                connection.execute("SELECT pg_logical_emit_message(true, 'canary', '')")

    canary = threading.Thread(target=sing)
    canary.start()
    node.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    node.ask("SELECT pg_reload_conf()")
    try:
        until(lambda: node.ask("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        yield
    finally:
        ended.set()
        node.ask("ALTER SYSTEM RESET synchronous_standby_names")
        node.ask("SELECT pg_reload_conf()")
        canary.join()
        until(lambda: not node.ask("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))


def end_a_wait(node: Node) -> threading.Thread:
    """End the wait of the next commit, as an administrator can."""
    thread = threading.Thread(target=lambda: until(lambda: node.ask(CANCEL)))
    thread.start()
    return thread
