"""The history keeps its days and forgets them; what is shown of the depths is right and bounded."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.jobs.kit import Sql, opened, until, working
from workhorse.jobs import ONCE, History, job
from workhorse.jobs.box import queries
from workhorse.jobs.desk import JobDesk
from workhorse.jobs.in_process import in_process
from workhorse.jobs.meters import Meters
from workhorse.journal.events import time_ordered_id
from workhorse.telemetry.metrics import Registry

FINISHED = (
    "INSERT INTO workhorse.finished_jobs (id, enqueued_at, finished_at, outcome, attempt, name, queue)"
    " VALUES (%s, %s, %s, 'done', 1, 'n', 'q')"
)


@job(retries=ONCE)
async def note(number: int) -> None:
    if number < 0:
        raise RuntimeError


def parts(sql: Sql) -> list[str]:
    rows = sql("SELECT tableoid::regclass::text FROM workhorse.finished_jobs ORDER BY finished_at")
    return [name.removeprefix("workhorse.finished_jobs_") for (name,) in rows]


def test_each_day_has_its_partition_and_old_days_go(url: str, sql: Sql) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=20)
    made = sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'workhorse.finished_jobs'::regclass")
    assert made == [(16,)], "today, fourteen days to come, and the rest"
    part = f"finished_jobs_{old:%Y%m%d}"
    day = old.date()
    sql(
        f"CREATE TABLE workhorse.{part} PARTITION OF workhorse.finished_jobs"
        f" FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
    )
    older = now - timedelta(days=30)
    ids = [time_ordered_id(time.time_ns()) for _ in range(3)]
    for one, at in zip(ids, (older, old, now), strict=True):
        sql(FINISHED, one, at, at)
    assert parts(sql) == ["other", f"{old:%Y%m%d}", f"{now:%Y%m%d}"]

    async def main() -> None:
        async with opened(url) as database:
            await JobDesk(database).purge(History(finished_days=10))

    asyncio.run(main())
    assert sql("SELECT id FROM workhorse.finished_jobs") == [(ids[2],)]
    assert sql("SELECT to_regclass(%s)", f"workhorse.{part}") == [(None,)]


def test_dead_jobs_and_spent_unique_keys_are_forgotten_in_time(url: str, sql: Sql) -> None:
    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]):
            await note.options(key="k").enqueue_alone(database, -1)
            waiting = await note.options(key="k").enqueue_alone(database, 1)
            await note.options(
                unique="u", unique_window=timedelta(milliseconds=1), delay=timedelta(hours=1)
            ).enqueue_alone(database, 2)
            await until(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'") == [(1,)])
            desk = JobDesk(database)
            await desk.purge(History(dead_days=1))
            assert sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'") == [(1,)]
            assert sql("SELECT count(*) FROM workhorse.job_uniques") == [(0,)]
            await desk.purge(History(dead_days=0))
            assert sql("SELECT outcome::text FROM workhorse.finished_jobs") == [("dead",)]
            assert sql("SELECT workhorse.mend_job_lanes(10)") == [(1,)], "what it held up goes on"
            await until(lambda: sql("SELECT count(*) FROM workhorse.finished_jobs WHERE id = %s", waiting) == [(1,)])

    asyncio.run(main())


def test_depths_are_counted_by_queue_and_state(url: str, sql: Sql) -> None:
    async def main() -> Any:
        async with opened(url) as database:
            for number in range(4):
                await note.enqueue_alone(database, number)
            await note.options(delay=timedelta(hours=1)).enqueue_alone(database, 9)
        return sql(queries()["depths"], "{default,other}", 3)

    rows = asyncio.run(main())
    registry = Registry(None)
    meters = Meters(registry)
    meters.show(rows)
    assert registry.total("workhorse_jobs", queue="default", state="ready") == 3, "counted to the bound"
    assert registry.total("workhorse_jobs", queue="default", state="delayed") == 1
    assert registry.total("workhorse_jobs", queue="other") == 0
    assert 0 < registry.total("workhorse_jobs_oldest_seconds", queue="default", state="ready") < 60
    assert registry.total("workhorse_jobs_oldest_seconds", state="delayed") == 0
    meters.hide()
    assert registry.total("workhorse_jobs") == 0


def test_a_worker_inside_another_process_works_and_leaves(url: str, sql: Sql) -> None:
    async def main() -> None:
        async with opened(url) as database:
            async with in_process(database, [note]) as worker:
                await until(lambda: worker._rest.sleeping)
                await note.enqueue_alone(database, 1)
                await until(lambda: sql("SELECT count(*) FROM workhorse.finished_jobs") == [(1,)])
            assert sql("SELECT count(*) FROM workhorse.job_workers") == [(0,)]

    asyncio.run(main())


def test_a_day_that_found_no_partition_gets_one_with_what_it_left(url: str, sql: Sql) -> None:
    now = datetime.now(UTC)
    for (part,) in sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'workhorse.finished_jobs'::regclass"
        " AND inhrelid <> 'workhorse.finished_jobs_other'::regclass"
    ):
        sql(f"DROP TABLE {part}")  # nobody has worked for longer than days are made ahead
    old = (now - timedelta(days=20)).date()
    sql(
        f"CREATE TABLE workhorse.finished_jobs_{old:%Y%m%d} PARTITION OF workhorse.finished_jobs"
        f" FOR VALUES FROM ('{old} 00:00+00') TO ('{old + timedelta(days=1)} 00:00+00')"
    )
    one = time_ordered_id(time.time_ns())
    sql(FINISHED, one, now, now)
    assert parts(sql) == ["other"]

    async def main() -> None:
        async with opened(url) as database:
            await JobDesk(database).purge(History())

    asyncio.run(main())
    assert parts(sql) == [f"{now:%Y%m%d}"]
    made = sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'workhorse.finished_jobs'::regclass")
    assert made == [(16,)], "today, fourteen days to come, and the rest; the old one is gone"
