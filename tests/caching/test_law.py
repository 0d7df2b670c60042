"""The law of a cache: what was deleted, by key or tag, before a read began is never returned by it.

The truth is a row that is changed and then deleted from the cache, as after a commit. Readers note the newest change
whose deletion was over as they began; they may return that or a newer one, never an older one. So it goes with any
number of readers at once, whatever order their steps take, in one process and over two.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.state.cache_kit import SHARED_BACKENDS, opened_cache
from tests.state.counters_kit import Place, migrated_place
from workhorse.caching import Cache, Caches
from workhorse.contracts import CacheStore
from workhorse.embedded import Attachment
from workhorse.state.memory.cache import MemoryCache


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


class Unhurried:
    """A store whose every answer takes a while each way, in steps of the event loop."""

    def __init__(self, store: CacheStore, chance: random.Random) -> None:
        self._store = store
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "guarantees":
            return method

        async def unhurried(*args: Any, **kwargs: Any) -> Any:
            await self._steps()
            try:
                return await method(*args, **kwargs)
            finally:
                await self._steps()

        return unhurried

    async def _steps(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)


class World:
    """One row, the caches of two processes over one store, and what must hold."""

    def __init__(self, stores: Sequence[CacheStore], chance: random.Random, key: str) -> None:
        self.chance = chance
        self.key = key
        self.row = self.deleted = 0
        self.rooms = [Caches(store) for store in stores]
        self.caches: list[Cache[int]] = [
            room.open("rows", int, ttl=60, early=early, waiting=1.0)
            for room, early in zip(self.rooms, (100, 0), strict=True)
        ]
        self.wrong: list[str] = []

    async def make(self) -> int:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)
        value = self.row
        for _ in range(self.chance.randrange(5)):
            await asyncio.sleep(0)
        return value

    async def read(self, who: int, *, once: bool) -> None:
        least = self.deleted
        cache = self.caches[who]
        value = await cache.once(self.key, self.make, tags=[f"tag {self.key}"]) if once else await cache.get(self.key)
        if value is not None and value < least:
            self.wrong.append(f"read {value} after {least} was deleted (once={once})")

    async def change(self, who: int, how: str) -> None:
        self.row += 1
        mine = self.row
        if how == "key":
            await self.caches[who].delete(self.key)
        else:
            await self.rooms[who].invalidate(f"tag {self.key}")
        self.deleted = max(self.deleted, mine)

    async def run(self, steps: Sequence[tuple[str, int, int]]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for what, who, pause in steps:
            if what in {"once", "get"}:
                tasks.append(asyncio.create_task(self.read(who, once=what == "once")))
            else:
                tasks.append(asyncio.create_task(self.change(who, what)))
            for _ in range(pause):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        for room in self.rooms:
            await room.close()


steps = st.lists(
    st.tuples(st.sampled_from(["once", "once", "get", "key", "tag"]), st.integers(0, 1), st.sampled_from([0, 1, 3, 8])),
    max_size=25,
)


@settings(max_examples=150)
@given(steps, st.integers(0, 2**32))
def test_nothing_deleted_is_ever_returned_in_any_order_of_steps(script: list[tuple[str, int, int]], seed: int) -> None:
    async def main() -> list[str]:
        chance = random.Random(seed)  # noqa: S311 - a schedule that can be repeated
        store: Any = Unhurried(MemoryCache(), chance)
        world = World([store, store], chance, "key")
        await world.run(script)
        return world.wrong

    assert asyncio.run(main()) == []


@asynccontextmanager
async def two(backend: str, place: Place) -> AsyncIterator[list[CacheStore]]:
    async with opened_cache(backend, place) as first, opened_cache(backend, place) as second:
        yield [first, second]


@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_nothing_deleted_is_ever_returned_by_real_servers(backend: str, place: Place) -> None:
    async def main() -> None:
        async with two(backend, place) as stores:
            for turn in range(12):
                chance = random.Random(turn)  # noqa: S311 - a schedule that can be repeated
                words = ["once"] * 8 + ["get"] * 2 + ["key", "tag"]
                script = [
                    (chance.choice(words), chance.randrange(2), chance.choice([0, 0, 1, 5, 20])) for _ in range(60)
                ]
                world = World(stores, chance, f"{place.prefix}{turn}")
                await world.run(script)
                assert world.wrong == [], f"with seed {turn}"

    asyncio.run(main())
