"""Chooses where counters and sessions are kept: in the cache where there is one, else in the database.

Nothing else in the package names two of these backends, so that what a deployment uses is decided in one place.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, Final

from workhorse.contracts import CounterStore, Database
from workhorse.errors import SettingsError
from workhorse.settings import Settings
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.telemetry.log import Log

__all__ = ["open_counters"]

PURGE_SECONDS: Final = 60


@asynccontextmanager
async def open_counters(
    settings: Settings, database: Database, cache_url: str | None, log: Log
) -> AsyncGenerator[CounterStore]:
    """Open the counters of rate limits.

    Raises:
        SettingsError: the store that the settings name is not there, or cannot do what is wished.
    """
    guard = settings.guard
    kind = guard.rate_store
    if kind == "memory":
        if settings.server.workers > 1:
            raise SettingsError(
                f"guard.rate_store is memory, which each of the {settings.server.workers} workers has for itself, so"
                " that limits would be as many times as high; use cache or database"
            )
        yield MemoryCounters()
        return
    if kind == "cache" and cache_url is None:
        raise SettingsError("guard.rate_store is cache, and there is none; set CACHE_URL, or use database")
    if cache_url is not None and kind != "database" and has_driver(settings):
        # Only here, because a service without a cache may have no driver for it.
        from workhorse.state.redis.connection import close_redis, open_redis  # noqa: PLC0415
        from workhorse.state.redis.counters import RedisCounters  # noqa: PLC0415

        client: Any = open_redis(cache_url)
        try:
            yield _ahead(RedisCounters(client), guard.rate_ahead_seconds)
        finally:
            await close_redis(client)
        return
    counters = PostgresCounters(database)
    async with _purged(counters, log):
        yield _ahead(counters, guard.rate_ahead_seconds)


@asynccontextmanager
async def _purged(counters: PostgresCounters, log: Log) -> AsyncGenerator[None]:
    """Forget counters that are full again, a bounded number at a time."""

    async def purge() -> None:
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            try:
                await counters.purge()
            except Exception as error:  # noqa: BLE001 - tried again at the next turn, whatever it was
                log.event("warning", "counters.purge_failed", exception=error)

    task = asyncio.create_task(purge(), name="purge counters")
    try:
        yield
    finally:
        task.cancel()


def has_driver(settings: Settings) -> bool:
    """Whether the driver of the cache is installed. Without it, an embedded cache is just not used.

    Raises:
        SettingsError: it is not, and the settings name a cache.
    """
    if find_spec("redis") is not None:
        return True
    if settings.cache.url is not None or settings.guard.rate_store == "cache":
        raise SettingsError("a cache is configured, and its driver is not installed: pip install 'workhorse[redis]'")
    return False


def _ahead(store: CounterStore, seconds: float) -> CounterStore:
    """Hand out ahead what a caller far from its limit will ask for anyway, if the settings let us."""
    return LendingCounters(store, life_seconds=seconds) if seconds else store
