"""Opens the rooms in order, and closes what was opened if a later one fails.

Log first, so that everything after it can speak; then metrics, database, migrations, clean-up. An `AsyncExitStack`
remembers what has to be closed: a half-finished start is undone like a whole one.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from workhorse.contracts import Database
from workhorse.errors import WorkhorseError
from workhorse.journal import Trail
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.service.chores import doing_chores
from workhorse.service.stores import Stores, open_stores
from workhorse.service.supervision import find_run_folder
from workhorse.settings import Settings
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import Pending, apply_migrations, require_migrated
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.stdlib_handler import StdlibHandler

__all__ = ["Rooms", "Urls", "find_urls", "open_log", "open_rooms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """Where the servers are. Secrets: not for a log."""

    database: str
    cache: str | None
    replica: str | None = None
    pooler: str | None = None
    """Where units run instead, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What is open while the service serves."""

    settings: Settings
    log: Log
    metrics: Registry
    database: Database
    replica: Database | None
    stores: Stores
    trail: Trail
    """Records what has no unit to commit with."""
    urls: Urls
    run_folder: Path | None


def open_log(settings: Settings) -> Log:
    """The process's log, not yet started."""
    text = settings.log.format == "text" or (settings.log.format == "auto" and not settings.production)
    return Log(1, format="text" if text else "json", level=settings.log.level)


@asynccontextmanager
async def find_urls(settings: Settings) -> AsyncGenerator[Urls]:
    """Where the servers are: named by the settings, else embedded ones, which live as long as this context.

    Raises:
        EmbeddedServerError: they could not be started.
    """
    database, cache = settings.database.url, settings.cache.url
    if database is not None:
        # A named database and no named cache is a service without a cache, not one with a development server.
        replica, pooler = settings.database.replica_url, settings.database.pooler_url
        yield Urls(
            database=database.get_secret_value(),
            cache=cache.get_secret_value() if cache else None,
            replica=replica.get_secret_value() if replica else None,
            pooler=pooler.get_secret_value() if pooler else None,
        )
        return
    # Only here, because production has neither the wheels nor a use for them.
    from workhorse.embedded import attach  # noqa: PLC0415

    attachment = await asyncio.to_thread(
        attach,
        settings.embedded_folder,
        cache=cache is None,
        postgres_bin=settings.embedded.postgres_bin,
        linger_seconds=settings.embedded.linger_seconds,
        deadline_seconds=settings.embedded.start_timeout_seconds,
    )
    try:
        yield Urls(database=attachment.database_url, cache=cache.get_secret_value() if cache else attachment.cache_url)
    finally:
        await asyncio.to_thread(attachment.close)


@contextlib.contextmanager
def _standard_logging(settings: Settings, log: Log) -> Generator[None]:
    """Send what the app and its libraries log through `logging` to the same log, unless the app set that up itself."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    level, handler = root.level, StdlibHandler(log)
    root.addHandler(handler)
    root.setLevel(settings.log.level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@asynccontextmanager
async def open_rooms(settings: Settings, migrations: Sequence[Migrations]) -> AsyncGenerator[Rooms]:
    """Open the rooms; close them in reverse at the end, or when a later one fails.

    Raises:
        StartupError: one could not be opened.
    """
    async with AsyncExitStack() as stack:
        log = open_log(settings)
        log.start()
        stack.callback(log.close)
        stack.enter_context(_standard_logging(settings, log))
        run_folder = find_run_folder()
        metrics = Registry(run_folder / "metrics" if run_folder else None)
        stack.callback(metrics.close)
        try:
            urls = await stack.enter_async_context(find_urls(settings))
            await _migrate(settings, urls, [WORKHORSE, *migrations], log)
            database = await _open_database(urls.pooler or urls.database, settings, stack, pooled=bool(urls.pooler))
            replica = None if urls.replica is None else await _open_database(urls.replica, settings, stack)
        except WorkhorseError as error:
            log.event("error", "service.start_failed", reason=str(error))
            raise
        await stack.enter_async_context(doing_chores(settings, database, log))
        stores = await stack.enter_async_context(open_stores(settings, database, urls.cache, log))
        records = settings.records
        trail = await stack.enter_async_context(
            Trail(
                database,
                log=log,
                metrics=metrics,
                max_waiting=records.max_waiting,
                store_seconds=records.store_timeout_seconds,
                fail_closed=records.fail_closed,
                all_denials=records.denials == "all",
                logins=records.logins,
            )
        )
        yield Rooms(
            settings=settings,
            log=log,
            metrics=metrics,
            database=database,
            replica=replica,
            stores=stores,
            trail=trail,
            urls=urls,
            run_folder=run_folder,
        )


async def _open_database(
    url: str, settings: Settings, stack: AsyncExitStack, *, pooled: bool = False
) -> PostgresDatabase:
    database = PostgresDatabase(
        url,
        pool_min=settings.database.pool_min,
        pool_max=settings.database.pool_max,
        acquire_timeout_seconds=settings.database.acquire_timeout_seconds,
        connect_timeout_seconds=settings.database.connect_timeout_seconds,
        statement_timeout_seconds=settings.database.statement_timeout_seconds,
        idle_timeout_seconds=settings.database.idle_timeout_seconds,
        pooled=pooled,
    )
    await database.open()
    stack.push_async_callback(database.close)
    return database


async def _migrate(settings: Settings, urls: Urls, sets: Sequence[Migrations], log: Log) -> None:
    """Bring the schema up to date in development; in production, insist that somebody has."""
    if not settings.production:

        def report(pending: Pending) -> None:
            log.event("info", "migration.applied", migration=str(pending))

        await apply_migrations(urls.database, sets, report=report)
        return
    await require_migrated(urls.database, sets)
