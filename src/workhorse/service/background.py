"""What a service does beside its requests: jobs and feeds in development, and what caches and leases get from it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from workhorse.service.rooms import Rooms
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.notices import PostgresNotices

if TYPE_CHECKING:
    from workhorse.service.service import Service

__all__ = ["bind_caching", "counting", "open_control", "working"]

# A worker's own statements, beside the pool that its jobs use: turns, beats and chores at once.
CONTROL_CONNECTIONS: Final = 4


def bind_caching(service: "Service", rooms: Rooms) -> None:
    """Give the caches and leases of a service their stores."""
    stores = rooms.stores
    if service.caches is not None:

        def report(event: str, error: BaseException | None) -> None:
            rooms.log.event("warning", f"cache.{event}", exception=error)

        # Of an app's own engine it is not known that the cache lies in its database.
        within_units = stores.cache_within_units and service.database_of(rooms) is rooms.database
        service.caches.bind(stores.cache, within_units=within_units, report=report)
    if service.leases is not None:
        service.leases.bind(stores.leases)


@asynccontextmanager
async def counting(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Bring what caches and leases count into the metrics during the block."""
    if service.caches is None and service.leases is None:
        yield
        return
    from workhorse.caching.meters import publishing  # noqa: PLC0415 - most services have neither

    async with publishing(service.caches, service.leases, rooms.metrics):
        yield


async def open_control(rooms: Rooms, stack: AsyncExitStack) -> PostgresDatabase:
    """The connections of a worker's own."""
    database = rooms.settings.database
    control = PostgresDatabase(
        rooms.urls.database,
        pool_max=CONTROL_CONNECTIONS,
        connect_timeout_seconds=database.connect_timeout_seconds,
        statement_timeout_seconds=database.statement_timeout_seconds,
    )
    await control.open()
    stack.push_async_callback(control.close)
    return control


@asynccontextmanager
async def working(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Run the service's jobs and feeds during the block, where the settings say so.

    Raises:
        StartupError: a feed may not be read, here or elsewhere.
    """
    if service.feeds:
        from workhorse.feeds.reader import prepare_feeds  # noqa: PLC0415 - most services have none

        await prepare_feeds(service.database_of(rooms), service.feeds)
    wish = rooms.settings.jobs.in_process
    if wish == "off" or (wish == "auto" and rooms.settings.production):
        yield
        return
    async with AsyncExitStack() as stack:
        if service.relays:
            from workhorse.relays import relaying  # noqa: PLC0415 - as below

            await stack.enter_async_context(
                relaying(service.database_of(rooms), service.relays, log=rooms.log, metrics=rooms.metrics)
            )
        if service.feeds:
            from workhorse.feeds.reader import reading  # noqa: PLC0415 - as below

            database = service.database_of(rooms)
            await stack.enter_async_context(
                reading(database, service.feeds, events=service.events, log=rooms.log, metrics=rooms.metrics)
            )
        if rooms.settings.audit.origin:
            from workhorse.sealer.hosting import sealing  # noqa: PLC0415 - it needs cryptography, an extra

            sealer = sealing(rooms.settings, service.database_of(rooms), log=rooms.log, metrics=rooms.metrics)
            await stack.enter_async_context(sealer)
        if service.jobs:
            await stack.enter_async_context(_running_jobs(service, rooms))
        yield


@asynccontextmanager
async def _running_jobs(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    # Only here, because most processes of a service in production run no jobs.
    from workhorse.jobs import CHANNEL  # noqa: PLC0415
    from workhorse.jobs.in_process import in_process  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        control = await open_control(rooms, stack)
        await stack.enter_async_context(
            in_process(
                service.database_of(rooms),
                service.jobs,
                control=control,
                notices=PostgresNotices(rooms.urls.database, CHANNEL),
                schedules=service.schedules,
                events=service.events,
                log=rooms.log,
                metrics=rooms.metrics,
            )
        )
        yield
