"""Workers that are killed, frozen or cut off: every effect once, and within a bound."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.jobs.kit import Sql, opened, until, wait_for, worker_processes, working
from tests.jobs.worker_process import effect, killer, slow_thread, stepped
from workhorse.jobs import WorkerOptions, job
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import unit

pytestmark = [pytest.mark.slow, pytest.mark.crash]

INSERT = "INSERT INTO effects (what) VALUES (%s)"


def enqueue(url: str, *made: tuple[Any, list[tuple[Any, ...]]]) -> None:
    async def main() -> None:
        async with opened(url, pool_max=2) as database:
            for one, calls in made:
                await one.enqueue_many_alone(database, [one.call(*arguments) for arguments in calls])

    asyncio.run(main())


def left(sql: Sql) -> int:
    count: int = sql("SELECT count(*) FROM workhorse.jobs WHERE state <> 'dead'")[0][0]
    return count


def test_a_killed_worker_loses_nothing_and_repeats_nothing(url: str, sql: Sql, tmp_path: Path) -> None:
    """Its jobs are back within the lease, and what it had committed is not done again."""
    log = tmp_path / "log"
    jobs = [(f"job {number}", 0.01 * (number % 20)) for number in range(300)]
    enqueue(url, (effect, jobs), (stepped, [(f"flow {number}", 4, 0.1) for number in range(10)]))
    with worker_processes(url, 3, log, sql) as workers:
        for worker in workers[:2]:
            wait_for(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'running'")[0][0] > 10, log)
            time.sleep(0.3)
            worker.kill()
        killed = time.monotonic()
        wait_for(lambda: left(sql) == 0, log, seconds=60)
        assert time.monotonic() - killed < 60
    expected = [what for what, _ in jobs] + [f"flow {flow} {number}" for flow in range(10) for number in range(4)]
    assert sorted(what for (what,) in sql("SELECT what FROM effects")) == sorted(expected)
    assert sql("SELECT count(*), count(DISTINCT id) FROM workhorse.finished_jobs") == [(310, 310)]
    lost = "SELECT count(*) FROM workhorse.finished_jobs WHERE failures->0->>'error' = 'WorkerLost'"
    assert sql(lost)[0][0] > 0, "some were begun by a worker that was killed"


def test_a_frozen_worker_that_wakes_up_ends_nothing_of_others(url: str, sql: Sql, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_processes(url, 1, log, sql) as (frozen,):
        enqueue(url, (effect, [(f"job {number}", 0.6) for number in range(8)]))
        wait_for(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'running'") == [(8,)], log)
        frozen.send(signal.SIGSTOP)
        with worker_processes(url, 1, log, sql):
            wait_for(lambda: left(sql) == 0, log)
            assert sql("SELECT count(*), count(DISTINCT what) FROM effects") == [(8, 8)]
            frozen.send(signal.SIGCONT)
            # It learns that it was taken for dead, and goes on under a new id.
            wait_for(lambda: sql("SELECT count(*) FROM workhorse.job_workers") == [(2,)], log)
            time.sleep(1.0)
            enqueue(url, (effect, [(f"more {number}", 0.0) for number in range(20)]))
            wait_for(lambda: left(sql) == 0, log)
    assert sql("SELECT count(*), count(DISTINCT what) FROM effects") == [(28, 28)]
    assert sql("SELECT count(*), count(DISTINCT id) FROM workhorse.finished_jobs") == [(28, 28)]
    assert "taken_for_dead" in log.read_text()


def test_a_job_that_kills_its_workers_comes_to_an_end(url: str, sql: Sql, tmp_path: Path) -> None:
    """It has two attempts, so the third worker lives, and buries it."""
    log = tmp_path / "log"
    with worker_processes(url, 3, log, sql) as workers:
        enqueue(url, (killer, [()]))
        wait_for(lambda: sql("SELECT state::text, attempt FROM workhorse.jobs") == [("dead", 2)], log)
        codes = [worker.process.poll() for worker in workers]
    assert sorted(codes, key=str) == [-signal.SIGKILL, -signal.SIGKILL, None]
    ((failures,),) = sql("SELECT failures FROM workhorse.jobs")
    assert [one["error"] for one in failures] == ["WorkerLost", "WorkerLost"]


def test_a_term_signal_drains(url: str, sql: Sql, tmp_path: Path) -> None:
    log = tmp_path / "log"
    enqueue(url, (effect, [(f"job {number}", 0.5) for number in range(60)]), (slow_thread, [("t", 0.5)]))
    with worker_processes(url, 1, log, sql) as (worker,):
        wait_for(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'running'")[0][0] == 20, log)
        worker.process.terminate()
        assert worker.process.wait(10) == 0
    assert sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'running'") == [(0,)]
    assert sql("SELECT count(*) FROM workhorse.jobs WHERE failures IS NOT NULL") == [(0,)]
    done = sql("SELECT count(*) FROM workhorse.finished_jobs WHERE name = 'effect'")[0][0]
    assert sql("SELECT count(*), count(DISTINCT what) FROM effects") == [(done, done)]
    assert done >= 19


def test_killed_sessions_are_survived_and_effects_stay_single(url: str, sql: Sql) -> None:
    @job()
    async def note(number: int) -> None:
        await (await unit()).execute(INSERT, (str(number),))
        await asyncio.sleep(0.01)

    @job()
    async def light(number: int) -> None: ...

    def kill_sessions() -> None:
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def main() -> None:
        options = WorkerOptions(concurrency=10, lease_seconds=4.0, beat_seconds=0.5)
        async with opened(url) as database, working(url, database, [note, light], options=options):
            for wave in range(5):
                calls = [note.call(wave * 100 + number) for number in range(100)]
                async with opened(url, pool_max=1) as own:
                    await note.enqueue_many_alone(own, calls)
                    await light.enqueue_many_alone(own, [light.call(number) for number in range(50)])
                await asyncio.sleep(0.2)
                await asyncio.to_thread(kill_sessions)
            await until(lambda: left(sql) == 0, seconds=60)

    asyncio.run(main())
    assert sql("SELECT count(*), count(DISTINCT what) FROM effects") == [(500, 500)]
    assert sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]
    assert sql("SELECT count(*), count(DISTINCT id) FROM workhorse.finished_jobs") == [(750, 750)]


def test_an_answer_that_got_lost_on_its_way_leaves_no_job_behind(url: str, sql: Sql) -> None:
    """The turn commits, and the worker never hears what it claimed."""
    begun: list[int] = []

    @job()
    async def note(number: int) -> None:
        begun.append(number)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]) as worker:
            await until(lambda: worker._rest.settled)
            said = worker._engine.turn

            async def deaf(*arguments: Any, **named: Any) -> Any:
                claimed = await said(*arguments, **named)
                if claimed:
                    worker._engine.turn = said  # type: ignore[method-assign]
                    raise ConnectionError("the answer is lost")
                return claimed

            worker._engine.turn = deaf  # type: ignore[method-assign]
            await note.enqueue_many_alone(database, [note.call(number) for number in range(5)])
            await until(lambda: sorted(begun) == list(range(5)), seconds=10)
            assert isinstance(database, PostgresDatabase)

    asyncio.run(main())
    assert sql("SELECT count(*) FROM workhorse.finished_jobs") == [(5,)]


def test_the_fence_holds_against_a_worker_that_knows_nothing(url: str, sql: Sql) -> None:
    """At the level of the statements: worker and attempt must both match."""
    asyncio.run(_one_job(url))
    first, second = sql("SELECT gen_random_uuid(), gen_random_uuid()")[0]
    told = "INSERT INTO workhorse.job_workers (id, name, queues, concurrency) VALUES (%s, 'w', '{default}', 1)"
    for worker in (first, second):
        sql(told, worker)
    claim = "SELECT id, attempt FROM workhorse.claim_jobs(%s, '{default}', 1)"
    ((made, attempt),) = sql(claim, first)
    sql("UPDATE workhorse.job_workers SET beat_at = now() - interval '1 minute' WHERE id = %s", first)
    assert sql("SELECT workhorse.reap_job_workers(5)") == [(1,)]
    assert sql(claim, first) == [], "who was taken for dead gets nothing"
    ((again, next_attempt),) = sql(claim, second)
    assert (again, next_attempt) == (made, attempt + 1)

    finish = "SELECT workhorse.finish_jobs(%s, ARRAY[%s], ARRAY[%s]::smallint[], false)"
    release = "SELECT workhorse.release_jobs(%s, ARRAY[%s], ARRAY[%s]::smallint[], 0)"
    for worker, number in ((first, attempt), (first, attempt + 1), (second, attempt)):
        assert sql(finish, worker, made, number) == []
        assert sql(release, worker, made, number) == [(0,)]
        assert sql("SELECT workhorse.fail_job(%s, %s, %s::smallint, '{}', 0)", made, worker, number) == [("lost",)]
        with pytest.raises(psycopg.Error, match="not the attempt"):
            sql("SELECT workhorse.complete_job(%s, %s, %s::smallint, false)", made, worker, number)
    assert sql(finish, second, made, attempt + 1) == [(made,)]


async def _one_job(url: str) -> None:
    async with opened(url, pool_max=1) as database:
        await effect.enqueue_alone(database, "x")
