"""A process of a stampede: many tasks that want one value at the same moment. Each making leaves a line in a file."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.state.cache_kit import opened_cache
from tests.state.counters_kit import Place
from workhorse.caching import Caches


async def want(backend: str, place: Place, key: str, lines: Path, options: dict[str, Any]) -> list[int]:
    async with opened_cache(backend, place) as store:
        caches = Caches(store)
        cache = caches.open("values", int, ttl=60, early=0, waiting=30, making=options["making"])

        async def make() -> int:
            with lines.open("a") as file:
                file.write(f"{time.monotonic()}\n")
            await asyncio.sleep(options["seconds"])
            return len(lines.read_text().splitlines())

        await store.get(["warm the connection"])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        values = await asyncio.gather(*(cache.once(key, make) for _ in range(options["tasks"])))
        await caches.close()
        return values


if __name__ == "__main__":
    backend, place, key, lines, options = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(asyncio.run(want(backend, Place(*place), key, Path(lines), options))))
