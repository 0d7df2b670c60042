"""The connections of Django's caches: one event loop in a thread of its own, for all threads and loops of the process.

Django's caches are called from anywhere: sync views, async ones, commands, a WSGI server's threads. A store belongs to
one loop. So the store lives in a loop of its own, begun by the first call, and every call is sent there; who calls
waits for the answer in its own way. After a fork the child begins another.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from importlib.util import find_spec
from typing import Final, TypeVar

from workhorse.contracts import CacheStore
from workhorse.errors import SettingsError, StartupError, StoreUnavailable
from workhorse.integrations.django.conf import service_settings
from workhorse.settings import Settings
from workhorse.state.memory.cache import MemoryCache
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.postgres.database import PostgresDatabase

__all__ = ["CacheLine"]

T = TypeVar("T")

POOL: Final = 8
NO_DRIVER: Final = "a cache is configured, and its driver is not installed: pip install 'workhorse[redis]'"
PURGE_SECONDS: Final = 60.0
PURGES_PER_TURN: Final = 20
CLOSE_SECONDS: Final = 5.0


class CacheLine:
    """A way to one store.

    Args:
        location: the URL of a Redis or Valkey server; empty: where the settings say.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._stack = AsyncExitStack()
        self._store: asyncio.Task[CacheStore] | None = None

    def __repr__(self) -> str:
        return f"<CacheLine {'open' if self._loop is not None else 'not used yet'}>"

    def send(self, step: Callable[[CacheStore], Awaitable[T]]) -> Future[T]:
        """Have `step` done with the store, in the store's loop.

        Raises, by the future:
            StoreUnavailable: it does not answer, or could not be opened.
            SettingsError: the settings name none that there is.
        """

        async def do() -> T:
            return await step(await self._opened())

        return asyncio.run_coroutine_threadsafe(do(), self._running())

    def close(self) -> None:
        """Close the connections, and end the loop. The next call begins anew."""
        with self._starting:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is None or thread is None or self._process != os.getpid():
                return
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._close(), loop).result(CLOSE_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSE_SECONDS)
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None or self._process != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._process, self._store, self._stack = os.getpid(), None, AsyncExitStack()
                self._thread = threading.Thread(target=self._loop.run_forever, name="workhorse-cache", daemon=True)
                self._thread.start()
            return self._loop

    async def _opened(self) -> CacheStore:
        """The store. Who comes while it is being opened waits for the same."""
        if self._store is None:
            self._store = asyncio.get_running_loop().create_task(self._open(), name="open the cache")
        opening = self._store
        try:
            return await asyncio.shield(opening)
        except (SettingsError, StoreUnavailable):
            if self._store is opening:  # the next call tries again
                self._store = None
                await self._stack.aclose()
            raise

    async def _open(self) -> CacheStore:
        settings = service_settings()
        url = self._location or _url_of(settings)
        if url:
            if find_spec("redis") is None:
                raise SettingsError(
                    "a cache is configured, and its driver is not installed: pip install 'workhorse[redis]'"
                )
            # Only here, because a project without such a server may have no driver for it.
            from workhorse.state.redis.cache import RedisCache  # noqa: PLC0415
            from workhorse.state.redis.connection import close_redis, open_redis  # noqa: PLC0415

            client = open_redis(url)
            self._stack.push_async_callback(close_redis, client)
            return RedisCache(client)
        if settings.cache.store == "memory":
            return MemoryCache()
        named = settings.database.url
        if named is None:
            raise SettingsError("the cache is kept in the database, and none is named: set DATABASES")
        database = PostgresDatabase(named.get_secret_value(), pool_max=POOL)
        self._stack.push_async_callback(database.close)
        try:
            await database.open()
        except StartupError as error:
            raise StoreUnavailable from error
        store = PostgresCache(database)
        self._stack.push_async_callback(_ended, asyncio.get_running_loop().create_task(_purging(store)))
        return store

    async def _close(self) -> None:
        if self._store is not None:
            with suppress(Exception):
                await self._store
        await self._stack.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()


def _url_of(settings: Settings) -> str:
    """Where the cache's server is; empty: there is none, or the settings prefer the database."""
    if settings.cache.store in {"database", "memory"}:
        return ""
    if settings.cache.url is None:
        if settings.cache.store == "cache":
            raise SettingsError("cache.store is cache, and there is none; set CACHE_URL, or use database")
        return ""
    return settings.cache.url.get_secret_value()


async def _purging(store: PostgresCache) -> None:
    """Forget what is over, a bounded number at a time: commands and WSGI servers have no service that does it."""
    while True:
        await asyncio.sleep(PURGE_SECONDS)
        with suppress(StoreUnavailable):
            for _ in range(PURGES_PER_TURN):
                if not await store.purge():
                    break


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
