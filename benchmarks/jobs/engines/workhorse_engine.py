"""This project's: fences, history and leases on, as in production."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.jobs.engine import AT_ONCE, Begin, Engine, Enqueuer, Servers
from benchmarks.jobs.ours import opened
from workhorse.contracts import Database
from workhorse.jobs import Job, Worker, WorkerOptions, job
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.postgres.notices import PostgresNotices

__all__ = ["Workhorse", "WorkhorseEnqueuer", "make"]


def nothing(begin: Begin) -> Job[[int], Any]:
    """The job."""

    @job(name="nothing")
    async def run(number: int) -> None:
        begin(number)

    return run


class WorkhorseEnqueuer:
    """Each call is a unit of its own."""

    def __init__(self, database: Database, kind: Job[[int], Any]) -> None:
        self._database = database
        self._kind = kind

    async def many(self, numbers: Sequence[int]) -> None:
        """One statement."""
        await self._kind.enqueue_many_alone(self._database, [self._kind.call(number) for number in numbers])

    async def one(self, number: int) -> None:
        """One transaction."""
        await self._kind.enqueue_alone(self._database, number)


class Workhorse(Engine):
    """With the two pools that a worker has: one for the jobs' units, and one for its own statements."""

    at_once = AT_ONCE

    async def prepare(self) -> None:
        """Apply the package's own migrations."""
        await apply_migrations(self.servers.database, [WORKHORSE])

    def kind(self, begin: Begin) -> Job[[int], Any]:
        """The job that is measured."""
        return nothing(begin)

    @asynccontextmanager
    async def enqueuer(self) -> AsyncGenerator[Enqueuer]:
        """On a pool."""
        async with opened(self.servers.database, 2) as database:
            yield WorkhorseEnqueuer(database, self.kind(lambda _: None))

    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker."""

        async def main() -> None:
            url = self.servers.database
            async with opened(url, 8) as database, opened(url, 3) as control:
                worker = Worker(
                    database,
                    [self.kind(begin)],
                    control=control,
                    notices=PostgresNotices(url, "workhorse_jobs"),
                    options=WorkerOptions(concurrency=self.at_once),
                )
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
                gate()
                await worker.run()

        asyncio.run(main())


def make(servers: Servers) -> Engine:
    """The engine."""
    return Workhorse(servers)
