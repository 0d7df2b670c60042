"""What has to be done now and then, by one worker of all: history, forgotten keys, lanes, and a look at the depths.

Whose turn it is the database says, with a row per chore that remembers when it was done: no leader is elected, and none
can be lost.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from workhorse.contracts import Database, Query
from workhorse.jobs.box import queries
from workhorse.jobs.engine import array
from workhorse.jobs.meters import COUNTED_TO, Meters

__all__ = ["History", "keep_history", "keep_house"]

DAY_SECONDS: Final = 86_400
DAYS_AHEAD: Final = 14
LANES_SECONDS: Final = 10.0
DEPTHS_SECONDS: Final = 30.0
HISTORY_SECONDS: Final = 3_600.0
LANES_AT_ONCE: Final = 1_000
PURGES_PER_TURN: Final = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How long what has ended is kept.

    Args:
        finished_days: jobs that are done or cancelled. Whole days go at once.
        dead_days: jobs that nobody retried. They are in the history for `finished_days` more.
    """

    finished_days: float = 14.0
    dead_days: float = 90.0


async def keep_house(database: Database, served: Sequence[str], history: History, meters: Meters) -> None:
    """Do the chores until cancelled."""
    due = {"lanes": 0.0, "depths": 0.0, "history": 0.0}
    while True:
        await asyncio.sleep(LANES_SECONDS * (0.75 + random.random() / 2))  # noqa: S311 - spreads workers, hides nothing
        now = time.monotonic()
        try:
            if now >= due["lanes"]:
                due["lanes"] = now + LANES_SECONDS
                if await _mine(database, "lanes", LANES_SECONDS):
                    await _run(database, "mend_lanes", LANES_AT_ONCE)
            if now >= due["depths"]:
                due["depths"] = now + DEPTHS_SECONDS
                # By the queues too: workers of others know nothing of these.
                if await _mine(database, f"depths {' '.join(served)}"[:500], DEPTHS_SECONDS / 2):
                    meters.show(await _run(database, "depths", array(served), COUNTED_TO))
                else:
                    meters.hide()
            if now >= due["history"]:
                due["history"] = now + HISTORY_SECONDS
                if await _mine(database, "history", HISTORY_SECONDS / 2):
                    await keep_history(database, history)
        except Exception:
            logger.warning("the upkeep of jobs failed; it is tried again", exc_info=True)


async def keep_history(database: Database, history: History) -> None:
    """Make the partitions of the days to come, and forget what is old, a bounded number at a time."""
    seconds = str(history.finished_days * DAY_SECONDS)
    # Each by itself: that days cannot be made must not keep old ones from being dropped.
    for name, params in (("take_in_strays", ()), ("prepare_history", (DAYS_AHEAD,)), ("drop_history", (seconds,))):
        try:
            await _run(database, name, *params)
        except Exception:
            # Somebody reads them for long; or the service's role may not own the tables. Then what has ended lies in
            # one partition, and goes row by row.
            logger.exception(
                "the partitions of finished jobs could not be kept; if this goes on, let their owner do it"
            )
    for name, params in (
        ("purge_other_history", (seconds,)),
        ("purge_uniques", ()),
        ("purge_dead", (str(history.dead_days * DAY_SECONDS),)),
    ):
        for _ in range(PURGES_PER_TURN):
            if not await _run(database, name, *params):
                break


async def _mine(database: Database, chore: str, every_seconds: float) -> bool:
    return bool(await _run(database, "begin_chore", chore, str(every_seconds)))


async def _run(database: Database, name: str, *params: object) -> Sequence[Sequence[Any]]:
    return await database.run(Query(queries()[name], params))
