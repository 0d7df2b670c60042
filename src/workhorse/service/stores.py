"""Chooses where counters, sessions, API keys, cached values and leases are kept.

In the cache where there is one, else in the database.

Nothing else in the package names two of these backends, so that what a deployment uses is decided in one place. API
keys are always in the database: they are few, they must outlast a restart, and a revoked one must not come back.
"""

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from time import time
from typing import Any, Final, Literal

from workhorse.contracts import ApiKeyStore, CacheStore, CounterStore, Database, LeaseStore, SessionStore
from workhorse.errors import SettingsError
from workhorse.settings import Settings
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.cache import MemoryCache
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.memory.lease import MemoryLeases
from workhorse.state.memory.sessions import MemorySessions
from workhorse.state.postgres.api_keys import PostgresApiKeys
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.lease import PostgresLeases
from workhorse.state.postgres.sessions import PostgresSessions
from workhorse.telemetry.log import Log

__all__ = ["Stores", "open_stores", "reply_keys"]

PURGE_SECONDS: Final = 60
PURGES_PER_TURN: Final = 20

Kind = Literal["cache", "database", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the rooms keep their state in."""

    counters: CounterStore
    sessions: SessionStore
    api_keys: ApiKeyStore
    cache: CacheStore
    cache_within_units: bool
    """Whether the cache is in the database on which units run."""
    leases: LeaseStore


@asynccontextmanager
async def open_stores(
    settings: Settings, database: Database, cache_url: str | None, log: Log
) -> AsyncGenerator[Stores]:
    """Open the stores; close them at the end.

    Raises:
        SettingsError: a store that the settings name is not there, or cannot do what is wished.
    """
    rates = _choose(settings, "guard.rate_store", settings.guard.rate_store, cache_url)
    logins = _choose(settings, "identity.session_store", settings.identity.session_store, cache_url)
    cached = _choose(settings, "cache.store", settings.cache.store, cache_url)
    leased = _choose(settings, "cache.lease_store", settings.cache.lease_store, cache_url)
    async with AsyncExitStack() as stack:
        client: Any = None
        values: Any = None
        if cache_url is not None and "cache" in {rates, logins, leased}:
            client = await _open_client(cache_url, stack)
            if client.cluster:
                raise SettingsError(
                    "CACHE_URL names a Redis cluster, in which limits, sessions and leases cannot be kept: their keys"
                    " lie on several servers. Set guard.rate_store, identity.session_store and cache.lease_store to"
                    " database; cache.store may stay"
                )
        if cache_url is not None and cached == "cache":
            # Its own connections: however much is cached, who calls is known in time.
            values = await _open_client(cache_url, stack)
        yield Stores(
            counters=await _open_counters(rates, settings, database, client, log, stack),
            sessions=await _open_sessions(logins, database, client, log, stack),
            api_keys=PostgresApiKeys(database),
            cache=await _open_cache(cached, database, values, log, stack),
            cache_within_units=cached == "database",
            leases=await _open_leases(leased, database, client, log, stack),
        )


def _choose(
    settings: Settings, name: str, wish: Literal["auto", "cache", "database", "memory"], cache_url: str | None
) -> Kind:
    """Which kind of store a wish means here.

    Raises:
        SettingsError: it is not there, or would not hold what it promises.
    """
    if wish == "memory":
        if settings.server.workers > 1:
            raise SettingsError(
                f"{name} is memory, which each of the {settings.server.workers} workers has for itself, so that none"
                " knows what another counted or kept; use cache or database"
            )
        return "memory"
    if wish == "cache" and cache_url is None:
        raise SettingsError(f"{name} is cache, and there is none; set CACHE_URL, or use database")
    if wish != "database" and cache_url is not None and _has_driver(settings, required=wish == "cache"):
        return "cache"
    return "database"


def reply_keys(settings: Settings) -> list[bytes]:
    """The keys that kept replies are encrypted with.

    Raises:
        SettingsError: one is not base64.
    """
    try:
        return [b64decode(key.get_secret_value(), validate=True) for key in settings.idempotency.reply_keys]
    except ValueError as error:
        raise SettingsError(
            "idempotency.reply_keys has a key that is not base64; `openssl rand -base64 32` makes one"
        ) from error


def _has_driver(settings: Settings, *, required: bool) -> bool:
    """Whether the driver of the cache is installed. Without it, an embedded cache is just not used.

    Raises:
        SettingsError: it is not, and the settings name a cache.
    """
    if find_spec("redis") is not None:
        return True
    if settings.cache.url is not None or required:
        raise SettingsError("a cache is configured, and its driver is not installed: pip install 'workhorse[redis]'")
    return False


async def _open_client(cache_url: str, stack: AsyncExitStack) -> Any:
    # Only here, because a service without a cache may have no driver for it.
    from workhorse.state.redis.connection import close_redis, open_redis  # noqa: PLC0415

    client = open_redis(cache_url)
    stack.push_async_callback(close_redis, client)
    return client


async def _open_counters(
    kind: Kind, settings: Settings, database: Database, client: Any, log: Log, stack: AsyncExitStack
) -> CounterStore:
    if kind == "memory":
        return MemoryCounters()
    store: CounterStore
    if kind == "cache":
        from workhorse.state.redis.counters import RedisCounters  # noqa: PLC0415 - as above

        store = RedisCounters(client)
    else:
        store = in_database = PostgresCounters(database)
        await stack.enter_async_context(_purging("counters", in_database.purge, log))
    # Hands out ahead what a caller far from its limit will ask for anyway, if the settings let us.
    seconds = settings.guard.rate_ahead_seconds
    return LendingCounters(store, life_seconds=seconds) if seconds else store


async def _open_sessions(kind: Kind, database: Database, client: Any, log: Log, stack: AsyncExitStack) -> SessionStore:
    if kind == "memory":
        return MemorySessions()
    if kind == "cache":
        from workhorse.state.redis.sessions import RedisSessions  # noqa: PLC0415 - as above

        return RedisSessions(client)
    store = PostgresSessions(database)

    async def purge() -> int:
        return await store.purge(now=time())

    await stack.enter_async_context(_purging("sessions", purge, log))
    return store


async def _open_cache(kind: Kind, database: Database, client: Any, log: Log, stack: AsyncExitStack) -> CacheStore:
    if kind == "memory":
        return MemoryCache()
    if kind == "cache":
        from workhorse.state.redis.cache import RedisCache  # noqa: PLC0415 - as above

        return RedisCache(client)
    store = PostgresCache(database)
    await stack.enter_async_context(_purging("cache", store.purge, log))
    return store


async def _open_leases(kind: Kind, database: Database, client: Any, log: Log, stack: AsyncExitStack) -> LeaseStore:
    if kind == "memory":
        return MemoryLeases()
    if kind == "cache":
        from workhorse.state.redis.lease import RedisLeases  # noqa: PLC0415 - as above

        return RedisLeases(client)
    store = PostgresLeases(database)
    await stack.enter_async_context(_purging("leases", store.purge, log))
    return store


@asynccontextmanager
async def _purging(name: str, purge: Callable[[], Awaitable[int]], log: Log) -> AsyncGenerator[None]:
    """Forget what is over in the background, a bounded number at a time."""

    async def work() -> None:
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            try:
                for _ in range(PURGES_PER_TURN):
                    if not await purge():
                        break
            except Exception as error:  # noqa: BLE001 - tried again at the next turn, whatever it was
                log.event("warning", f"{name}.purge_failed", exception=error)

    task = asyncio.create_task(work(), name=f"purge {name}")
    try:
        yield
    finally:
        task.cancel()
