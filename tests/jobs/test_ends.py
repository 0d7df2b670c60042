"""The end of an attempt is told whole, whoever wants it otherwise meanwhile; what cannot begin stops nobody else."""

import asyncio
import time
from typing import Any

import psycopg
import pytest

from tests.jobs.kit import Sql, opened, until, working
from tests.units.databases import KINDS, open_database
from workhorse.context import CURRENT, RequestContext
from workhorse.errors import UnitClosed
from workhorse.jobs import ONCE, Retries, Worker, WorkerOptions, job, step
from workhorse.jobs.attempt import MOST_BEGINNINGS, JobUnit
from workhorse.jobs.desk import JobDesk
from workhorse.principal import Kind, Principal
from workhorse.units import Unit, unit

INSERT = "INSERT INTO effects (what) VALUES (%s)"
STATES = "SELECT state::text, attempt FROM workhorse.jobs"


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", ["a cancellation", "the worker's stop"])
def test_a_failure_that_is_just_being_told_is_told_whole(ended_by: str, url: str, sql: Sql) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    @job(retries=Retries(attempts=2, first_seconds=100.0, most_seconds=100.0))
    async def fails() -> None:
        began.set()
        await go.wait()
        raise RuntimeError("it was to fail")

    async def main() -> None:
        options = WorkerOptions(lease_seconds=4.0, beat_seconds=1.0, drain_seconds=0.2)
        async with opened(url) as database, opened(url, pool_max=3) as control:
            worker = Worker(database, [fails], control=control, options=options)
            running = asyncio.create_task(worker.run())
            one = await fails.options(key="k").enqueue_alone(database)
            await began.wait()
            async with await psycopg.AsyncConnection.connect(url) as other:
                await other.execute("SELECT FROM workhorse.jobs FOR UPDATE")  # so that the telling takes a while
                go.set()
                await asyncio.sleep(0.2)
                cancelling: asyncio.Task[str | None] | None = None
                if ended_by == "a cancellation":
                    cancelling = asyncio.create_task(JobDesk(database).cancel(one))
                    worker._hear(f"cancel:{one}")  # pyright: ignore[reportPrivateUsage] - as its notice does
                else:
                    worker.stop()
                await asyncio.sleep(0.6)
                await other.rollback()
            if cancelling is not None:
                assert await cancelling in {"cancelled", "asked"}
                await until(lambda: sql(STATES) == [])
            else:
                await until(lambda: sql(STATES) == [("delayed", 1)])
            worker.stop()
            await running

    asyncio.run(main())


def test_a_job_that_fails_after_it_was_asked_to_stop_is_not_tried_again(url: str, sql: Sql) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @job(retries=Retries(attempts=3, first_seconds=0.0))
    async def fails() -> None:
        runs.append(1)
        began.set()
        await go.wait()
        raise RuntimeError("it was to fail")

    async def main() -> None:
        deaf = WorkerOptions(lease_seconds=40.0, beat_seconds=20.0, drain_seconds=1.0)
        async with opened(url) as database, opened(url, pool_max=3) as control:
            worker = Worker(database, [fails], control=control, options=deaf)
            running = asyncio.create_task(worker.run())
            one = await fails.enqueue_alone(database)
            await began.wait()
            assert await JobDesk(database).cancel(one) == "asked"
            go.set()
            await until(lambda: sql("SELECT outcome::text FROM workhorse.finished_jobs") == [("cancelled",)])
            worker.stop()
            await running

    asyncio.run(main())
    assert runs == [1]


def test_a_job_that_answers_its_cancellation_with_an_error_is_cancelled_all_the_same(url: str, sql: Sql) -> None:
    began = asyncio.Event()

    @job(retries=Retries(attempts=3, first_seconds=0.0))
    async def stubborn() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("its cleaning up failed")

    async def main() -> None:
        async with opened(url) as database, working(url, database, [stubborn]):
            one = await stubborn.enqueue_alone(database)
            await began.wait()
            assert await JobDesk(database).cancel(one) == "asked"
            await until(lambda: sql("SELECT outcome::text FROM workhorse.finished_jobs") == [("cancelled",)])

    asyncio.run(main())


