"""Keeps one server alive: starts it, asks until it answers, starts it again when it ends, stops it.

The steward has one thread (see `credentials` for why), yet both servers start at once: each life is a generator that
yields how many seconds it has nothing to do, and the steward resumes whichever is due. So a lifecycle reads from top
to bottom, and closing the generator runs its clean-up wherever it stood.
"""

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from workhorse.embedded.credentials import Identity, launch
from workhorse.embedded.folder import Folder, log_tail
from workhorse.embedded.processes import left_overs
from workhorse.embedded.state import ServerName, ServerRecord, ServerState
from workhorse.errors import EmbeddedServerError

__all__ = ["Keeper", "ProcessEnded", "Server", "Steps", "pause_before_restart", "run_tool"]

Steps = Generator[float, None, None]

ASK_SECONDS: Final = 0.004
IDLE_SECONDS: Final = 3600.0
STEADY_SECONDS: Final = 3.0
"""A server that ran for so long is no longer counted as failing."""
LONGEST_PAUSE_SECONDS: Final = 10.0
LEFT_OVER_SECONDS: Final = 3.0
"""How long a server may take to notice that its steward has gone, before it is told by a signal."""
READY_SECONDS: Final = 600.0
"""Longest recovery that is waited for."""


def pause_before_restart(failures: int) -> float:
    """Seconds to wait before a server is started again that has ended `failures` times in a row, the first being 1."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** min(failures - 2, 10), LONGEST_PAUSE_SECONDS)


class ProcessEnded(EmbeddedServerError):
    """A program ended that should have gone on, perhaps because somebody killed it: worth a second try."""


class Server(ABC):
    """What is particular to one kind of server. It must leave no thread and no open file behind."""

    name: ClassVar[ServerName]
    programs: ClassVar[frozenset[str]]
    """The names of its executable, by which left-overs are known."""
    dies_by: ClassVar[signal.Signals]
    """What the kernel sends it when the steward dies."""
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]
    """How it is stopped: each signal, and the seconds that it is given."""

    def __init__(self, folder: Folder, sockets: Path) -> None:
        self.folder = folder
        self.sockets = sockets
        self.data = folder.data(self.name)
        self.log = folder.log(self.name)

    @property
    @abstractmethod
    def socket(self) -> Path:
        """What a client's URL names."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """Where the server writes its pid."""

    @abstractmethod
    def prepare(self) -> Steps:
        """Find the programs, and make the data folder ready for a start.

        Raises:
            EmbeddedServerError: that is impossible; the message says what to do.
        """

    @abstractmethod
    def identity(self) -> Identity:
        """Who it runs as."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments, once it is prepared."""

    @abstractmethod
    def ask(self) -> str | None:
        """Its version, once it serves; else None."""

    @abstractmethod
    def binary_folder(self) -> str:
        """Where its programs are; empty before they were found."""


