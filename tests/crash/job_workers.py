"""The bank's workers of jobs: `workhorse worker`, each in a session of its own, to be killed, frozen and replaced."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from bank.demo_server import FOLDER
from tests.crash.bank_server import POLL_SECONDS, STOP_SECONDS, WORKHORSE, environment_of

CONCURRENCY: Final = 20


class JobWorkers:
    """So many workers, of which none stays dead for long.

    Args:
        embedded_folder: their Postgres and Valkey.
        count: how many.
        log: where all of them write.
    """

    def __init__(self, embedded_folder: Path, *, count: int, log: Path) -> None:
        self.log = log
        self._embedded_folder = embedded_folder
        self.count = count
        self._running: list[subprocess.Popen[bytes]] = []
        self._struck: set[int] = set()
        self._frozen: dict[int, asyncio.Task[None]] = {}
        self.starts = 0
        self.ended: list[str] = []
        """Workers that ended though nobody had struck them: their pid and code."""

    def start(self) -> None:
        """Start those that are missing."""
        environment = environment_of(self._embedded_folder, self.log.parent)
        command = [WORKHORSE, "worker", "bank.app:service", "--concurrency", str(CONCURRENCY)]
        while len(self._running) < self.count:
            self.starts += 1
            with self.log.open("ab") as log:
                self._running.append(
                    subprocess.Popen(
                        command, cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,
                    )
                )  # fmt: skip

    @property
    def pids(self) -> list[int]:
        """The pids of those that run or are frozen."""
        return [one.pid for one in self._running if one.poll() is None]

    async def supervise(self) -> None:
        """Start another wherever one has ended, until cancelled."""
        try:
            while True:
                for one in list(self._running):
                    if (code := one.poll()) is not None:
                        self._running.remove(one)
                        if one.pid not in self._struck:
                            self.ended.append(f"worker {one.pid} ended by itself with {code}")
                self.start()
                await asyncio.sleep(POLL_SECONDS * 10)
        finally:
            for pid in list(self._frozen):
                self._thaw(pid)

    def kill(self, pids: list[int]) -> None:
        """SIGKILL, also to those that are frozen."""
        for pid in pids:
            self._struck.add(pid)
            if (nap := self._frozen.pop(pid, None)) is not None:
                nap.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def freeze(self, pid: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds, unless it is killed before."""
        if pid in self._frozen:
            return

        async def nap() -> None:
            await asyncio.sleep(seconds)
            self._thaw(pid)

        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGSTOP)
        self._frozen[pid] = asyncio.create_task(nap(), name=f"worker {pid} is frozen")

    def any(self, rng: random.Random) -> int | None:
        """One of those that run and are not frozen, or none."""
        awake = sorted(pid for pid in self.pids if pid not in self._frozen)
        return rng.choice(awake) if awake else None

    async def thawed(self) -> None:
        """Wait until none is frozen any more."""
        await asyncio.gather(*list(self._frozen.values()), return_exceptions=True)

    def _thaw(self, pid: int) -> None:
        if self._frozen.pop(pid, None) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGCONT)

    def stop(self) -> list[str]:
        """End them by SIGTERM, and kill what does not end. Returns complaints."""
        faults: list[str] = []
        for one in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGCONT)
            one.terminate()
        give_up = time.monotonic() + STOP_SECONDS
        for one in self._running:
            try:
                code = one.wait(max(0.1, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                faults.append(f"worker {one.pid} did not end on SIGTERM within {STOP_SECONDS:g} s")
            else:
                if code:
                    faults.append(f"worker {one.pid} ended on SIGTERM with {code}")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait(STOP_SECONDS)
        self._running.clear()
        return faults
