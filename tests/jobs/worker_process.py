"""A worker of its own process, for tests that kill, freeze and stop it: `python -m tests.jobs.worker_process URL`."""

import asyncio
import signal
import sys
import time
from typing import Any

from tests.jobs.kit import opened
from workhorse.jobs import Job, Retries, Worker, WorkerOptions, job, step
from workhorse.state.postgres.notices import PostgresNotices
from workhorse.units import unit

QUICK = Retries(attempts=5, first_seconds=0.05, factor=1.0)
INSERT = "INSERT INTO effects (what) VALUES (%s)"


@job(retries=QUICK)
async def effect(what: str, seconds: float = 0.0) -> None:
    """Has one effect, in its own time."""
    work = await unit()
    await work.execute(INSERT, (what,))
    await asyncio.sleep(seconds)


@job(retries=QUICK)
def slow_thread(what: str, seconds: float) -> None:
    """Holds its thread."""
    time.sleep(seconds)


@job(retries=Retries(attempts=2))
async def killer() -> None:
    """Kills its worker."""
    signal.raise_signal(signal.SIGKILL)


async def insert(what: str) -> str:
    await (await unit()).execute(INSERT, (what,))
    return what


@job(retries=QUICK)
async def stepped(name: str, steps: int, seconds: float) -> None:
    """Has one effect a step."""
    for number in range(steps):
        await step(f"step {number}", insert, f"{name} {number}")
        await asyncio.sleep(seconds)


JOBS: list[Job[Any, Any]] = [effect, slow_thread, killer, stepped]
OPTIONS = WorkerOptions(concurrency=20, lease_seconds=1.5, beat_seconds=0.3, drain_seconds=5.0)


async def main(url: str) -> None:
    async with opened(url) as database, opened(url, pool_max=3) as control:
        worker = Worker(
            database, JOBS, control=control, notices=PostgresNotices(url, "workhorse_jobs"), options=OPTIONS
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
