"""Jobs of one key run one at a time and in order, without waiting for a poll in between."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest

from tests.jobs.kit import Sql, opened, until, working
from workhorse.jobs import ONCE, Retries, WorkerOptions, job
from workhorse.jobs.desk import JobDesk
from workhorse.units import Unit, unit

INSERT = "INSERT INTO effects (what) VALUES (%s)"


def test_a_key_is_served_in_order_by_two_workers_and_never_twice_at_once(url: str, sql: Sql) -> None:
    running: dict[str, int] = {}
    order: dict[str, list[int]] = {}

    @job(retries=Retries(attempts=4, first_seconds=0.01, factor=1.0))
    async def move(account: str, number: int) -> None:
        assert running.setdefault(account, 0) == 0, "two of one key at once"
        running[account] += 1
        try:
            if number % 7 == 3 and (account, number) not in failed:
                failed.add((account, number))
                raise RuntimeError("once")
            if number % 2:
                await (await unit()).execute(INSERT, (f"{account} {number}",))
            order.setdefault(account, []).append(number)
        finally:
            running[account] -= 1

    failed: set[tuple[str, int]] = set()

    async def main() -> float:
        async with opened(url) as database:

            async def enqueue(number: int) -> None:
                async with Unit(database):
                    for account in "abc":
                        await move.options(key=account).enqueue(account, number)

            async with working(url, database, [move]), working(url, database, [move]):
                began = time.monotonic()
                for number in range(20):
                    await enqueue(number)
                await until(lambda: sum(map(len, order.values())) == 60, seconds=40)
                return time.monotonic() - began

    seconds = asyncio.run(main())
    assert order == {account: list(range(20)) for account in "abc"}
    assert len(failed) == 9
    assert seconds < 20, "60 jobs of which none waits for a poll"


def test_units_that_enqueue_one_key_at_once_are_served_in_the_order_of_their_commits(url: str, sql: Sql) -> None:
    done: list[int] = []

    @job()
    async def note(number: int) -> None:
        done.append(number)

    async def main() -> None:
        async with opened(url, pool_max=16) as database:

            async def enqueue(number: int) -> None:
                async with Unit(database):
                    await note.options(key="k").enqueue(number)

            async with working(url, database, [note]):
                await asyncio.gather(*(enqueue(number) for number in range(40)))
                await until(lambda: len(done) == 40)

    asyncio.run(main())
    assert sorted(done) == list(range(40))
    rows = sql("SELECT started_at, finished_at FROM workhorse.finished_jobs ORDER BY started_at")
    assert all(before[1] <= after[0] for before, after in pairwise(rows)), "one at a time"


@pytest.mark.parametrize("policy", ["block", "pass"])
def test_a_dead_job_holds_up_its_key_or_lets_it_pass_as_declared(
    policy: Literal["block", "pass"], url: str, sql: Sql
) -> None:
    done: list[int] = []

    @job(retries=ONCE, on_failed_key=policy)
    async def note(number: int) -> None:
        if number == 1 and not done.count(-1):
            raise RuntimeError("no")
        done.append(number)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]):
            made = [await note.options(key="k").enqueue_alone(database, number) for number in range(3)]
            await note.options(key="other").enqueue_alone(database, 9)
            await until(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'") == [(1,)])
            await until(lambda: 9 in done)
            if policy == "block":
                await asyncio.sleep(0.2)
                assert done.count(2) == 0
            else:
                await until(lambda: 2 in done)
            done.append(-1)  # healed
            assert await JobDesk(database).retry(made[1])
            await until(lambda: {0, 1, 2} <= set(done))

    asyncio.run(main())
    kept = [number for number in done if number in {0, 1, 2}]
    assert kept == ([0, 1, 2] if policy == "block" else [0, 2, 1])


def test_a_cancelled_head_lets_the_next_one_go(url: str, sql: Sql) -> None:
    done: list[int] = []

    @job()
    async def note(number: int) -> None:
        done.append(number)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [note]):
            head = await note.options(key="k", delay=timedelta(hours=1)).enqueue_alone(database, 0)
            await note.options(key="k").enqueue_alone(database, 1)
            await asyncio.sleep(0.2)
            assert done == [], "a delayed job keeps its place in its key"
            assert await JobDesk(database).cancel(head) == "cancelled"
            await until(lambda: done == [1])

    asyncio.run(main())


def test_a_deep_key_is_walked_without_a_poll(url: str, sql: Sql) -> None:
    done: list[int] = []

    @job()
    async def note(number: int) -> None:
        done.append(number)

    async def main() -> float:
        async with opened(url) as database:
            bound: Any = note.options(key="k")
            await bound.enqueue_many_alone(database, [note.call(number) for number in range(200)])
            options = WorkerOptions(concurrency=4)
            async with working(url, database, [note], options=options):
                began = time.monotonic()
                await until(lambda: len(done) == 200, seconds=30)
                return time.monotonic() - began

    seconds = asyncio.run(main())
    assert done == list(range(200))
    assert seconds < 20, f"{seconds / 200 * 1000:.0f} ms a job"
