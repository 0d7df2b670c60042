"""Recurring jobs: each tick is enqueued once in the whole cluster, whichever workers live.

Every worker knows all schedules and tries every tick. A row per schedule remembers the latest tick that was dealt with;
the one statement that moves it on enqueues the job as well, so a tick has its job or has not been dealt with.

    Schedule("close-books", close_books, cron="0 2 * * *", zone="Europe/Berlin")
    Schedule("poll-rates", poll_rates, every=timedelta(minutes=5), missed="skip")
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final, Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from workhorse.contracts import Database, Query
from workhorse.errors import SettingsError
from workhorse.jobs.box import enqueue_parameters, queries
from workhorse.jobs.clock_changes import instants
from workhorse.jobs.definition import Enqueuer

__all__ = ["Due", "Missed", "Schedule", "due_ticks", "keep_schedules"]

Missed: TypeAlias = Literal["skip", "once", "all"]

# A tick that is so late was not missed: a rolling restart takes as long.
GRACE: Final = timedelta(seconds=60)
MOST_MISSED: Final = 100
# Ticks that are looked through at most, for schedules that nobody kept for long.
MOST_LOOKED_AT: Final = 100_000
LONGEST_SLEEP_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 2.0
# A look that comes a little before a tick does not come again at once.
SHORTEST_SLEEP_SECONDS: Final = 0.01


class Schedule:
    """One recurring job.

    Args:
        name: names it in the database; it never changes.
        job: what to enqueue, with its options.
        cron: five fields, as in crontab(5): minute, hour, day of month, month, day of week. When clocks change, it does
            as Debian's cron: what falls in the skipped hour runs right after it, what falls in the repeated one once
            (`clock_changes`).
        every: instead, a fixed interval, counted from 1970.
        zone: the time zone of `cron`.
        arguments: the job's, by name.
        missed: ticks over a minute late, because no worker lived: `skip` them; run the job `once`, for the latest; or
            `all`, at most the latest hundred.

    Raises:
        SettingsError: cron, every or zone is malformed.
        TypeError, ValueError: the arguments are not what the job's function takes.
    """

    def __init__(
        self,
        name: str,
        job: Enqueuer[...],
        *,
        cron: str = "",
        every: timedelta | None = None,
        zone: str = "UTC",
        arguments: Mapping[str, object] | None = None,
        missed: Missed = "once",
    ) -> None:
        self.name = name
        self.missed: Missed = missed
        self._job = job
        self._arguments = dict(arguments or {})
        self._cron = cron
        self._every = every
        if not 1 <= len(name) <= 200 or not name.isprintable():
            raise SettingsError(f"the schedule's name {name[:220]!r} is not 1 to 200 printable characters")
        if bool(cron) == (every is not None):
            raise SettingsError(f"the schedule {name!r} needs a cron expression or an interval, and not both")
        if every is not None and every < timedelta(seconds=1):
            raise SettingsError(f"the schedule {name!r} runs every {every}; a second is the shortest interval")
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise SettingsError(
                f"the schedule {name!r} has no known time zone: {zone!r}; write Europe/Berlin"
            ) from error
        next(self.ticks_after(datetime.now(UTC)), None)
        job.call(**self._arguments)

    def __repr__(self) -> str:
        return f"<Schedule {self.name} {self._cron or self._every}>"

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """The ticks that are later than `moment`, in order, in UTC.

        Raises:
            SettingsError: the cron expression is malformed, or names a day that never comes.
        """
        if self._every is not None:
            return _intervals(self._every, moment)
        try:
            # Here, because a service without cron expressions needs no library for them.
            from cronsim import CronSim, CronSimError  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError("cron expressions need the package cronsim: pip install 'workhorse[cron]'") from error
        try:
            CronSim(self._cron, datetime(2000, 1, 1))  # noqa: DTZ001 - a time on the wall
        except CronSimError as error:
            raise SettingsError(
                f"the schedule {self.name!r} has the cron expression {self._cron!r}: {error}; write for example"
                " '0 2 * * *' for two o'clock each night"
            ) from error
        minute, hour, *_ = self._cron.split()
        set_times = not minute.startswith("*") and not hour.startswith("*")
        return instants(lambda begin: CronSim(self._cron, begin), moment, self._zone, set_times=set_times)

    def statement(self, tick: datetime) -> Query:
        """Deals with one tick: true for one caller of all."""
        row = self._job.row(**self._arguments)
        return Query(queries()["tick"], (self.name, repr(tick.timestamp()), *enqueue_parameters([row])))


def _intervals(every: timedelta, moment: datetime) -> Iterator[datetime]:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    number = (moment - start) // every
    while True:
        number += 1
        yield start + number * every


class Due(NamedTuple):
    """What to do for a schedule now."""

    run: list[datetime]
    """Ticks to enqueue."""
    handled: datetime
    """The latest tick that is dealt with when these are."""


def due_ticks(schedule: Schedule, handled: datetime, now: datetime) -> Due:
    """Which of the ticks between two times are to be run, by what the schedule says of missed ones."""
    looked_at = zip(range(MOST_LOOKED_AT), schedule.ticks_after(handled), strict=False)
    ticks = [tick for _, tick in takewhile(lambda pair: pair[1] <= now, looked_at)]
    if not ticks:
        return Due([], handled)
    match schedule.missed:
        case "skip":
            run = [tick for tick in ticks if tick >= now - GRACE]
        case "once":
            run = [tick for tick in ticks if tick >= now - GRACE] or ticks[-1:]
        case _:
            run = ticks[-MOST_MISSED:]
    return Due(run, ticks[-1])


async def keep_schedules(database: Database, schedules: Sequence[Schedule], say: Callable[..., None]) -> None:
    """Enqueue what is due until cancelled. The time is the database's: clocks of workers differ, and are set."""
    handled: dict[str, datetime] = {}
    while True:
        try:
            for schedule in schedules:
                if schedule.name not in handled:
                    rows = await database.run(Query(queries()["begin_schedule"], (schedule.name,)), repeatable=True)
                    handled[schedule.name] = datetime.fromtimestamp(rows[0][0], UTC)
            rows = await database.run(Query(queries()["clock"]), repeatable=True)
            now = datetime.fromtimestamp(rows[0][0], UTC)
            for schedule in schedules:
                due = due_ticks(schedule, handled[schedule.name], now)
                for tick in due.run:
                    rows = await database.run(schedule.statement(tick), repeatable=True)
                    if rows[0][0]:
                        say("info", "schedule.tick", schedule=schedule.name, tick=tick.isoformat())
                handled[schedule.name] = due.handled
            coming = [next(schedule.ticks_after(handled[schedule.name]), None) for schedule in schedules]
            pause = min(((tick - now).total_seconds() for tick in coming if tick), default=LONGEST_SLEEP_SECONDS)
        except Exception as error:  # noqa: BLE001 - a tick that could not be enqueued is still due
            say("warning", "schedule.failed", exception=error)
            pause = RETRY_SECONDS
        await asyncio.sleep(min(max(pause, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS))