def test_a_job_that_nobody_knows_dies_before_its_number_of_attempts_stops_the_queue(url: str, sql: Sql) -> None:
    @job()
    async def unknown() -> None: ...

    @job()
    async def known() -> None:
        await (await unit()).execute(INSERT, ("known",))

    async def main() -> None:
        async with opened(url) as database:
            await unknown.enqueue_alone(database)
            sql("UPDATE workhorse.jobs SET attempt = %s", MOST_BEGINNINGS - 1)
            async with working(url, database, [known]):
                await known.enqueue_alone(database)
                await until(lambda: sql("SELECT what FROM effects") == [("known",)])
                await until(lambda: sql(STATES) == [("dead", MOST_BEGINNINGS)])

    asyncio.run(main())
    ((message,),) = sql("SELECT failures->0->>'message' FROM workhorse.jobs")
    assert "'unknown'" in str(message)
    assert "start one whose code does" in str(message)


def test_a_unit_that_opens_after_its_job_ended_gives_its_connection_back(url: str) -> None:
    async def main() -> None:
        async with opened(url, pool_max=1) as database:
            held, _ = await database.begin()
            late = JobUnit(database, deadline=time.monotonic() + 60)
            opening = asyncio.create_task(late.open())
            await asyncio.sleep(0.1)
            await late.undo(cancelled=False)
            await held.rollback()
            with pytest.raises(UnitClosed, match="before its unit was open"):
                await opening
            transaction, _ = await database.begin()
            await transaction.rollback()

    asyncio.run(main())


async def one() -> int:
    await (await unit()).execute(INSERT, ("step",))
    return 1


def test_a_job_with_steps_that_loses_to_another_transaction_runs_again_at_once(url: str, sql: Sql) -> None:
    runs: list[int] = []

    @job(retries=ONCE)
    async def stepped() -> None:
        runs.append(await step("one", one))
        await (await unit()).execute(INSERT, (f"run {len(runs)}",))
        if len(runs) < 3:
            raise psycopg.errors.SerializationFailure("another was first")

    async def main() -> None:
        async with opened(url) as database, working(url, database, [stepped]):
            await stepped.enqueue_alone(database)
            await until(lambda: sql("SELECT outcome::text FROM workhorse.finished_jobs") == [("done",)])

    asyncio.run(main())
    assert sql("SELECT what FROM effects ORDER BY id") == [("step",), ("run 3",)]


async def balance() -> float:
    await (await unit()).execute(INSERT, ("counted",))
    return float("nan")


def test_a_result_that_could_not_be_read_again_undoes_its_step(url: str, sql: Sql) -> None:
    @job(retries=ONCE)
    async def count() -> None:
        await step("balance", balance)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [count]):
            await count.enqueue_alone(database)
            await until(lambda: sql(STATES) == [("dead", 1)])

    asyncio.run(main())
    assert sql("SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM workhorse.job_steps)") == [(0, 0)]
    ((message,),) = sql("SELECT failures->0->>'message' FROM workhorse.jobs")
    assert "'balance'" in str(message)


@pytest.mark.parametrize("subject", ["a\0b", "a\ud800b"], ids=["NUL", "surrogate"])
def test_a_caller_whose_name_postgres_cannot_keep_still_enqueues(subject: str, url: str, sql: Sql) -> None:
    @job()
    async def note() -> None: ...

    async def main() -> None:
        request = RequestContext()
        request.principal = Principal(subject=subject, issuer="https://idp", kind=Kind.TOKEN)
        token = CURRENT.set(request)
        try:
            async with opened(url) as database, Unit(database) as work:
                await work.execute(INSERT, ("money",))
                await note.enqueue()
        finally:
            CURRENT.reset(token)

    asyncio.run(main())
    assert sql("SELECT what FROM effects") == [("money",)]
    ((kept,),) = sql("SELECT origin->>'subject' FROM workhorse.jobs")
    assert str(kept).startswith("a")


