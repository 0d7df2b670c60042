"""`workhorse worker bank.app:service`: run the jobs that the service enqueues and its feeds, in a process of its own.

As many of these as there is work for: they find each other through the database alone, and any of them may be killed at
any time. With `operations.worker_address` each answers probes and shows its metrics there. SIGTERM and SIGINT let the
jobs that run end, for at most `--drain` seconds; a second one ends them at once.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from workhorse.cli.target import load_service
from workhorse.errors import SettingsError
from workhorse.feeds.reader import prepare_feeds, reading
from workhorse.jobs import CHANNEL, Worker, WorkerOptions
from workhorse.relays import relaying
from workhorse.service import Service
from workhorse.service.background import bind_caching, counting, open_control
from workhorse.service.privacy import forgetting, guard_privacy
from workhorse.service.rooms import open_rooms
from workhorse.service.sealer_health import SealerHealth
from workhorse.service.tables import asking
from workhorse.service.warehouse import storing
from workhorse.service.worker_endpoint import answering
from workhorse.state.postgres.notices import PostgresNotices

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "worker"
SUMMARY: Final = "Run the jobs that a service enqueues, and its feeds of events."
DEFAULTS: Final = WorkerOptions()


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:SERVICE", help="for example bank.app:service")
    parser.add_argument("--queues", help="which to serve, with commas between; by default all that its jobs name")
    parser.add_argument(
        "--concurrency", type=int, default=DEFAULTS.concurrency, help="jobs at once (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=DEFAULTS.threads, help="of those that are not async (default: %(default)s)"
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=DEFAULTS.drain_seconds,
        metavar="SECONDS",
        help="how long jobs may go on at a stop (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Work until told to stop."""
    service = load_service(arguments.target)
    if not service.jobs and not service.feeds and not service.settings.audit.origin:
        raise SettingsError(
            "the service has no jobs and no feeds; tell it of them: Service(app, jobs=[send_advice, ...])"
        )
    options = WorkerOptions(concurrency=arguments.concurrency, threads=arguments.threads, drain_seconds=arguments.drain)
    queues = arguments.queues.split(",") if arguments.queues else None
    asyncio.run(_work(service, queues, options))
    return 0


async def _work(service: Service, queues: Sequence[str] | None, options: WorkerOptions) -> None:
    async with AsyncExitStack() as stack:
        rooms = await stack.enter_async_context(open_rooms(service.settings, service.migrations))
        database = service.database_of(rooms)
        guard_privacy(service, rooms)
        bind_caching(service, rooms)
        await stack.enter_async_context(counting(service, rooms))
        await stack.enter_async_context(asking(service, rooms))
        await stack.enter_async_context(storing(service, rooms))
        health = SealerHealth()
        await stack.enter_async_context(answering(rooms, keeps_up=health.keeps_up))
        await stack.enter_async_context(forgetting(service, rooms))
        await prepare_feeds(database, service.feeds)
        await stack.enter_async_context(relaying(database, service.relays, log=rooms.log, metrics=rooms.metrics))
        await stack.enter_async_context(
            reading(database, service.feeds, events=service.events, log=rooms.log, metrics=rooms.metrics)
        )
        if rooms.settings.audit.origin:
            from workhorse.sealer.hosting import sealing  # noqa: PLC0415 - it needs cryptography, an extra

            sealer = sealing(rooms.settings, database, log=rooms.log, metrics=rooms.metrics)
            health.watch(await stack.enter_async_context(sealer), rooms.settings.audit.ready_behind_seconds)
        if not service.jobs:
            await _until_told(asyncio.create_task(asyncio.Event().wait(), name="feeds alone"), None)
            return
        worker = Worker(
            database,
            service.jobs,
            control=await open_control(rooms, stack),
            notices=PostgresNotices(rooms.urls.database, CHANNEL),
            queues=queues,
            schedules=service.schedules,
            options=options,
            events=service.events,
            log=rooms.log,
            metrics=rooms.metrics,
        )
        await _until_told(asyncio.create_task(worker.run(), name="worker"), worker)


async def _until_told(task: asyncio.Task[Any], worker: Worker | None) -> None:
    """Wait for the end of `task`, which a signal brings about: gently of a worker, and at the second one at once."""
    told: list[int] = []

    def stop() -> None:
        told.append(1)
        if len(told) > 1 or worker is None:
            task.cancel()
        else:
            worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
