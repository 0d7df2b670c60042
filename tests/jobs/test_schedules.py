"""Recurring jobs: at the right times where clocks change, once in the cluster, and by policy when nobody lived."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.kit import Sql, opened, until, working
from workhorse.errors import SettingsError
from workhorse.jobs import Schedule, job
from workhorse.jobs.schedules import due_ticks, keep_schedules


@job()
async def close(books: str = "all") -> None: ...


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


MINUTE = timedelta(minutes=1)


def following(schedule: Schedule, moment: str, count: int) -> list[str]:
    ticks = schedule.ticks_after(at(moment))
    return [next(ticks).isoformat() for _ in range(count)]


def test_cron_follows_the_clock_of_its_zone_through_its_changes() -> None:
    night = Schedule("n", close, cron="30 2 * * *", zone="Europe/Berlin")
    # The hour from 2 to 3 is skipped on 29 March: it runs right after it. On 25 October it comes twice: once.
    assert following(night, "2026-03-27T12:00:00+00:00", 3) == [
        "2026-03-28T01:30:00+00:00",
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    assert following(night, "2026-10-24T12:00:00+00:00", 2) == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
    ]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/15 * * * *", "5 1-3 * * *", "0 3 * * *"])
def test_whoever_begins_in_the_middle_of_a_change_has_the_ticks_that_are_left(cron: str, day: str) -> None:
    schedule = Schedule("n", close, cron=cron, zone="Europe/Berlin")
    start = at(f"{day}T00:00:00+00:00") - timedelta(hours=3)
    end = start + timedelta(hours=30)
    whole = list(takewhile(lambda tick: tick <= end, schedule.ticks_after(start)))
    assert whole == sorted(set(whole))
    for quarter in range(4 * 8):
        moment = start + timedelta(minutes=15 * quarter)
        left = list(takewhile(lambda tick: tick <= end, schedule.ticks_after(moment)))
        assert left == [tick for tick in whole if tick > moment]


def test_a_change_by_half_an_hour_moves_no_other_tick() -> None:
    # On Lord Howe Island clocks go from 2:00 to 2:30 on 4 October 2026, and from 2:00 back to 1:30 on 5 April.
    def on_the_wall(cron: str, day: str, count: int) -> list[str]:
        zone = ZoneInfo("Australia/Lord_Howe")
        midnight = datetime.fromisoformat(day).replace(tzinfo=zone) - timedelta(seconds=1)
        ticks = Schedule("h", close, cron=cron, zone="Australia/Lord_Howe").ticks_after(midnight.astimezone(UTC))
        return [f"{tick.astimezone(zone):%d %H:%M}" for tick in islice(ticks, count)]

    assert on_the_wall("*/15 4 * * *", "2026-10-04", 4) == ["04 04:00", "04 04:15", "04 04:30", "04 04:45"]
    assert on_the_wall("*/15 4 * * *", "2026-04-05", 4) == ["05 04:00", "05 04:15", "05 04:30", "05 04:45"]
    assert on_the_wall("15 2 * * *", "2026-10-04", 2) == ["04 02:30", "05 02:15"], "skipped: as soon as that is over"
    assert on_the_wall("45 1 * * *", "2026-04-05", 2) == ["05 01:45", "06 01:45"], "repeated: the first time"
    assert on_the_wall("*/15 1-2 * * *", "2026-04-05", 8) == [
        f"05 {time}" for time in ("01:00", "01:15", "01:30", "01:45", "01:30", "01:45", "02:00", "02:15")
    ]


CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Africa/Cairo", "2026-04-24"),
    ("America/Santiago", "2026-04-04"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-06-01"),
]


@given(
    st.sampled_from(CHANGES),
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.sets(st.integers(0, 23), min_size=1, max_size=4),
    st.sampled_from(["*", "*/20", ""]),
    st.integers(-36 * 60, 36 * 60),
)
def test_ticks_around_a_change_are_those_of_someone_who_looks_at_the_clock_each_minute(
    change: tuple[str, str], minutes: set[int], hours: set[int], star: str, start: int
) -> None:
    zone, day = change
    listed = ",".join(map(str, sorted(hours)))
    minute = star or ",".join(map(str, sorted(minutes)))
    if star:
        minutes = set(range(0, 60, 20 if star == "*/20" else 1))
    clock = ZoneInfo(zone)
    first = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=start)
    expected: list[datetime] = []
    before = first.astimezone(clock).replace(tzinfo=None)
    ran = set[datetime]()
    if not star:  # what ran already, as far as it can come again
        for number in range(-60 * 3, 1):
            ran.add((first + timedelta(minutes=number)).astimezone(clock).replace(tzinfo=None))
    for number in range(1, 36 * 60):
        instant = first + timedelta(minutes=number)
        now = instant.astimezone(clock).replace(tzinfo=None)
        passed = [now] if star else [before + timedelta(minutes=n) for n in range(1, int((now - before) / MINUTE) + 1)]
        due = [time for time in passed if time.minute in minutes and time.hour in hours and time not in ran]
        if due:
            expected.append(instant)
        if not star:
            ran.update(passed)
            before = max(before, now)
        else:
            before = now
    until = first + timedelta(hours=36)
    schedule = Schedule("c", close, cron=f"{minute} {listed} * * *", zone=zone)
    assert list(takewhile(lambda tick: tick < until, schedule.ticks_after(first))) == expected


@given(st.integers(1, 100_000), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_intervals_are_counted_from_1970(seconds: int, moment: datetime) -> None:
    every = timedelta(seconds=seconds)
    ticks = Schedule("i", close, every=every).ticks_after(moment)
    first, second = next(ticks), next(ticks)
    assert moment < first <= moment + every
    assert second - first == every
    assert int(first.timestamp()) % seconds == 0


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", []), ("once", ["10:00"]), ("all", ["07:00", "08:00", "09:00", "10:00"])],
)
def test_missed_ticks_follow_the_policy(missed: Any, expected: list[str]) -> None:
    hourly = Schedule("h", close, every=timedelta(hours=1), missed=missed)
    due = due_ticks(hourly, at("2026-01-01T06:30:00+00:00"), at("2026-01-01T10:30:00+00:00"))
    assert [tick.strftime("%H:%M") for tick in due.run] == expected
    assert due.handled == at("2026-01-01T10:00:00+00:00")


def test_a_tick_that_is_a_little_late_was_not_missed_and_an_early_look_does_nothing() -> None:
    hourly = Schedule("h", close, every=timedelta(hours=1), missed="skip")
    before, now = at("2026-01-01T09:30:00+00:00"), at("2026-01-01T10:00:40+00:00")
    assert len(due_ticks(hourly, before, now).run) == 1
    assert due_ticks(hourly, now, now + timedelta(minutes=5)) == ([], now)


def test_all_missed_ticks_are_bounded() -> None:
    often = Schedule("o", close, every=timedelta(seconds=1), missed="all")
    due = due_ticks(often, at("2026-01-01T00:00:00+00:00"), at("2026-01-01T01:00:00+00:00"))
    assert len(due.run) == 100
    assert due.run[-1] == due.handled == at("2026-01-01T01:00:00+00:00")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "cron expression or an interval"),
        ({"cron": "* * * * *", "every": timedelta(1)}, "not both"),
        ({"cron": "61 * * * *"}, "61"),
        ({"cron": "0 2 * *"}, "0 2"),
        ({"every": timedelta(milliseconds=5)}, "shortest"),
        ({"cron": "* * * * *", "zone": "Mars/Olympus"}, "time zone"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Schedule("s", close, **options)
    with pytest.raises(ValueError, match="'close'"):
        Schedule("s", close, every=timedelta(1), arguments={"books": 1})


def test_a_tick_is_enqueued_once_whatever_the_number_of_workers(url: str, sql: Sql) -> None:
    ran: list[str] = []

    @job()
    async def tick(what: str) -> None:
        ran.append(what)

    schedules = [Schedule("each second", tick, every=timedelta(seconds=1), arguments={"what": "second"})]

    async def main() -> None:
        async with (
            opened(url) as database,
            working(url, database, [tick], schedules=schedules),
            working(url, database, [tick], schedules=schedules),
            working(url, database, [tick], schedules=schedules),
        ):
            await until(lambda: len(ran) >= 4, seconds=20)

    asyncio.run(main())
    rows = sql("SELECT date_trunc('second', enqueued_at), count(*) FROM workhorse.finished_jobs GROUP BY 1 ORDER BY 1")
    assert len(rows) >= 3
    ((ticked,),) = sql("SELECT count(*) FROM workhorse.finished_jobs")
    ((seconds,),) = sql(
        "SELECT extract(epoch FROM max(enqueued_at) - min(enqueued_at))::float8 FROM workhorse.finished_jobs"
    )
    assert ticked <= seconds + 1.9, "no more jobs than seconds"


def test_a_schedule_that_nobody_kept_runs_once_when_somebody_does(url: str, sql: Sql) -> None:
    @job()
    async def daily() -> None: ...

    schedules = [Schedule("daily", daily, every=timedelta(days=1))]
    sql("INSERT INTO workhorse.job_schedules (name, tick_at) VALUES ('daily', now() - interval '9 days')")

    async def main() -> None:
        async with opened(url) as database, working(url, database, [daily], schedules=schedules):
            await until(lambda: sql("SELECT count(*) FROM workhorse.finished_jobs") == [(1,)])
            await asyncio.sleep(0.3)

    asyncio.run(main())
    assert sql("SELECT count(*) FROM workhorse.finished_jobs") == [(1,)]
    assert sql("SELECT tick_at > now() - interval '1 day' FROM workhorse.job_schedules") == [(True,)]


def test_a_workers_clock_that_is_set_moves_no_tick(url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Schedule("far", close, every=timedelta(days=1_000))

    class Ahead(datetime):
        """The clock of a machine that was set to some years later."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=2_000)

    async def main() -> None:
        said: list[str] = []

        def say(_: str, event: str, **__: object) -> None:
            said.append(event)

        monkeypatch.setattr("workhorse.jobs.schedules.LONGEST_SLEEP_SECONDS", 0.05)
        async with opened(url) as database:
            keeping = asyncio.create_task(keep_schedules(database, [far], say))
            await until(lambda: sql("SELECT count(*) FROM workhorse.job_schedules") == [(1,)])
            await asyncio.sleep(0.1)
            monkeypatch.setattr("workhorse.jobs.schedules.datetime", Ahead)
            await asyncio.sleep(0.3)
            keeping.cancel()
            await asyncio.wait({keeping})
        assert said == []

    asyncio.run(main())
    assert sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]
