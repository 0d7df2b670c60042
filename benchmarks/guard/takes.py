"""What it costs to ask a rate limit, by store: ours beside `limits`, which slowapi calls too.

Each counter is asked one take at a time, for ten callers in turn, none of whom is near its limit; then by sixteen
tasks at once. Counted is the CPU time of this process, which is what a take takes from a request, and the time until
the answer is there. `limits` counts in fixed windows here, which is the cheapest of its strategies and admits up to
twice the limit around a window's edge; ours is exact.
"""

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import uvloop

from benchmarks.figures import Spread, percentile
from workhorse.contracts import CounterStore
from workhorse.embedded import attach, drop_database, fresh_database
from workhorse.migrations import WORKHORSE
from workhorse.rate import Quota
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.redis.connection import close_redis, open_redis
from workhorse.state.redis.counters import RedisCounters

__all__ = ["STORES", "Place", "TakeCost", "measure_takes"]

CALLERS: Final = 10
TASKS: Final = 16
LOAN_SECONDS: Final = 0.5
"""The default of guard.rate_ahead_seconds."""
RATE: Final = (1_000_000, 60)
"""Requests, and seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the servers are."""

    database_url: str
    cache_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeCost:
    """One store: medians over the rounds, or why there are none."""

    title: str
    cpu_us: float = 0.0
    """CPU microseconds of this process per take, asked one after the other."""
    p50_us: float = 0.0
    """Until the answer is there."""
    rate: float = 0.0
    """Takes per second, asked by sixteen tasks."""
    failed: str = ""


Take = Callable[[str], Awaitable[object]]
Opened = Callable[[Place], AbstractAsyncContextManager[Take]]


def _ours(open_store: Callable[[Place], AbstractAsyncContextManager[CounterStore]], *, lending: bool = False) -> Opened:
    requests, seconds = RATE

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Take]:
        async with open_store(place) as shared:
            store = LendingCounters(shared, life_seconds=LOAN_SECONDS) if lending else shared

            async def take(key: str) -> object:
                (grant,) = await store.take([Quota(key, seconds * 1_000_000 // requests, requests)])
                assert grant.admitted
                return grant

            yield take

    return opened


@asynccontextmanager
async def _memory(_: Place) -> AsyncGenerator[CounterStore]:
    yield MemoryCounters()


@asynccontextmanager
async def _redis(place: Place) -> AsyncGenerator[CounterStore]:
    client = open_redis(place.cache_url)
    try:
        yield RedisCounters(client, prefix=f"bench:{uuid4().hex}:")
    finally:
        await close_redis(client)


@asynccontextmanager
async def _postgres(place: Place) -> AsyncGenerator[CounterStore]:
    database = PostgresDatabase(place.database_url)
    await database.open()
    try:
        yield PostgresCounters(database)
    finally:
        await database.close()


def _limits(storage: Callable[[Place], str], strategy: str, *, blocking: bool) -> Opened:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Take]:
        package = "limits" if blocking else "limits.aio"
        strategies: Any = importlib.import_module(f"{package}.strategies")
        limits: Any = importlib.import_module("limits")
        uri = storage(place)
        options: dict[str, Any] = {}
        if not blocking and "redis" in uri:
            options["implementation"] = "redispy"  # the driver that ours uses too
        limiter = getattr(strategies, strategy)(limits.storage.storage_from_string(uri, **options))
        item = limits.RateLimitItemPerSecond(*RATE)
        name = uuid4().hex

        async def take(key: str) -> object:
            admitted = limiter.hit(item, name, key)
            if not blocking:
                admitted = await admitted
            assert admitted
            return admitted

        yield take

    return opened


def _redis_url(place: Place) -> str:
    """The cache as `limits` names it: `redis+unix` for a Unix socket."""
    return place.cache_url.replace("unix://", "redis+unix://", 1)


FIXED: Final = "FixedWindowRateLimiter"
SLIDING: Final = "SlidingWindowCounterRateLimiter"

STORES: Final[Mapping[str, Opened]] = {
    "ours: memory": _ours(_memory),
    "ours: lending over Valkey (the default)": _ours(_redis, lending=True),
    "ours: Valkey": _ours(_redis),
    "ours: lending over Postgres": _ours(_postgres, lending=True),
    "ours: Postgres": _ours(_postgres),
    "limits, async: memory": _limits(lambda _: "async+memory://", FIXED, blocking=False),
    "limits, async: Valkey": _limits(lambda place: "async+" + _redis_url(place), FIXED, blocking=False),
    "limits, async: Valkey, sliding window": _limits(
        lambda place: "async+" + _redis_url(place), SLIDING, blocking=False
    ),
    "limits as slowapi calls it: memory": _limits(lambda _: "memory://", FIXED, blocking=True),
    "limits as slowapi calls it: Valkey, blocking": _limits(_redis_url, FIXED, blocking=True),
}


async def measure_takes(servers: Path, *, takes: int, rounds: int) -> list[TakeCost]:
    """Measure all stores on the servers that live in the folder `servers`, in turns."""
    with await asyncio.to_thread(attach, servers) as attachment:
        url = await asyncio.to_thread(fresh_database, attachment.database_url)
        try:
            await apply_migrations(url, [WORKHORSE])
            place = Place(database_url=url, cache_url=attachment.cache_url)
            measured: dict[str, list[tuple[float, float, float]]] = {title: [] for title in STORES}
            failed: dict[str, str] = {}
            for _ in range(rounds):
                for title, opened in STORES.items():
                    if title in failed:
                        continue
                    try:
                        # On uvloop, as the servers run, and so on a thread with a loop of its own.
                        figures = await asyncio.to_thread(_on_uvloop, opened, place, takes)
                    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
                        failed[title] = f"{type(error).__name__}: {error}"[:300]
                    else:
                        measured[title].append(figures)
        finally:
            await asyncio.to_thread(drop_database, url)
    return [
        TakeCost(title=title, failed=failed[title]) if title in failed else _median(title, measured[title])
        for title in STORES
    ]


def _on_uvloop(opened: Opened, place: Place, takes: int) -> tuple[float, float, float]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(opened, place, takes))


async def _measure(opened: Opened, place: Place, takes: int) -> tuple[float, float, float]:
    """CPU microseconds and median microseconds per take, and takes per second at once."""
    keys = [f"caller-{number}" for number in range(CALLERS)]
    async with opened(place) as take:
        for key in keys:
            await take(key)
        waits: list[float] = []
        cpu = time.thread_time()
        for number in range(takes):
            began = time.perf_counter()
            await take(keys[number % CALLERS])
            waits.append(time.perf_counter() - began)
        cpu = time.thread_time() - cpu

        async def several(first: int) -> None:
            for number in range(first, takes, TASKS):
                await take(keys[number % CALLERS])

        began = time.perf_counter()
        await asyncio.gather(*map(several, range(TASKS)))
        elapsed = time.perf_counter() - began
    return cpu / takes * 1e6, percentile(sorted(waits), 0.5) * 1e6, takes / elapsed


def _median(title: str, rounds: list[tuple[float, float, float]]) -> TakeCost:
    cpu, p50, rate = (Spread.of(values).median for values in zip(*rounds, strict=True))
    return TakeCost(title=title, cpu_us=cpu, p50_us=p50, rate=rate)
