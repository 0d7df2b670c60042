"""What a transaction waits for while somebody asks a heavy question of the same database.

Units write a row and an event, one after the other, in a process of their own database pool: first alone, then beside a
question over all rows that is asked again and again. Once it goes the way of `Tables` (a pool of its own, no parallel
workers, little memory), and once over a plain connection, with whatever Postgres gives it. The three take turns.
"""

import asyncio
import time
from typing import Any, Final

import psycopg

from benchmarks.figures import Claim, percentile
from workhorse.analytics.tables import Tables
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.units import Unit

__all__ = ["beside"]

HEAVY: Final = """
    SELECT mod(account_id, 1000) AS bucket, currency, count(*) AS entries, sum(rate) AS total,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY amount) AS most, count(DISTINCT description) AS descriptions
      FROM ledger GROUP BY 1, 2 ORDER BY 1
"""
ROUNDS: Final = 3
SECONDS: Final = 5.0
WRITE: Final = "INSERT INTO ledger SELECT gen_random_uuid(), 1, 1, 'EUR', now(), 'one', '{}', 1"
MILLISECONDS: Final = 1e3


async def beside(url: str, rows: int, *, seconds: float = SECONDS) -> str:  # noqa: ARG001 - as the other subjects have it
    """Measure, on a database with a filled `ledger` and Workhorse's tables."""
    database = PostgresDatabase(url)
    frames = PostgresFrames(url)
    await database.open()

    async def ours() -> None:
        await Tables(frames).select(HEAVY).table()

    def plain() -> None:
        with psycopg.connect(url) as connection:
            connection.execute(HEAVY.encode()).fetchall()

    ways: dict[str, Any] = {
        "alone": None,
        "beside a question by Tables": ours,
        "beside a question as it comes": lambda: asyncio.to_thread(plain),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    asked = dict.fromkeys(ways, 0)
    try:
        for _ in range(ROUNDS):
            for name, question in ways.items():
                async with asyncio.TaskGroup() as group:
                    ended = asyncio.Event()

                    async def ask(name: str = name, question: Any = question, ended: asyncio.Event = ended) -> None:
                        while question is not None and not ended.is_set():
                            await question()
                            asked[name] += 1

                    group.create_task(ask())
                    taken[name] += await _write(database, seconds)
                    ended.set()
    finally:
        await frames.close()
        await database.close()
    alone, ours_beside, plain_beside = [percentile(sorted(one), 0.99) for one in taken.values()]
    lines = [f"{'a unit that writes':34}{'units':>8}{'p50 ms':>9}{'p99 ms':>9}{'questions':>11}"]
    for name, times in taken.items():
        half, most = (percentile(sorted(times), share) * MILLISECONDS for share in (0.5, 0.99))
        lines.append(f"{name:34}{len(times):>8}{half:>9.2f}{most:>9.2f}{asked[name]:>11}")
    claims = [
        Claim("beside.p99_over_alone", ours_beside / alone, 2, "<"),
        Claim("beside.p99_over_plain_question", ours_beside / plain_beside, 1, "<"),
    ]
    return "\n".join([*lines, "", *map(str, claims)])


async def _write(database: PostgresDatabase, seconds: float) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        async with Unit(database) as work:
            await work.execute(WRITE)
            await work.emit("entry.made", subject="ledger", data={"amount": 1})
        taken.append(time.perf_counter() - began)
    return taken
