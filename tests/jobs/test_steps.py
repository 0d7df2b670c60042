"""A job of several transactions goes on after the last one that stands."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.jobs.kit import Sql, opened, until, working
from workhorse.jobs import Job, NoJob, Retries, job, step
from workhorse.units import unit

QUICK = Retries(attempts=4, first_seconds=0.02, factor=1.0)
INSERT = "INSERT INTO effects (what) VALUES (%s)"


@dataclass
class Account:
    number: int
    limit: Decimal


async def write(what: str) -> None:
    await (await unit()).execute(INSERT, (what,))


async def open_account(number: int) -> Account:
    await write("account")
    return Account(number, Decimal("1.50"))


def finish(url: str, sql: Sql, one: Job[Any, Any], *arguments: Any) -> list[tuple[Any, ...]]:
    async def main() -> None:
        async with opened(url) as database, working(url, database, [one]):
            await one.enqueue_alone(database, *arguments)
            over = "SELECT (SELECT count(*) FROM workhorse.jobs WHERE state <> 'dead')"
            await until(lambda: sql(over) == [(0,)])

    asyncio.run(main())
    return sql("SELECT what FROM effects ORDER BY id")


def test_a_step_that_stands_is_not_run_again_and_gives_its_result(url: str, sql: Sql) -> None:
    seen: list[Account] = []

    @job(retries=QUICK)
    async def onboard(number: int) -> None:
        account = await step("account", open_account, number)
        seen.append(account)
        await step("card", write, "card")
        if len(seen) < 3:
            await write("undone with the attempt")
            raise RuntimeError("between two steps")
        await step("welcome", write, "welcome")

    assert finish(url, sql, onboard, 7) == [("account",), ("card",), ("welcome",)]
    assert seen == [Account(7, Decimal("1.50"))] * 3
    assert sql("SELECT attempt FROM workhorse.finished_jobs") == [(3,)]
    assert sql("SELECT count(*) FROM workhorse.job_steps") == [(0,)], "they end with the job"


def test_a_step_that_fails_leaves_nothing(url: str, sql: Sql) -> None:
    tries: list[int] = []

    async def half() -> None:
        await write("half")
        tries.append(1)
        if len(tries) < 2:
            raise RuntimeError("half way")

    @job(retries=QUICK)
    async def work() -> None:
        await step("half", half)

    assert finish(url, sql, work) == [("half",)]
    assert len(tries) == 2


def test_a_job_that_lost_its_place_commits_no_step(url: str, sql: Sql) -> None:
    """Somebody else has the job by now: here its attempt is counted up behind its back."""

    async def stolen() -> None:
        await write("of the zombie")
        await asyncio.to_thread(sql, "UPDATE workhorse.jobs SET attempt = attempt + 1")

    @job(retries=QUICK)
    async def work() -> None:
        await step("stolen", stolen)

    async def main() -> None:
        async with opened(url) as database, working(url, database, [work]) as worker:
            await work.enqueue_alone(database)
            await until(lambda: sql("SELECT attempt FROM workhorse.jobs") == [(2,)])
            await until(lambda: not worker._attempts)

    asyncio.run(main())
    assert sql("SELECT count(*) FROM effects") == [(0,)]
    assert sql("SELECT count(*) FROM workhorse.job_steps") == [(0,)]


def test_two_steps_of_one_name_and_results_without_json_are_refused(url: str, sql: Sql) -> None:
    async def odd() -> object:
        await write("odd")
        return object()

    @job(retries=Retries(attempts=1))
    async def work(which: str) -> None:
        if which == "odd":
            await step("odd", odd)
        await step("same", write, "same")
        await step("same", write, "same")

    finish(url, sql, work, "odd")
    assert finish(url, sql, work, "twice") == [("same",)]
    messages = [one[0][0]["message"] for one in sql("SELECT failures FROM workhorse.jobs ORDER BY seq")]
    assert "cannot be said in JSON" in messages[0]
    assert "two steps" in messages[1]
    with pytest.raises(NoJob):
        asyncio.run(step("nowhere", write, "x"))
