"""The caches that are compared, each behind the same few calls.

All are asked for the same: bytes under a key on one Valkey over TCP, and a value made once for many who want it, as
their own pages say to do that.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from workhorse.caching import Caches, Near
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.connection import close_redis, open_redis

__all__ = ["CONTESTANTS", "Contestant"]

Make = Callable[[], Awaitable[bytes]]

TTL_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One cache. `invalidate` forgets all entries of the tag `tag`; None where there are no tags."""

    get: Callable[[str], Awaitable[object]]
    set: Callable[[str, bytes], Awaitable[object]]
    once: Callable[[str, Make], Awaitable[object]]
    delete: Callable[[str], Awaitable[object]]
    set_tagged: Callable[[str, bytes], Awaitable[object]] | None = None
    invalidate: Callable[[], Awaitable[object]] | None = None


@asynccontextmanager
async def workhorse(port: int, *, near: Near | None = None) -> AsyncIterator[Contestant]:
    """This project's, with or without near values."""
    client = open_redis(f"redis://127.0.0.1:{port}", pool_max=64)
    caches = Caches(RedisCache(client, timeout_seconds=10), near=near)
    cache = caches.open("bench", bytes, ttl=TTL_SECONDS)
    try:
        yield Contestant(
            get=cache.get,
            set=cache.set,
            once=cache.once,
            delete=cache.delete,
            set_tagged=lambda key, value: cache.set(key, value, tags=["tag"]),
            invalidate=lambda: caches.invalidate("tag"),
        )
    finally:
        await caches.close()
        await close_redis(client)


@asynccontextmanager
async def workhorse_near(port: int) -> AsyncIterator[Contestant]:
    """With values kept in the process for a second."""
    async with workhorse(port, near=Near(seconds=1)) as contestant:
        yield contestant


@asynccontextmanager
async def aiocache(port: int) -> AsyncIterator[Contestant]:
    """Its lock against stampedes is `RedLock`, which waits for a notice or its lease's end."""
    library: Any = import_module("aiocache")
    lock: Any = import_module("aiocache.lock")
    pickled = import_module("aiocache.serializers").PickleSerializer()
    cache = library.RedisCache(endpoint="127.0.0.1", port=port, pool_max_size=256, timeout=10, serializer=pickled)

    async def once(key: str, make: Make) -> object:
        found = await cache.get(key)
        if found is not None:
            return found
        async with lock.RedLock(cache, key, 10):
            found = await cache.get(key)
            if found is None:
                found = await make()
                await cache.set(key, found, ttl=TTL_SECONDS)
            return found

    try:
        yield Contestant(
            get=cache.get, set=lambda key, value: cache.set(key, value, ttl=TTL_SECONDS), once=once, delete=cache.delete
        )
    finally:
        await cache.close()


@asynccontextmanager
async def cashews(port: int) -> AsyncIterator[Contestant]:
    """Its decorator with `lock=True`."""
    library: Any = import_module("cashews")
    cache = library.Cache()
    cache.setup(f"redis://127.0.0.1:{port}/", max_connections=256, socket_timeout=10)
    await cache.init()
    makes: dict[str, Make] = {}
    cache.register_tag("tag", "tagged:{key}")

    async def make_by(key: str) -> bytes:
        return await makes[key]()

    made = cache(ttl=TTL_SECONDS, key="{key}", lock=True)(make_by)

    async def once(key: str, make: Make) -> object:
        makes[key] = make
        return await made(key)

    try:
        yield Contestant(
            get=cache.get,
            set=lambda key, value: cache.set(key, value, expire=TTL_SECONDS),
            once=once,
            delete=cache.delete,
            set_tagged=lambda key, value: cache.set(f"tagged:{key}", value, expire=TTL_SECONDS, tags=["tag"]),
            invalidate=lambda: cache.delete_tags("tag"),
        )
    finally:
        await cache.close()


CONTESTANTS = {"workhorse": workhorse, "workhorse, near": workhorse_near, "aiocache": aiocache, "cashews": cashews}