class Keeper:
    """One server and its record. `step` is called when it is due, and whenever a child has ended."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.record: ServerRecord = ServerRecord(server.name, ServerState.STOPPED, socket=str(server.socket))
        self._steps = self._live()
        self._due = 0.0
        self._asked_again = False
        self._log_start = 0

    def step(self) -> float:
        """Do what is due; return the seconds until there is something to do again."""
        if self._reap() or self._due <= time.monotonic():
            pause = next(self._steps)
            self._due = time.monotonic() + pause
        return max(0.0, self._due - time.monotonic())

    def ask_again(self) -> None:
        """Somebody attached: try anew what had failed."""
        if self.record.state in {ServerState.FAILED, ServerState.WAITING}:
            self._asked_again = True
            self._due = 0.0

    def stop(self) -> Steps:
        """Stop the server, by ever harder signals."""
        self._steps.close()
        if self.record.pid:
            self._set(ServerState.STOPPING)
            for signum, seconds in self.server.stop_signals:
                send(self.record.pid, signum)
                until = time.monotonic() + seconds
                while not self._reap() and self.record.pid and time.monotonic() < until:
                    yield ASK_SECONDS
                if not self.record.pid:
                    break
        self._set(ServerState.STOPPED)

    def _live(self) -> Steps:
        failures = 0
        ever_ready = False
        while True:
            self.record = replace(self.record, attempt=self.record.attempt + 1)
            self._set(ServerState.STARTING, error=self.record.error)
            try:
                yield from self._start()
                ever_ready = True
                started = time.monotonic()
                while self.record.pid:
                    yield IDLE_SECONDS
                failures = 0 if time.monotonic() - started >= STEADY_SECONDS else failures
                self.record = replace(self.record, restarts=self.record.restarts + 1)
                raise ProcessEnded(f"it ended unasked: {self._tail()}")
            except (EmbeddedServerError, OSError) as failure:
                failures += 1
                yield from self._kill()
                if ever_ready or (isinstance(failure, ProcessEnded) and failures == 1):
                    yield from self._pause(ServerState.WAITING, str(failure), pause_before_restart(failures))
                else:
                    yield from self._pause(ServerState.FAILED, str(failure), IDLE_SECONDS)
                    failures = 0

    def _pause(self, state: ServerState, error: str, seconds: float) -> Steps:
        """Wait for `seconds`, or until somebody attaches."""
        self._asked_again = False
        self._set(state, error=error)
        until = time.monotonic() + seconds
        while not self._asked_again and time.monotonic() < until:
            yield until - time.monotonic()

    def _start(self) -> Steps:
        yield from self._evict()
        yield from self.server.prepare()
        with contextlib.suppress(FileNotFoundError):
            self._log_start = self.server.log.stat().st_size
        identity = self.server.identity()
        pid = launch(self.server.command(), identity=identity, log=self.server.log, dies_by=self.server.dies_by)
        self.record = replace(self.record, pid=pid, binary_folder=self.server.binary_folder())
        until = time.monotonic() + READY_SECONDS
        while (version := self.server.ask()) is None:
            yield ASK_SECONDS
            if not self.record.pid:
                raise ProcessEnded(f"{self.server.name} ended while it started. Its log says:\n{self._tail()}")
            if time.monotonic() > until:
                raise EmbeddedServerError(f"{self.server.name} did not answer for {READY_SECONDS:.0f} s")
        self._set(ServerState.RUNNING, version=version, since=time.time())

    def _evict(self) -> Steps:
        """Wait until nothing of an earlier life runs in the data folder, then remove its pid file."""
        server = self.server
        pids = left_overs(server.data, server.programs, server.pid_file)
        for signum, seconds in ((None, LEFT_OVER_SECONDS), *server.stop_signals):
            until = time.monotonic() + seconds
            if signum is not None:
                for pid in pids:
                    send(pid, signum)
            while pids and time.monotonic() < until:
                yield 5 * ASK_SECONDS
                pids = left_overs(server.data, server.programs, server.pid_file)
            if not pids:
                server.pid_file.unlink(missing_ok=True)
                return
        raise EmbeddedServerError(
            f"processes that an earlier steward left in {server.data} do not end: "
            f"kill {' '.join(str(pid) for pid in pids)}"
        )

    def _kill(self) -> Steps:
        if self.record.pid:
            send(self.record.pid, signal.SIGKILL)
            while self.record.pid:
                yield ASK_SECONDS

    def _reap(self) -> bool:
        """Notice that the process has ended, and forget its pid before anybody else gets it."""
        if not self.record.pid or not os.waitpid(self.record.pid, os.WNOHANG)[0]:
            return False
        self.record = replace(self.record, pid=0)
        return True

    def _tail(self) -> str:
        return log_tail(self.server.log, since=self._log_start) or "(nothing)"

    def _set(self, state: ServerState, *, error: str = "", version: str = "", since: float = 0.0) -> None:
        record = self.record
        self.record = replace(
            record, state=state, error=error, version=version or record.version, since=since or record.since
        )


def send(pid: int, signum: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def run_tool(command: Sequence[str], *, identity: Identity, log: Path) -> Generator[float, None, int]:
    """Run a program to its end and return its exit code; kill it where the steward stops meanwhile."""
    pid = launch(command, identity=identity, log=log, dies_by=signal.SIGKILL)
    try:
        while True:
            ended, code = os.waitpid(pid, os.WNOHANG)
            if ended:
                pid = 0
                return os.waitstatus_to_exitcode(code)
            yield ASK_SECONDS
    finally:
        if pid:
            send(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