@pytest.mark.parametrize("kind", [*KINDS[1:2], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[2:])])
def test_jobs_are_enqueued_run_and_ended_over_each_driver(kind: str, url: str, sql: Sql) -> None:
    @job()
    async def second() -> None:
        await step("one", one)
        await (await unit()).execute(INSERT, ("second",))

    @job()
    async def first() -> None:
        await (await unit()).execute(INSERT, ("first",))
        await second.options(key="k", unique="u").enqueue()

    async def main() -> None:
        async with open_database(kind, url) as database:
            async with Unit(database):
                await first.enqueue()
            worked: Any = working(url, database, [first, second])
            async with worked:
                await until(lambda: sql("SELECT count(*) FROM workhorse.finished_jobs") == [(2,)])

    asyncio.run(main())
    assert sql("SELECT what FROM effects ORDER BY id") == [("first",), ("step",), ("second",)]


@pytest.mark.slow
def test_a_worker_that_could_not_register_again_does_so_later(
    url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job()
    async def known() -> None:
        await (await unit()).execute(INSERT, ("known",))

    async def main() -> None:
        monkeypatch.setattr("workhorse.jobs.waiting.MOST_REFUSALS", 2)
        async with opened(url) as database, working(url, database, [known]):
            await until(lambda: sql("SELECT count(*) FROM workhorse.job_workers") == [(1,)])
            sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'not before the promotion' USING ERRCODE = '25006'; END $$;"
                " CREATE TRIGGER refuse BEFORE INSERT ON workhorse.job_workers"
                " FOR EACH ROW EXECUTE FUNCTION refuse();"
                " DELETE FROM workhorse.job_workers"
            )
            await asyncio.sleep(1.5)
            sql("DROP TRIGGER refuse ON workhorse.job_workers")
            await known.enqueue_alone(database)
            await until(lambda: sql("SELECT what FROM effects") == [("known",)])

    asyncio.run(main())


def test_a_job_that_lets_the_cancellation_of_its_own_task_pass_has_failed(url: str, sql: Sql) -> None:
    @job(retries=ONCE)
    async def careless() -> None:
        await (await unit()).execute(INSERT, ("undone",))
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    async def main() -> None:
        async with opened(url) as database, working(url, database, [careless]):
            await careless.enqueue_alone(database)
            await until(lambda: sql(STATES) == [("dead", 1)])

    asyncio.run(main())
    assert sql("SELECT what FROM effects") == []


def test_a_dead_job_is_not_retried_beside_another_of_its_unique_key(url: str, sql: Sql) -> None:
    @job(retries=ONCE)
    async def fails() -> None:
        raise RuntimeError("it was to fail")

    async def main() -> None:
        async with opened(url) as database:
            desk = JobDesk(database)
            async with working(url, database, [fails]):
                dead = await fails.options(unique="u").enqueue_alone(database)
                await until(lambda: sql(STATES) == [("dead", 1)])
            other = await fails.options(unique="u").enqueue_alone(database)
            assert await desk.retry(dead) is False
            assert await desk.cancel(other) == "cancelled"
            assert await desk.retry(dead) is True
            await fails.options(unique="u").enqueue_alone(database)
            assert sql(STATES) == [("ready", 1)]

    asyncio.run(main())


@pytest.mark.parametrize("then", ["waits", "writes and returns", "returns"])
def test_a_job_that_cancels_its_own_task_has_failed_and_is_tried_again(then: str, url: str, sql: Sql) -> None:
    runs: list[str] = []

    @job(retries=Retries(attempts=2, first_seconds=0.01, factor=1.0))
    async def confused() -> None:
        runs.append(then)
        if len(runs) == 1:
            if then == "writes and returns":
                await (await unit()).execute(INSERT, ("undone",))
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if then == "waits":
                await asyncio.sleep(10)
            return
        await (await unit()).execute(INSERT, ("done",))

    async def main() -> None:
        async with opened(url) as database, working(url, database, [confused]):
            await confused.enqueue_alone(database)
            await until(lambda: sql("SELECT outcome::text FROM workhorse.finished_jobs") == [("done",)], seconds=5)

    asyncio.run(main())
    assert sql("SELECT what FROM effects") == [("done",)]
    assert len(runs) == 2
