"""How each target is struck, and when the bank has recovered from it."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg

from tests.crash.bank_server import BankServer
from tests.crash.clients import Witness
from tests.crash.job_workers import JobWorkers
from tests.crash.kills import Kill, Target, Wound
from workhorse.embedded import ServerName, ServerState, ServerStatus, attach, status

# Frozen workers hold locks as long as they sleep, up to 20 s, and other blows may fall meanwhile.
RECOVERY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.005
SERVERS: Final = {
    Target.POSTGRES: (ServerName.POSTGRES, signal.SIGKILL),
    Target.RESTART: (ServerName.POSTGRES, signal.SIGINT),
    Target.CACHE: (ServerName.VALKEY, signal.SIGKILL),
}


class Striker:
    """Strikes.

    Args:
        bank: what serves.
        workers: what runs jobs.
        embedded: the folder of Postgres and Valkey.
        url: the database.
        witness: tells what the clients see.
        rng: chooses among alike processes.
    """

    def __init__(
        self, bank: BankServer, workers: JobWorkers, embedded: Path, url: str, witness: Witness, rng: random.Random
    ) -> None:
        self._bank = bank
        self._workers = workers
        self._embedded = embedded
        self._url = url
        self._witness = witness
        self._rng = rng

    async def strike(self, kill: Kill) -> Wound:
        """Wait for the moment, kill, and wait until the bank is as before.

        Raises:
            AssertionError: that took too long.
        """
        await asyncio.sleep(kill.delay_seconds)
        began = time.monotonic()
        while not self._witness.in_flight:  # a kill that meets nobody proves nothing
            assert time.monotonic() - began < RECOVERY_SECONDS, "the clients ask for nothing"
            await asyncio.sleep(0)
        struck, in_flight = time.monotonic(), self._witness.in_flight
        match kill.target:
            case Target.POSTGRES | Target.RESTART | Target.CACHE:
                await self._strike_server(*SERVERS[kill.target])
            case Target.SERVER:
                chosen = await self._any_server()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chosen, signal.SIGKILL)
            case Target.STALL:
                await self._stall(kill.frozen_seconds)
            case Target.BANK:
                self._bank.kill_all()
            case Target.MAIN:
                self._bank.kill_main()
            case Target.WORKER:
                worker = self._workers.any(self._rng)
                await self._replace([worker] if worker is not None else self._workers.pids)
            case Target.WORKERS:
                await self._replace(self._workers.pids)
            case Target.ZOMBIE:
                if (worker := self._workers.any(self._rng)) is not None:
                    self._workers.freeze(worker, kill.frozen_seconds)
        # The orphans of a killed Postgres serve on for a moment, which is no recovery.
        hopeful = time.monotonic() if kill.target in SERVERS else struck
        await self.recovery(hopeful)
        return Wound(kill, in_flight, time.monotonic() - struck)

    async def recovery(self, since: float) -> None:
        """Wait until an order made after `since` is posted.

        Raises:
            AssertionError: that took too long.
        """
        witness = self._witness
        while witness.newest_posted <= since:
            waited = time.monotonic() - since
            assert waited < RECOVERY_SECONDS, (
                f"nothing was posted for {waited:.0f} s; {witness.in_flight} requests wait, {witness.sent_again} were"
                f" sent again, faults so far: {witness.faults[:5]}. The bank was {self._bank.describe()}"
            )
            await asyncio.sleep(POLL_SECONDS)

    async def _strike_server(self, name: ServerName, number: signal.Signals) -> None:
        """Strike Postgres or Valkey, and wait until it runs again.

        To its steward, a server that is killed every few seconds is one that crashes in a loop, and its pause before
        the next start grows up to ten seconds. It ends the pause when somebody attaches, as any new process would.
        """
        running = await self._until(name, lambda server: server.state is ServerState.RUNNING)
        assert running.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        await self._until(name, lambda server: server.pid != running.pid)
        await asyncio.to_thread(lambda: attach(self._embedded).close())

    async def _until(self, name: ServerName, condition: Callable[[ServerStatus], bool]) -> ServerStatus:
        give_up = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < give_up:
            for server in (await asyncio.to_thread(status, self._embedded)).servers:
                if server.name is name and condition(server):
                    return server
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"{name} is not as it should be: {status(self._embedded)}")

    async def _any_server(self) -> int:
        give_up = time.monotonic() + RECOVERY_SECONDS
        while not (servers := self._bank.workers()):
            assert time.monotonic() < give_up, f"nobody serves; the bank was {self._bank.describe()}"
            await asyncio.sleep(POLL_SECONDS)
        return self._rng.choice(servers)

    async def _stall(self, seconds: float) -> None:
        chosen = await self._any_server()
        with contextlib.suppress(ProcessLookupError):
            os.kill(chosen, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(chosen, signal.SIGCONT)

    async def _replace(self, pids: list[int]) -> None:
        """Kill workers, and wait until as many others have enrolled."""
        self._workers.kill(pids)
        give_up = time.monotonic() + RECOVERY_SECONDS
        while not await asyncio.to_thread(self._enrolled, set(pids)):
            assert time.monotonic() < give_up, (
                f"no worker came after {pids}; their log: {self._workers.log.read_text()[-4000:]}"
            )
            await asyncio.sleep(0.05)

    def _enrolled(self, gone: set[int]) -> bool:
        pids = set(self._workers.pids) - gone
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._url, connect_timeout=2) as connection:
            names = connection.execute("SELECT name FROM workhorse.job_workers").fetchall()
            return len(pids) == self._workers.count and pids <= {int(name.rpartition(":")[2]) for (name,) in names}
        return False
