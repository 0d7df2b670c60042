"""What has to be done now and then in the background: old replies are forgotten, and months of events are prepared.

Every process does it. Each chore bears to be done by several at once, and is tried again at its next turn.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from workhorse.contracts import Database, Query
from workhorse.settings import Settings
from workhorse.sql import load_queries
from workhorse.telemetry.log import Log

__all__ = ["doing_chores", "first_kept_month"]

# As many as the query takes; short transactions, so that nobody waits for one.
PURGED_AT_ONCE: Final = 5_000
PURGES_PER_TURN: Final = 200

DAY_SECONDS: Final = 86_400.0
# Not at once: a start is busy enough, and what is not prepared falls into the default partition.
SOON_SECONDS: Final = 20.0
MONTHS_AHEAD: Final = 2
"""So long may no process run, and every event still finds a partition of its own; the default one takes the rest."""


@asynccontextmanager
async def doing_chores(settings: Settings, database: Database, log: Log) -> AsyncGenerator[None]:
    """Do the chores during the block."""
    replies = load_queries("workhorse.units", "sql/queries.sql")
    events = load_queries("workhorse.journal", "sql/queries.sql")
    forget_after = settings.idempotency.keep_seconds + settings.idempotency.refuse_stale_seconds

    async def purge_replies() -> None:
        for _ in range(PURGES_PER_TURN):
            if await _purge_some(database, Query(replies["purge_replies"], (forget_after,))) < PURGED_AT_ONCE:
                return

    async def keep_events() -> None:
        await database.run(Query(events["prepare_partitions"], (MONTHS_AHEAD,)))
        if settings.events.keep_months:
            before = first_kept_month(datetime.now(UTC), settings.events.keep_months)
            required = json.dumps(settings.events.required_readers)
            (_, held_by), *_ = await database.run(Query(events["drop_partitions"], (before, required)))
            if held_by is not None:
                log.event("warning", "events.held_back", reader=held_by, before=before)

    chores = [
        asyncio.create_task(
            _repeat("replies.purge", purge_replies, settings.idempotency.purge_every_seconds, log), name="purge replies"
        ),
        asyncio.create_task(
            _repeat("events.partitions", keep_events, DAY_SECONDS, log, first=SOON_SECONDS), name="keep events"
        ),
    ]
    try:
        yield
    finally:
        for chore in chores:
            chore.cancel()
        for chore in chores:
            with contextlib.suppress(asyncio.CancelledError):
                await chore


def first_kept_month(now: datetime, months: int) -> str:
    """The first day of the month that lies `months` before that of `now`, as in 2026-02-01."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return f"{year:04d}-{month + 1:02d}-01"


async def _repeat(
    name: str, chore: Callable[[], Awaitable[None]], seconds: float, log: Log, *, first: float | None = None
) -> None:
    pause = seconds if first is None else first
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            await chore()
        except Exception as error:  # noqa: BLE001 - tried again at the next turn, whatever it was
            log.event("warning", f"{name}_failed", exception=error)


async def _purge_some(database: Database, query: Query) -> int:
    """Forget up to `PURGED_AT_ONCE` replies, and return how many it were."""
    transaction, _ = await database.begin()
    try:
        cursor = await transaction.execute(query.sql, query.params)
        await transaction.commit()
    finally:
        await transaction.rollback()
    count: int = cursor.rowcount
    return count
