"""One process of one engine: makes its tables, enqueues, or works.

    python -m benchmarks.jobs.process ENGINE DATABASE CACHE prepare
    python -m benchmarks.jobs.process ENGINE DATABASE CACHE enqueue FIRST COUNT
    python -m benchmarks.jobs.process ENGINE DATABASE CACHE drip FIRST COUNT
    python -m benchmarks.jobs.process ENGINE DATABASE CACHE work MARKS GATE

What it found is the last line that it prints, as JSON: for `enqueue` the seconds that it took, for `drip` when each job
was committed.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.jobs.engine import Engine, Gate, Servers
from benchmarks.jobs.engines import load
from benchmarks.jobs.marks import Marker

__all__ = ["main"]

BATCH: Final = 1_000
# Between two jobs that come one by one. No multiple of any engine's own poll.
PAUSE_SECONDS: Final = 0.043


async def enqueue(engine: Engine, numbers: range) -> float:
    """Enqueue so many in batches; the seconds that it took, connected before."""
    async with engine.enqueuer() as enqueuer:
        began = time.perf_counter()
        for start in range(0, len(numbers), BATCH):
            await enqueuer.many(numbers[start : start + BATCH])
        return time.perf_counter() - began


async def drip(engine: Engine, numbers: range) -> Sequence[float]:
    """Enqueue so many one by one; when each call had returned, in seconds since the epoch."""
    committed: list[float] = []
    async with engine.enqueuer() as enqueuer:
        for number in numbers:
            await enqueuer.one(number)
            committed.append(time.time())
            await asyncio.sleep(PAUSE_SECONDS)
    return committed


def main(arguments: Sequence[str]) -> None:
    """Play the role."""
    name, database, cache, role, *rest = arguments
    engine = load(name, Servers(database=database, cache=cache))
    found: object = None
    match role:
        case "prepare":
            asyncio.run(engine.prepare())
        case "enqueue" | "drip":
            first, count = map(int, rest)
            play = enqueue if role == "enqueue" else drip
            found = asyncio.run(play(engine, range(first, first + count)))
        case "work":
            gate = Gate(Path(rest[1]))
            engine.work(Marker(Path(rest[0])), lambda: gate.arrive(str(os.getpid())))
        case _:
            raise ValueError(f"there is no role {role!r}")
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
