"""A worker inside another process, for development and tests: no second command, the same engine.

    async with in_process(database, [send_advice], url=database_url):
        ...

It shares the process's event loop: a job that blocks it holds up the requests as well. In production workers are
processes of their own (`workhorse worker`), which scale and fail apart from the service.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from workhorse.contracts import Database
from workhorse.jobs.definition import Job
from workhorse.jobs.options import Notices, WorkerOptions
from workhorse.jobs.schedules import Schedule
from workhorse.jobs.worker import Worker
from workhorse.journal.kinds import EventTypes
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units.work import NO_KINDS

__all__ = ["in_process"]

# Whoever reloads while he develops does not want to wait for a job.
OPTIONS: Final = WorkerOptions(concurrency=10, threads=4, drain_seconds=2.0)


@asynccontextmanager
async def in_process(
    database: Database,
    jobs: Sequence[Job[Any, Any]],
    *,
    control: Database | None = None,
    notices: Notices | None = None,
    schedules: Sequence[Schedule] = (),
    options: WorkerOptions = OPTIONS,
    events: EventTypes = NO_KINDS,
    log: Log | None = None,
    metrics: Registry | None = None,
) -> AsyncGenerator[Worker]:
    """Run a worker during the block; at its end let jobs end, or give them back.

    Args:
        database: for the jobs' units.
        jobs: those of the app.
        control: as for `Worker`.
        notices: as for `Worker`.
        schedules: as for `Worker`.
        options: as for `Worker`.
        events: as for `Worker`.
        log: as for `Worker`.
        metrics: as for `Worker`.

    Raises:
        SettingsError: two jobs have one name, or there is none.
    """
    worker = Worker(
        database,
        jobs,
        control=control,
        notices=notices,
        schedules=schedules,
        options=options,
        events=events,
        log=log,
        metrics=metrics,
    )
    task = asyncio.create_task(worker.run(), name="worker in process")
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait({task}, timeout=options.drain_seconds + 10)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()
