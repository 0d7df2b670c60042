"""What is asked of a grown database, beside the load: how soon a retried key is answered, and what forgetting takes.

All of it goes the way that the code goes: the same statements, by the same pool, in the same transactions.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.figures import percentile
from benchmarks.growth.filling import Grown, counted, run_query, scope_of, shares
from benchmarks.processes import MeasurementError
from workhorse.contracts import Query
from workhorse.sql import load_queries
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units.idempotency import Claim

__all__ = ["Forgetting", "forget", "retry_look_up_ms"]

UNITS: Final = load_queries("workhorse.units", "sql/queries.sql")
JOURNAL: Final = load_queries("workhorse.journal", "sql/queries.sql")
JOBS: Final = load_queries("workhorse.jobs", "sql/queries.sql")
KEEP_SECONDS: Final = 10 * 86_400
# A quarter of the four days that the replies are of.
FORGET_SECONDS: Final = 3 * 86_400
PURGES: Final = 10
WARM_UP: Final = 20
PATIENCE_SECONDS: Final = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What it takes to forget the old rows of one database."""

    purge_us: float
    """Microseconds a reply, by the statement of the purge, which takes up to 5,000 at once; the median of the calls."""
    drop_ms: float
    """A month of events and a day of finished jobs, dropped as partitions."""
    delete_ms: float
    """As many of each, deleted."""


async def retry_look_up_ms(grown: Grown, look_ups: int) -> float:
    """The median time in which retried keys find what was kept for them, in milliseconds.

    The keys are chosen at random from all that are kept. A look-up is a transaction's begin with the key's claim, as it
    stands before a request with an Idempotency-Key.

    Raises:
        MeasurementError: a key was not found.
    """
    chance = random.Random(20)
    times: list[float] = []
    async with _opened(grown.url) as database:
        for number in range(WARM_UP + look_ups):
            claim = Claim(scope=scope_of(chance.randint(1, grown.rows)), digest=b"")
            query = Query(UNITS["claim_reply"], (claim.scope, claim.lock_key, KEEP_SECONDS))
            began = time.perf_counter()
            transaction, row = await database.begin(query)
            took = time.perf_counter() - began
            await transaction.rollback()
            if row is None:
                raise MeasurementError(f"no reply is kept for {claim.scope}, among {grown.rows:,}")
            if number >= WARM_UP:
                times.append(took * 1e3)
    return percentile(sorted(times), 0.5)


async def forget(grown: Grown) -> Forgetting:
    """Forget the old rows of a database, in each of the ways.

    Raises:
        MeasurementError: other rows went than should have.
    """
    _, last, oldest = shares(grown.rows)
    before = counted(grown.url)
    async with _opened(grown.url) as database:
        purges = [await _purge(database) for _ in range(PURGES)]
        now = datetime.now(UTC)
        month = (now.replace(day=1) - timedelta(days=1)).date().isoformat()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        yesterday = (now - midnight + timedelta(days=1)).total_seconds() - 60
        began = time.perf_counter()
        await database.run(Query(JOURNAL["drop_partitions"], (month, "[]")))
        await database.run(Query(JOBS["drop_history"], (int(yesterday),)))
        drop_ms = (time.perf_counter() - began) * 1e3
    dropped = counted(grown.url)
    _expect("dropped", (before[0] - dropped[0], before[2] - dropped[2]), (oldest, oldest))
    began = time.perf_counter()
    deleted = [
        await asyncio.to_thread(run_query, grown.url, name, params)
        for name, params in (("delete_events", {"months_ago": 1}), ("delete_finished_jobs", {"days_ago": 1}))
    ]
    delete_ms = (time.perf_counter() - began) * 1e3
    _expect("deleted", tuple(deleted), (last, last))
    rates = sorted(took / rows * 1e6 for took, rows in purges if rows)
    return Forgetting(purge_us=percentile(rates, 0.5), drop_ms=drop_ms, delete_ms=delete_ms)


async def _purge(database: PostgresDatabase) -> tuple[float, int]:
    """One call of the purge, as the service's chore does it. Returns its seconds, and how many replies went."""
    began = time.perf_counter()
    transaction, _ = await database.begin()
    try:
        cursor = await transaction.execute(UNITS["purge_replies"], (FORGET_SECONDS,))
        await transaction.commit()
    finally:
        await transaction.rollback()
    return time.perf_counter() - began, cursor.rowcount


def _expect(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise MeasurementError(f"{what}: {found} events and finished jobs, and {wanted} should have been")


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[PostgresDatabase]:
    database = PostgresDatabase(url, pool_max=1, statement_timeout_seconds=PATIENCE_SECONDS)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
