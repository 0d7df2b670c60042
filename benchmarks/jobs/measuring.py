"""One engine measured: its processes started, its jobs counted, and ended again.

Nothing of an engine is loaded here. A figure counts only if every job that was enqueued began, and none did twice.
"""

import asyncio
import json
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.jobs.engine import Gate, Servers
from benchmarks.jobs.engines import Entry
from benchmarks.jobs.marks import Marks
from benchmarks.processes import MeasurementError, stop_session

__all__ = ["Bench", "Drain", "idle_transactions", "judge", "rate_of", "settled"]

# Where `benchmarks` is a package, in whichever environment.
ROOT: Final = Path(__file__).parents[2]
ROLE_SECONDS: Final = 120.0
DRAIN_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.05
SHOWN_CHARACTERS: Final = 2_000
LOG_BYTES: Final = 4_000
# A session tells the statistics what it did up to ten seconds after it did it.
SETTLE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Drain:
    """One queue that was filled and emptied."""

    enqueued: float
    """Jobs a second."""
    drained: float
    """Jobs a second."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """An engine in a database of its own, over all rounds."""

    name: str
    entry: Entry
    servers: Servers
    _next: int = 1

    async def prepare(self) -> None:
        """Make the engine's tables.

        Raises:
            MeasurementError: it could not.
        """
        await self._play("prepare")

    async def drain(self, jobs: int, workers: int) -> Drain:
        """Fill the queue, and time so many workers at emptying it.

        Raises:
            MeasurementError: a process failed, or a job did not begin, or began twice.
        """
        numbers = self._take(jobs)
        seconds = float(await self._play("enqueue", numbers.start, jobs))
        if self.entry.on_postgres:
            await asyncio.to_thread(settled, self.servers.database)
        async with self._workers(workers) as marks:
            await self._all_begun(marks, jobs, DRAIN_SECONDS)
            found = judge(self.name, marks, numbers)
        return Drain(enqueued=jobs / seconds, drained=found)

    async def delays(self, jobs: int) -> list[float]:
        """How long after its commit each of so many jobs began, in milliseconds; they come one by one.

        A job that began before its caller heard of the commit began after 0 ms.

        Raises:
            MeasurementError: as for `drain`.
        """
        async with self._workers(1) as marks:
            await self._warm(marks)
            seen = len(marks)
            numbers = self._take(jobs)
            committed: list[float] = await self._play("drip", numbers.start, jobs)
            await self._all_begun(marks, seen + jobs, DRAIN_SECONDS)
            began = {mark.number: mark.at for mark in marks.read()}
        return [max(0.0, began[number] - at) * 1e3 for number, at in zip(numbers, committed, strict=True)]

    @asynccontextmanager
    async def idling(self) -> AsyncGenerator[None]:
        """A worker that has done a job and has no other, during the block."""
        async with self._workers(1) as marks:
            await self._warm(marks)
            yield

    async def _warm(self, marks: Marks) -> None:
        await self._play("enqueue", self._take(1).start, 1)
        await self._all_begun(marks, len(marks) or 1, DRAIN_SECONDS)

    def _take(self, jobs: int) -> range:
        numbers = range(self._next, self._next + jobs)
        self._next = numbers.stop
        return numbers

    async def _all_begun(self, marks: Marks, jobs: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(marks) < jobs:
            if time.monotonic() > deadline:
                raise MeasurementError(f"{self.name}: only {len(marks)} of {jobs} jobs began within {seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)

    def _command(self, *role: object) -> list[str]:
        base = (sys.executable, "-m", "benchmarks.jobs.process", self.name, self.servers.database, self.servers.cache)
        return [str(part) for part in (*base, *role)]

    async def _play(self, *role: object) -> Any:
        process = await asyncio.create_subprocess_exec(
            *self._command(*role), cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        try:
            async with asyncio.timeout(ROLE_SECONDS):
                output, errors = await process.communicate()
        except TimeoutError:
            raise MeasurementError(f"{self.name}: {role[0]} took longer than {ROLE_SECONDS:g} s") from None
        finally:
            await stop_session(process)
        if process.returncode != 0:
            said = errors.decode("utf-8", "replace").strip()[-SHOWN_CHARACTERS:]
            raise MeasurementError(f"{self.name}: {role[0]} ended with code {process.returncode}: {said}")
        return json.loads(output.splitlines()[-1])

    @asynccontextmanager
    async def _workers(self, workers: int) -> AsyncGenerator[Marks]:
        """So many processes, which begin together."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobs-")))
            log, gate, marks = folder / "log", Gate(folder), Marks(folder / "marks")
            processes: list[Process] = []
            with log.open("wb") as output:
                for _ in range(workers):
                    process = await asyncio.create_subprocess_exec(
                        *self._command("work", marks.path, folder),
                        cwd=ROOT,
                        stdin=DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                    stack.push_async_callback(stop_session, process)
                    processes.append(process)
            deadline = time.monotonic() + ROLE_SECONDS
            while gate.waiting < workers:
                if time.monotonic() > deadline or any(process.returncode is not None for process in processes):
                    said = log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace").strip()
                    raise MeasurementError(f"{self.name}: a worker did not start. Its log ends:\n{said}")
                await asyncio.sleep(POLL_SECONDS)
            gate.open()
            yield marks


def judge(name: str, marks: Marks, numbers: range) -> float:
    """Jobs a second from the first that began to the last.

    Raises:
        MeasurementError: a job is missing, or began twice, or there is one that nobody enqueued.
    """
    read = marks.read()
    begun = [mark.number for mark in read]
    if sorted(begun) != list(numbers):
        twice, missing = len(begun) - len(set(begun)), len(set(numbers) - set(begun))
        raise MeasurementError(f"{name}: of {len(numbers)} jobs {missing} did not begin, and {twice} began twice")
    return rate_of(len(read), read[-1].at - read[0].at)


def rate_of(jobs: int, seconds: float) -> float:
    """Jobs a second, of which the first began at zero."""
    return (jobs - 1) / seconds if seconds > 0 else 0.0


def settled(url: str) -> None:
    """No dead rows of what went before, and a planner that knows what is there: alike for all."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


async def idle_transactions(server: str, databases: dict[str, str], seconds: float) -> dict[str, float]:
    """Transactions a second in each of the databases, while nobody enqueues anything.

    Args:
        server: any other database of the server, so that asking does not count.
        databases: their names, by who is in them.
        seconds: how long.
    """
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = await asyncio.to_thread(_transactions, server), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = await asyncio.to_thread(_transactions, server), time.monotonic() - began
    return {who: (after[name] - before[name]) / took for who, name in databases.items()}


def _transactions(server: str) -> dict[str, int]:
    with psycopg.connect(server, autocommit=True) as connection:
        return dict(
            connection.execute(
                "SELECT datname, xact_commit + xact_rollback FROM pg_stat_database WHERE datname IS NOT NULL"
            ).fetchall()
        )
