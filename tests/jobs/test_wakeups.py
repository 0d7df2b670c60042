"""A worker hears of work at once, costs next to nothing while there is none, and misses nothing in between."""

import asyncio
import statistics
import time
from datetime import timedelta

from tests.jobs.kit import Sql, opened, until, working
from workhorse.jobs import Worker, WorkerOptions, job
from workhorse.jobs.box import enqueue_statement
from workhorse.jobs.engine import View
from workhorse.jobs.rest import LOOK_AGAIN_SECONDS, NET_SECONDS, Pace, Rest
from workhorse.state.postgres.notices import PostgresNotices
from workhorse.units import Unit


def test_a_sleeping_worker_begins_a_job_within_milliseconds_of_its_commit(url: str, sql: Sql) -> None:
    begun: list[float] = []

    @job()
    async def note() -> None:
        begun.append(time.monotonic())

    async def main() -> list[float]:
        delays: list[float] = []
        async with opened(url) as database, working(url, database, [note]) as worker:
            for _ in range(30):
                await until(lambda: worker._rest.settled)
                begun.clear()
                async with Unit(database):
                    await note.enqueue()
                committed = time.monotonic()
                await until(lambda: bool(begun))
                delays.append(begun[0] - committed)
        return delays

    # The target is 5 ms; the bound is for a machine that others use too, and far below any poll.
    assert statistics.median(asyncio.run(main())) < 0.2


def test_a_transaction_that_could_not_see_the_worker_sleeping_is_not_missed(url: str, sql: Sql) -> None:
    """It looks for sleepers while nobody sleeps, and commits when everybody does."""
    begun: list[float] = []

    @job()
    async def note(number: int) -> None:
        begun.append(time.monotonic())

    async def main() -> None:
        async with opened(url) as database:
            transaction, _ = await database.begin()
            statement = enqueue_statement([note.row(1)])
            await transaction.execute(statement.sql, statement.params)
            async with working(url, database, [note]) as worker:
                await until(lambda: worker._rest.sleeping)
                await asyncio.sleep(0.5)
                assert not worker._rest.settled
                await transaction.commit()
                # Far before the net: somebody looked who knew that there was something to come.
                await until(lambda: bool(begun), seconds=NET_SECONDS / 2)
                await until(lambda: worker._rest.settled)

    asyncio.run(main())


def test_without_notices_it_looks_twice_a_second(url: str, sql: Sql) -> None:
    begun: list[int] = []

    @job()
    async def note() -> None:
        begun.append(1)

    async def main() -> None:
        async with opened(url) as database:
            worker = Worker(database, [note])
            task = asyncio.create_task(worker.run())
            await until(lambda: worker._rest.sleeping)
            await note.enqueue_alone(database)
            await until(lambda: bool(begun), seconds=5)
            worker.stop()
            await task

    asyncio.run(main())


def test_a_listener_that_is_cut_off_listens_again(url: str, sql: Sql) -> None:
    begun: list[int] = []

    @job()
    async def note() -> None:
        begun.append(1)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]) as worker:
            await until(lambda: not worker._deaf)
            sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'workhorse listen' AND datname = current_database()"
            )
            await until(lambda: worker._deaf)
            await until(lambda: not worker._deaf)
            await until(lambda: worker._rest.settled)
            await note.enqueue_alone(database)
            await until(lambda: bool(begun), seconds=NET_SECONDS / 2)

    asyncio.run(main())


def test_nobody_is_called_while_nobody_sleeps(url: str, sql: Sql) -> None:
    @job()
    async def note() -> None: ...

    async def main() -> list[str]:
        heard: list[str] = []
        notices = PostgresNotices(url, "workhorse_jobs")
        listening = asyncio.create_task(notices.follow(heard.append))
        async with opened(url) as database:
            await until(lambda: heard == [""])
            for sleeping in (False, True):
                sql("DELETE FROM workhorse.job_workers")
                sql(
                    "INSERT INTO workhorse.job_workers (id, name, queues, concurrency, sleeping)"
                    " VALUES (gen_random_uuid(), 'w', '{default}', 1, %s)",
                    sleeping,
                )
                await note.options(queue="other").enqueue_alone(database)
                await note.enqueue_alone(database)
            sql("NOTIFY workhorse_jobs, 'the end'")
            await until(lambda: "the end" in heard)
        listening.cancel()
        await asyncio.wait({listening})
        return heard

    # Notices come in the order of their commits, so nothing is still on its way.
    assert asyncio.run(main()) == ["", "default", "the end"]


def test_an_idle_worker_makes_less_than_one_transaction_a_second(url: str, sql: Sql) -> None:
    @job()
    async def note() -> None: ...

    async def main() -> int:
        async with opened(url) as database:
            options = WorkerOptions()
            async with working(url, database, [note], options=options) as worker:
                await until(lambda: worker._rest.settled)
                said: list[str] = []
                engine_run = worker._engine._run

                async def count(name: str, *params: object, repeatable: bool = False) -> object:
                    said.append(name)
                    return await engine_run(name, *params, repeatable=repeatable)

                worker._engine._run = count  # type: ignore[assignment, method-assign]
                await asyncio.sleep(5)
                return len(said)

    assert asyncio.run(main()) <= 3


def test_a_delayed_job_begins_when_it_is_due(url: str, sql: Sql) -> None:
    @job()
    async def note() -> None: ...

    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]) as worker:
            await until(lambda: worker._rest.settled)
            await note.options(delay=timedelta(seconds=0.7)).enqueue_alone(database)
            await until(lambda: sql("SELECT count(*) FROM workhorse.finished_jobs") == [(1,)], seconds=5)

    asyncio.run(main())
    ((late,),) = sql("SELECT extract(epoch FROM started_at - enqueued_at)::float8 FROM workhorse.finished_jobs")
    assert 0.7 <= late < 2


def test_the_pace_forgets() -> None:
    pace = Pace()
    for tick in range(100):
        pace.add(5, tick / 100)
    assert 400 < pace.per_second(1.0) < 600
    assert pace.per_second(10.0) < 1


def test_rest_relies_on_calls_only_when_all_have_ended_who_could_not_see_it() -> None:
    rest = Rest()
    assert rest.should_sleep(150) is False
    assert rest.should_sleep(50) is True
    rest.lay_down()
    assert rest.should_sleep(150) is True, "once asleep it takes more to get it up"
    assert rest.see(View(oldest=90, newest=100, due_in=None)) is False
    assert rest.pause_seconds(View(90, 100, None)) == LOOK_AGAIN_SECONDS
    assert rest.pause_seconds(View(90, 100, None)) == LOOK_AGAIN_SECONDS * 2
    assert rest.pause_seconds(View(90, 100, 0.001)) == 0.001
    assert rest.see(View(oldest=99, newest=300, due_in=None)) is False
    assert rest.see(View(oldest=100, newest=400, due_in=None)) is True
    assert rest.see(View(oldest=100, newest=400, due_in=None)) is False, "one more look is enough"
    assert rest.pause_seconds(View(100, 400, None)) == NET_SECONDS
    rest.get_up()
    assert (rest.sleeping, rest.settled) == (False, False)
