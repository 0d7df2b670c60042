"""A job is written with its unit or not at all; what a worker could not read is refused where it is enqueued."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.jobs.kit import Sql, opened
from workhorse.context import CURRENT, RequestContext
from workhorse.errors import NoUnit
from workhorse.jobs import Retries, job
from workhorse.principal import Kind, Principal
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit


@dataclass
class Receipt:
    number: int
    amount: Decimal


@job(retries=Retries(attempts=3), priority=2)
async def send(receipt: int, by: str = "post") -> None: ...


@job()
async def book(receipt: Receipt, when: datetime) -> None: ...


def run(url: str, body: Callable[[PostgresDatabase], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with opened(url) as database:
            return await body(database)

    return asyncio.run(main())


def test_a_job_is_written_when_its_unit_commits_and_not_before(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> UUID:
        async with Unit(database):
            made = await send.enqueue(7)
            assert sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]
        return made

    made = run(url, body)
    columns = "SELECT id, name, queue, state::text, priority, attempts_left, arguments::text, key FROM workhorse.jobs"
    assert sql(columns) == [(made, "send", "default", "ready", 2, 3, '{"receipt":7}', None)]


def test_a_unit_that_rolls_back_has_no_jobs(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        async def undone() -> None:
            async with Unit(database):
                await send.enqueue(7)
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await undone()

    run(url, body)
    assert sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]


def test_a_savepoint_that_is_undone_takes_its_jobs_along_and_no_others(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        async with Unit(database) as work:

            async def undone() -> None:
                async with work.savepoint():
                    await send.enqueue(2)
                    raise RuntimeError("no")

            await send.enqueue(1)
            with pytest.raises(RuntimeError, match="no"):
                await undone()
            await send.enqueue(3)

    run(url, body)
    assert sql("SELECT arguments->>'receipt' FROM workhorse.jobs ORDER BY seq") == [("1",), ("3",)]


def test_many_jobs_keep_their_order(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        async with Unit(database):
            await send.enqueue_many(send.call(number) for number in range(1_203))

    run(url, body)
    rows = sql("SELECT (arguments->>'receipt')::int FROM workhorse.jobs ORDER BY seq")
    assert [number for (number,) in rows] == list(range(1_203))


def test_outside_a_unit_it_refuses_and_says_what_to_do(url: str, sql: Sql) -> None:
    with pytest.raises(NoUnit, match="enqueue_alone"):
        asyncio.run(send.enqueue(1))


def test_alone_it_commits_by_itself(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        await send.enqueue_alone(database, 1, by="hand")
        await send.enqueue_many_alone(database, [send.call(2), send.call(3)])

    run(url, body)
    assert sql("SELECT arguments->>'receipt' FROM workhorse.jobs ORDER BY seq") == [("1",), ("2",), ("3",)]


def test_arguments_that_do_not_fit_are_refused_where_they_are_given() -> None:
    wrong: Any = send.call
    cases: list[tuple[tuple[object, ...], dict[str, object], type[Exception]]] = [
        (("seven",), {}, ValueError),
        ((), {}, TypeError),
        ((1, "post", 2), {}, TypeError),
        ((1,), {"by": 5}, ValueError),
        ((1,), {"to": "x"}, TypeError),
        ((1,), {"by": "x" * 70_000}, ValueError),
        ((1,), {"by": "a\0b"}, ValueError),
    ]
    for arguments, named, error in cases:
        with pytest.raises(error, match="'send'"):
            wrong(*arguments, **named)


def test_rich_arguments_come_back_as_what_they_were() -> None:
    now = datetime.now(UTC)
    encoded = book.call(Receipt(1, Decimal("10.50")), now).arguments
    assert book.read(1, encoded.decode()) == {"receipt": Receipt(1, Decimal("10.50")), "when": now}


def test_a_function_whose_arguments_cannot_be_known_is_no_job() -> None:
    def bare(number) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    def many(*numbers: int) -> None: ...

    def odd(numbers: list[int] | set[int]) -> None: ...

    wrong: Any = job()
    for function, reason in [(bare, "no annotation"), (many, "no name of its own"), (odd, "JSON")]:
        with pytest.raises(TypeError, match=reason):
            wrong(function)


def test_options_say_when_and_where(url: str, sql: Sql) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)

    async def body(database: PostgresDatabase) -> None:
        async with Unit(database):
            await send.options(delay=timedelta(minutes=5), queue="mail", priority=-1).enqueue(1)
            await send.options(at=at).enqueue(2)
            await send.options(at=datetime.now(UTC) - timedelta(hours=1)).enqueue(3)

    run(url, body)
    rows = sql("SELECT queue, priority, state::text, run_at, run_at - enqueued_at FROM workhorse.jobs ORDER BY seq")
    assert [row[:3] for row in rows] == [("mail", -1, "delayed"), ("default", 2, "delayed"), ("default", 2, "ready")]
    assert rows[0][4] == timedelta(minutes=5)
    assert rows[1][3] == at


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - the very thing that is refused
        ({"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": timedelta(1)}, "one of them"),
        ({"queue": "No Queue"}, "no name"),
        ({"priority": 40_000}, "not within"),
        ({"key": ""}, "printable"),
        ({"unique": "a\nb"}, "printable"),
        ({"unique_window": timedelta(1)}, "unique="),
        ({"unique": "u", "unique_window": timedelta(0)}, "above 0"),
        ({"unique": "u", "unique_window": timedelta.max}, "36525 days"),  # would fail at the commit
        ({"delay": timedelta.max}, "36525 days"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        send.options(**options)


def test_a_job_knows_who_enqueued_it_and_none_of_his_scopes(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        request = RequestContext()
        request.trace_id = b"a" * 32
        request.principal = Principal(
            subject="alice", issuer="https://id", kind=Kind.TOKEN, tenant="t", scopes=frozenset({"all"})
        )
        CURRENT.set(request)
        async with Unit(database):
            await send.enqueue(1)

    run(url, body)
    assert sql("SELECT origin FROM workhorse.jobs") == [
        ({"trace": "a" * 32, "subject": "alice", "issuer": "https://id", "tenant": "t", "kind": "token"},)
    ]


def test_a_unique_job_is_written_once_and_its_conflict_costs_the_unit_nothing(url: str, sql: Sql) -> None:
    once = send.options(unique="receipt 1")

    async def body(database: PostgresDatabase) -> None:
        async def enqueue(number: int) -> None:
            async with Unit(database) as work:
                await work.execute("INSERT INTO effects (what) VALUES (%s)", (str(number),))
                await once.enqueue(number)
                await once.enqueue(number)
                await send.enqueue(100 + number)

        await asyncio.gather(*(enqueue(number) for number in range(12)))

    run(url, body)
    assert sql("SELECT count(*) FROM workhorse.jobs WHERE (arguments->>'receipt')::int < 100") == [(1,)]
    assert sql("SELECT count(*) FROM workhorse.jobs WHERE (arguments->>'receipt')::int >= 100") == [(12,)]
    assert sql("SELECT count(*) FROM effects") == [(12,)]


def test_a_unique_key_holds_for_its_window_and_no_longer(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        short = send.options(unique="x", unique_window=timedelta(seconds=0.3))
        await short.enqueue_alone(database, 1)
        await short.enqueue_alone(database, 2)
        await asyncio.sleep(0.4)
        await short.enqueue_alone(database, 3)

    run(url, body)
    assert sql("SELECT arguments->>'receipt' FROM workhorse.jobs ORDER BY seq") == [("1",), ("3",)]


def test_units_that_see_the_past_only_enqueue_all_the_same(url: str, sql: Sql) -> None:
    async def body(database: PostgresDatabase) -> None:
        async with Unit(database, isolation="serializable"):
            await send.enqueue(1)
            await send.options(key="k").enqueue(2)

    run(url, body)
    assert sql("SELECT state::text FROM workhorse.jobs ORDER BY seq") == [("ready",), ("waiting",)]
    assert sql("SELECT workhorse.mend_job_lanes(10)") == [(1,)]
    assert sql("SELECT state::text FROM workhorse.jobs ORDER BY seq") == [("ready",), ("ready",)]
