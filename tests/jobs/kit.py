"""Workers on a real database: in this process, and in processes of their own that can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from workhorse.jobs import Job, Worker, WorkerOptions
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.notices import PostgresNotices

Sql = Callable[..., list[tuple[Any, ...]]]

ROOT: Final = Path(__file__).parents[2]


@asynccontextmanager
async def opened(url: str, *, pool_max: int = 8) -> AsyncGenerator[PostgresDatabase]:
    """A pool, open during the block."""
    database = PostgresDatabase(url, pool_min=1, pool_max=pool_max)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def working(
    url: str, database: PostgresDatabase, jobs: Sequence[Job[Any, Any]], **options: Any
) -> AsyncGenerator[Worker]:
    """A worker that runs during the block, and drains at its end."""
    options.setdefault("options", WorkerOptions(concurrency=20, lease_seconds=2.0, beat_seconds=0.5, drain_seconds=5.0))
    async with opened(url, pool_max=3) as control:
        worker = Worker(database, jobs, control=control, notices=PostgresNotices(url, "workhorse_jobs"), **options)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            async with asyncio.timeout(20):
                await task


async def until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class WorkerProcess:
    """A worker in a process of its own (`worker_process.py`)."""

    def __init__(self, url: str, log: Path) -> None:
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.jobs.worker_process", url], cwd=ROOT, stdout=stream, stderr=stream
            )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, also to one that is stopped."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def worker_processes(url: str, count: int, log: Path, sql: Sql) -> Generator[list[WorkerProcess]]:
    """So many workers, of which some may be killed by the end."""
    before = sql("SELECT count(*) FROM workhorse.job_workers")[0][0]
    workers = [WorkerProcess(url, log) for _ in range(count)]
    try:
        wait_for(lambda: sql("SELECT count(*) FROM workhorse.job_workers")[0][0] >= before + count, log)
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.send(signal.SIGCONT)
                worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()


def wait_for(condition: Callable[[], bool], log: Path, *, seconds: float = 30.0) -> None:
    """Wait until it holds; a failure shows the end of the workers' log."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, log.read_text()[-4000:]
        time.sleep(0.05)
