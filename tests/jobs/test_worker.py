"""What becomes of a job: done with its effects exactly once, tried again, dead, cancelled, given back."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.jobs.kit import Sql, opened, until, working
from workhorse.context import CURRENT, current_request
from workhorse.errors import SettingsError
from workhorse.jobs import ONCE, Job, NoJob, Retries, Worker, WorkerOptions, current_job, job
from workhorse.jobs.desk import JobDesk
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit, unit
from workhorse.units.threads import sync_unit

QUICK = Retries(attempts=3, first_seconds=0.02, factor=1.0)
INSERT = "INSERT INTO effects (what) VALUES (%s)"


def serve(
    url: str, jobs: list[Job[Any, Any]], body: Callable[[PostgresDatabase, Worker], Awaitable[Any]], **options: Any
) -> Any:
    async def main() -> Any:
        async with opened(url) as database, working(url, database, jobs, **options) as worker:
            return await body(database, worker)

    return asyncio.run(main())


def ended(sql: Sql) -> list[tuple[Any, ...]]:
    return sql("SELECT name, outcome::text FROM workhorse.finished_jobs ORDER BY finished_at")


def test_effects_events_and_jobs_of_a_job_commit_with_its_end(url: str, sql: Sql) -> None:
    @job()
    async def second(number: int) -> None:
        await (await unit()).execute(INSERT, (f"second {number}",))

    @job()
    async def first(number: int) -> None:
        work = await unit()
        await work.execute(INSERT, ("first",))
        await work.emit("first.done", subject=str(number))
        await second.enqueue(number + 1)

    async def body(database: PostgresDatabase, _: Worker) -> None:
        async with Unit(database):
            await first.enqueue(1)
        await until(lambda: len(ended(sql)) == 2)

    serve(url, [first, second], body)
    assert ended(sql) == [("first", "done"), ("second", "done")]
    assert sql("SELECT what FROM effects ORDER BY id") == [("first",), ("second 2",)]
    assert sql("SELECT count(*) FROM workhorse.events") == [(1,)]
    assert sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]
    assert sql("SELECT count(*) FROM workhorse.job_workers") == [(0,)], "it left without a trace"


def test_a_failed_attempt_leaves_nothing_and_is_tried_again(url: str, sql: Sql) -> None:
    attempts: list[int] = []

    @job(retries=QUICK)
    async def flaky(secret: str) -> None:
        await (await unit()).execute(INSERT, ("flaky",))
        attempts.append(current_job().attempt)
        if len(attempts) < 3:
            raise ValueError(f"password={secret}")

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await flaky.enqueue_alone(database, "hunter2")
        await until(lambda: bool(ended(sql)))

    serve(url, [flaky], body)
    assert attempts == [1, 2, 3]
    assert sql("SELECT what FROM effects") == [("flaky",)]
    ((failures,),) = sql("SELECT failures FROM workhorse.finished_jobs")
    assert [(one["attempt"], one["error"]) for one in failures] == [(1, "ValueError"), (2, "ValueError")]
    assert "in flaky" in failures[0]["traceback"]
    assert "hunter2" not in str(failures)


def test_after_its_last_attempt_a_job_is_dead_until_somebody_retries_it(url: str, sql: Sql) -> None:
    healed = threading.Event()

    @job(retries=Retries(attempts=2, first_seconds=0.01))
    async def sick() -> None:
        if not healed.is_set():
            raise RuntimeError("still sick")

    async def body(database: PostgresDatabase, _: Worker) -> None:
        desk = JobDesk(database)
        made = await sick.enqueue_alone(database)
        await until(lambda: sql("SELECT state::text FROM workhorse.jobs") == [("dead",)])
        page = await desk.show(made)
        assert page is not None
        assert (page.state, page.attempt, len(page.failures)) == ("dead", 2, 2)
        assert [line.id for line in await desk.find(state="dead")] == [made]
        healed.set()
        assert await desk.retry(made)
        await until(lambda: ended(sql) == [("sick", "done")])
        assert not await desk.retry(made)
        page = await desk.show(made)
        assert page is not None
        assert (page.state, page.attempt, page.finished_at is not None) == ("done", 3, True)

    serve(url, [sick], body)


def test_a_job_that_is_late_is_ended_and_has_failed(url: str, sql: Sql) -> None:
    @job(retries=ONCE, deadline_seconds=0.2)
    async def late() -> None:
        await (await unit()).execute(INSERT, ("late",))
        await asyncio.sleep(30)

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await late.enqueue_alone(database)
        await until(lambda: sql("SELECT state::text FROM workhorse.jobs") == [("dead",)], seconds=5)

    serve(url, [late], body)
    ((failures,),) = sql("SELECT failures FROM workhorse.jobs")
    assert failures[0]["error"] == "workhorse.jobs.errors.JobLate"
    assert "took longer than its 0.2 s" in failures[0]["message"]
    assert sql("SELECT count(*) FROM effects") == [(0,)]


def test_a_sync_job_runs_in_a_thread_with_the_unit_of_its_own(url: str, sql: Sql) -> None:
    threads: set[str] = set()

    @job()
    async def after(number: int) -> None: ...

    @job()
    def sync(number: int) -> None:
        threads.add(threading.current_thread().name)
        time.sleep(0.05)
        sync_unit().execute(INSERT, (str(number),))
        after.enqueue_sync(number)

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await sync.enqueue_many_alone(database, [sync.call(number) for number in range(6)])
        await until(lambda: len(ended(sql)) == 12)

    serve(url, [sync, after], body)
    assert sql("SELECT count(DISTINCT what) FROM effects") == [(6,)]
    assert all(name.startswith("workhorse-job") for name in threads)


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(url: str, sql: Sql) -> None:
    begun = asyncio.Event()

    @job()
    async def endless() -> None:
        await (await unit()).execute(INSERT, ("endless",))
        begun.set()
        await asyncio.sleep(60)

    async def body(database: PostgresDatabase, _: Worker) -> None:
        desk = JobDesk(database)
        later = await endless.options(delay=timedelta(hours=1)).enqueue_alone(database)
        running = await endless.enqueue_alone(database)
        await begun.wait()
        assert await desk.cancel(later) == "cancelled"
        assert await desk.cancel(running) == "asked"
        await until(lambda: len(ended(sql)) == 2, seconds=5)
        assert await desk.cancel(running) is None

    serve(url, [endless], body)
    assert ended(sql) == [("endless", "cancelled")] * 2
    assert sql("SELECT count(*) FROM effects") == [(0,)]


def test_operators_see_how_far_a_job_is_before_it_commits(url: str, sql: Sql) -> None:
    go = asyncio.Event()

    @job()
    async def long() -> None:
        await (await unit()).execute(INSERT, ("long",))
        await current_job().progress({"done": 3, "of": 10})
        await go.wait()

    async def body(database: PostgresDatabase, worker: Worker) -> None:
        made = await long.enqueue_alone(database)
        await until(lambda: sql("SELECT progress FROM workhorse.jobs") == [({"done": 3, "of": 10},)])
        page = await JobDesk(database).show(made)
        assert page is not None
        assert (page.state, page.worker, page.progress) == ("running", worker.name, {"done": 3, "of": 10})
        (line,) = await JobDesk(database).workers()
        assert (line.name, line.queues, line.heard_of_seconds_ago < 5) == (worker.name, ["default"], True)
        go.set()
        await until(lambda: ended(sql) == [("long", "done")])

    serve(url, [long], body)


def test_a_job_runs_in_the_trace_and_for_the_caller_of_who_enqueued_it(url: str, sql: Sql) -> None:
    seen: list[tuple[Any, ...]] = []

    @job(deadline_seconds=10)
    async def look() -> None:
        request = current_request()
        left = request.remaining_seconds(100)
        seen.append((request.trace_id, request.principal.id, request.principal.scopes, 5 < left <= 10))

    async def body(database: PostgresDatabase, _: Worker) -> None:
        origin = '{"trace": "' + "b" * 32 + '", "subject": "alice", "issuer": "i", "kind": "token"}'
        made = await look.options(delay=timedelta(hours=1)).enqueue_alone(database)
        sql("UPDATE workhorse.jobs SET origin = %s", origin)
        await JobDesk(database).retry(made)
        await until(lambda: bool(ended(sql)))

    serve(url, [look], body)
    assert seen == [(b"b" * 32, "i|alice", frozenset(), True)]
    with pytest.raises(LookupError):
        CURRENT.get()
    with pytest.raises(NoJob):
        current_job()


def test_a_job_of_an_unknown_name_or_a_later_version_is_left_to_newer_workers(url: str, sql: Sql) -> None:
    @job()
    async def known() -> None: ...

    @job(name="known", version=2)
    async def newer() -> None: ...

    @job()
    async def unknown() -> None: ...

    async def body(database: PostgresDatabase, _: Worker) -> None:
        for one in (newer, unknown, known):
            await one.enqueue_alone(database)
        await until(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'delayed'") == [(2,)])

    serve(url, [known], body)
    assert sql("SELECT name, attempts_left, failures FROM workhorse.jobs ORDER BY name") == [
        ("known", 8, None),
        ("unknown", 8, None),
    ]
    assert ended(sql) == [("known", "done")]


def test_arguments_of_an_earlier_version_are_upgraded(url: str, sql: Sql) -> None:
    seen: list[tuple[str, str]] = []

    @job(name="greet")
    async def greet_before(name: str) -> None: ...

    def upgrade(version: int, arguments: dict[str, Any]) -> dict[str, Any]:
        assert version == 1
        first, _, last = arguments["name"].partition(" ")
        return {"first": first, "last": last}

    @job(version=2, upgrade=upgrade)
    async def greet(first: str, last: str) -> None:
        seen.append((first, last))

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await greet_before.enqueue_alone(database, "Ada Lovelace")
        await until(lambda: bool(ended(sql)))

    serve(url, [greet], body)
    assert seen == [("Ada", "Lovelace")]


def test_a_stop_lets_jobs_end_and_gives_back_what_does_not(url: str, sql: Sql) -> None:
    both = asyncio.Barrier(3)

    @job()
    async def quick() -> None:
        await both.wait()
        await asyncio.sleep(0.2)

    @job()
    async def slow() -> None:
        await both.wait()
        await asyncio.sleep(60)

    async def body(database: PostgresDatabase, worker: Worker) -> None:
        await quick.enqueue_alone(database)
        await slow.enqueue_alone(database)
        await both.wait()
        worker.stop()

    began = time.monotonic()
    serve(url, [quick, slow], body, options=WorkerOptions(drain_seconds=1.0))
    assert time.monotonic() - began < 10
    assert ended(sql) == [("quick", "done")]
    assert sql("SELECT name, state::text, attempts_left, failures FROM workhorse.jobs") == [("slow", "ready", 8, None)]


def test_a_job_that_loses_to_another_transaction_runs_again_at_once(url: str, sql: Sql) -> None:
    runs: list[int] = []

    @job(retries=ONCE)
    async def contended() -> None:
        runs.append(1)
        work = await unit()
        await work.execute(INSERT, ("contended",))
        if len(runs) == 1:
            await work.execute("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$")

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await contended.enqueue_alone(database)
        await until(lambda: bool(ended(sql)))

    serve(url, [contended], body)
    assert len(runs) == 2
    assert sql("SELECT count(*) FROM effects") == [(1,)]


def test_a_job_that_wants_to_exit_has_failed_and_its_worker_goes_on(url: str, sql: Sql) -> None:
    @job(retries=ONCE)
    async def leave() -> None:
        raise SystemExit(3)

    @job()
    async def note() -> None: ...

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await leave.enqueue_alone(database)
        await until(lambda: sql("SELECT failures->0->>'error' FROM workhorse.jobs") == [("SystemExit",)])
        await note.enqueue_alone(database)
        await until(lambda: ended(sql) == [("note", "done")])

    serve(url, [leave, note], body)


def test_a_thread_that_is_late_loses_its_transaction_and_commits_nothing_more(url: str, sql: Sql) -> None:
    refused: list[BaseException] = []

    @job(retries=ONCE, deadline_seconds=0.2)
    def late() -> None:
        work = sync_unit()
        work.execute(INSERT, ("before",))
        time.sleep(0.6)
        try:
            work.execute(INSERT, ("after",))
        except BaseException as error:
            refused.append(error)
            raise

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await late.enqueue_alone(database)
        await until(lambda: sql("SELECT state::text FROM workhorse.jobs") == [("dead",)], seconds=5)
        await until(lambda: bool(refused), seconds=5)

    serve(url, [late], body)
    assert sql("SELECT count(*) FROM effects") == [(0,)]


def test_a_worker_that_drains_still_writes_the_ends_of_those_that_are_done(url: str, sql: Sql) -> None:
    both, go = asyncio.Barrier(3), asyncio.Event()

    @job()
    async def quick() -> None:
        await both.wait()
        await asyncio.sleep(0.1)

    @job()
    async def slow() -> None:
        await both.wait()
        await go.wait()

    async def body(database: PostgresDatabase, worker: Worker) -> None:
        await quick.enqueue_alone(database)
        await slow.enqueue_alone(database)
        await both.wait()
        worker.stop()
        await until(lambda: ended(sql) == [("quick", "done")], seconds=4)
        go.set()

    serve(url, [quick, slow], body, options=WorkerOptions(drain_seconds=10.0))
    assert ended(sql) == [("quick", "done"), ("slow", "done")]


def test_priority_goes_before_age(url: str, sql: Sql) -> None:
    order: list[int] = []

    @job()
    async def note(number: int) -> None:
        order.append(number)

    async def main() -> None:
        async with opened(url) as database:
            for number in (0, 5, -5, 5, 9):
                await note.options(priority=number).enqueue_alone(database, number)
            async with working(url, database, [note], options=WorkerOptions(concurrency=1)):
                await until(lambda: len(order) == 5)

    asyncio.run(main())
    assert order == [9, 5, 5, 0, -5]


def test_what_is_done_is_counted(url: str, sql: Sql) -> None:
    registry = Registry(None)

    @job(retries=ONCE)
    async def good() -> None: ...

    @job(retries=ONCE)
    async def bad() -> None:
        raise RuntimeError

    async def body(database: PostgresDatabase, _: Worker) -> None:
        await good.enqueue_alone(database)
        await bad.enqueue_alone(database)
        await until(lambda: registry.total("workhorse_jobs_ended_total") == 2)

    serve(url, [good, bad], body, metrics=registry)
    assert registry.total("workhorse_jobs_ended_total", job="good", outcome="done") == 1
    assert registry.total("workhorse_jobs_ended_total", job="bad", outcome="dead") == 1
    assert registry.total("workhorse_job_wait_seconds", queue="default") == 2


def test_two_jobs_of_one_name_or_none_at_all_are_refused() -> None:
    @job(name="same")
    async def one() -> None: ...

    @job(name="same")
    async def other() -> None: ...

    async def main() -> None:
        database: Any = None
        with pytest.raises(SettingsError, match="'same'"):
            Worker(database, [one, other])
        with pytest.raises(SettingsError, match="nothing to do"):
            Worker(database, [])
        with pytest.raises(ValueError, match="no name"):
            Worker(database, [one], queues=["a,b"])
        with pytest.raises(SettingsError, match="half of lease_seconds"):
            WorkerOptions(lease_seconds=5, beat_seconds=4)

    asyncio.run(main())
