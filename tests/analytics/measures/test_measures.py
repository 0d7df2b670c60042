"""Measures are exact: each is held against a query over the journal, whatever commits late, fails or is killed."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.measures.kit import REVENUE, drain, post, run
from tests.units.databases import Sql
from workhorse.analytics.measures import Measure, Measures, forget_version
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, FeedReader
from workhorse.units import Unit

MEASURES = Measures([REVENUE])
# What REVENUE says in words of SQL, over the journal alone.
DIRECT = """
    SELECT data->>'currency', count(*), sum((data->>'amount')::numeric), min((data->>'amount')::numeric),
           max((data->>'amount')::numeric)
      FROM workhorse.events WHERE type = 'transfer.posted' GROUP BY 1 ORDER BY 1
"""


async def rows(database: Any, *, measures: Measures = MEASURES, **asked: Any) -> list[Any]:
    async with Unit(database) as work:
        return await measures.read(work, "revenue", **asked)


def test_what_was_counted_is_what_the_journal_has(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await post(database, "0.10", "0.20", 7)
        await post(database, "100000000000000000000.01", currency="JPY", country="JP")
        await drain(database, MEASURES)
        await post(database, "-1.005")
        await drain(database, MEASURES)
        total = await rows(database, by=["currency"], window="1 day")
        assert [(row.by, row.events, row.sum, row.min, row.max) for row in total] == [
            ({"currency": "EUR"}, 4, Decimal("6.295"), Decimal("-1.005"), Decimal(7)),
            ({"currency": "JPY"}, 1, *[Decimal("100000000000000000000.01")] * 3),
        ]
        assert total[0].average == Decimal("6.295") / 4
        (everything,) = await rows(database, by=[], window="1 day")
        assert everything.events == 5
        assert [row.by for row in await rows(database, only={"currency": "JPY"})] == [
            {"currency": "JPY", "debtor.country": "JP"}
        ]
        assert [(c, n, s) for c, n, s, _, _ in sql(DIRECT)] == [(r.by["currency"], r.events, r.sum) for r in total]

    run(database_url, script)


def test_what_is_no_number_is_rejected_and_told(database_url: str) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        odd: list[Any] = ["12,50", "", None, True, [1], {"a": 1}, "1e9", "NaN", "0x10", "9" * 200]
        await post(database, *odd, "1.50")
        await drain(database, MEASURES)
        (row,) = await rows(database)
        assert (row.events, row.rejected, row.sum) == (11, 10, Decimal("1.50"))

    run(database_url, script)


def test_a_late_event_belongs_to_the_window_in_which_it_happened(database_url: str) -> None:
    moment = datetime(2026, 3, 1, 10, 0, 59, tzinfo=UTC)

    async def script(database: Any, sql: Sql) -> None:
        for at in (moment, moment + timedelta(seconds=1), moment - timedelta(seconds=59)):
            sql(
                "INSERT INTO workhorse.events (id, occurred_at, type, subject, data)"
                " VALUES (gen_random_uuid(), %s, 'transfer.posted', 't', '{\"amount\": 1}')",
                at,
            )
            await drain(database, MEASURES)
        found = await rows(database, by=[])
        assert [(row.starts, row.events) for row in found] == [
            (moment.replace(second=0), 2),
            (moment.replace(minute=1, second=0), 1),
        ]
        assert [row.by for row in await rows(database)] == [{"currency": None, "debtor.country": None}] * 2
        (hour,) = await rows(database, by=[], window="1 hour", since=moment.replace(minute=0, second=0))
        assert (hour.events, hour.sum) == (3, 3)

    run(database_url, script)


def test_a_new_version_is_counted_from_the_beginning_beside_the_old_one(database_url: str) -> None:
    newer = Measures([Measure("revenue", of="transfer.posted", by=("currency",), sum="amount", version=2)])

    async def script(database: Any, sql: Sql) -> None:
        await post(database, 1, 2)
        await drain(database, MEASURES)
        await drain(database, newer)
        await post(database, 3)
        await drain(database, MEASURES)
        assert [row.sum for row in await rows(database, by=[], window="1 day")] == [6]
        assert [row.sum for row in await rows(database, measures=newer, window="1 day")] == [3]
        assert await forget_version(database, "revenue", 1) > 0
        await drain(database, newer)
        assert [row.sum for row in await rows(database, measures=newer, window="1 day")] == [6]
        assert sql("SELECT name FROM workhorse.feeds") == [("measure.revenue.2",)]

    run(database_url, script)


@pytest.mark.slow
def test_after_any_order_of_commits_aborts_and_deaths_nothing_differs(database_url: str) -> None:
    steps = st.lists(
        st.one_of(
            st.tuples(st.just("commit"), st.lists(st.decimals(-1000, 1000, places=2), max_size=4)),
            st.tuples(st.just("abort"), st.lists(st.decimals(-1000, 1000, places=2), max_size=3)),
            st.tuples(st.sampled_from(["begin slow", "end slow", "fold", "fold and die"]), st.just([])),
        ),
        max_size=14,
    )

    async def script(database: Any, sql: Sql) -> None:
        loop = asyncio.get_running_loop()

        async def play(todo: list[tuple[str, list[Decimal]]]) -> None:
            slow: list[Any] = []
            for step, amounts in todo:
                if step == "commit":
                    await post(database, *map(str, amounts))
                elif step == "abort":
                    await abort(database, amounts)
                elif step == "begin slow":
                    unit = Unit(database)
                    work = await unit.__aenter__()
                    await work.emit("transfer.posted", subject="slow", data={"amount": "0.01", "currency": "EUR"})
                    await work.execute("SELECT pg_current_xact_id()")
                    slow.append(unit)
                elif step == "end slow" and slow:
                    await slow.pop(0).__aexit__(None, None, None)
                elif step == "fold":
                    await drain(database, MEASURES)
                elif step == "fold and die":
                    await die_in_the_fold(database)
            for unit in slow:
                await unit.__aexit__(None, None, None)
            await drain(database, MEASURES)
            found = await rows(database, by=["currency"], window="366 days")
            assert [(r.by["currency"], r.events, r.sum, r.min, r.max) for r in found] == sql(DIRECT)
            sql("TRUNCATE workhorse.events, workhorse.measures")

        @given(steps)
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        def law(todo: list[tuple[str, list[Decimal]]]) -> None:
            asyncio.run_coroutine_threadsafe(play(todo), loop).result(60)

        await asyncio.to_thread(law)

    run(database_url, script)


class Given(Exception):
    """Given up."""


async def abort(database: Any, amounts: list[Decimal]) -> None:
    with suppress(Given):
        async with Unit(database) as work:
            for amount in amounts:
                await work.emit("transfer.posted", subject="t", data={"amount": str(amount), "currency": "EUR"})
            raise Given


async def die_in_the_fold(database: Any, measures: Measures = MEASURES) -> None:
    """The reader is ended after it has counted, before it has committed."""
    (feed,) = measures.feeds

    async def dying(work: Any, events: Any) -> None:
        await feed.handler(work, events)
        raise Given

    with suppress(Given):
        await FeedReader(database, Feed(feed.name, dying, types=feed.types)).drain()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "Revenue"}, "'Revenue'"),
        ({"window": "a minute"}, "'15 minutes'"),
        ({"window": "400 days"}, "a year is the longest"),
        ({"sum": "amount; DROP"}, "'debtor.country'"),
        ({"by": ("a", "a")}, "different paths"),
        ({"by": tuple("abcdefghi")}, "at most 8"),
        ({"version": 0}, "from 1 on"),
        ({"distinct": "a b"}, "'debtor.country'"),
        ({"window": ()}, "1 to 4"),
        ({"window": ("1 minute", "90 seconds")}, "a multiple of the one before"),
        ({"window": ("1 hour", "1 minute")}, "a multiple of the one before"),
        ({"keep": "3 months"}, "keep='3 months'"),
        ({"keep": "30 seconds"}, "less than a window"),
        ({"keep": ("1 day", None)}, "one for each"),
        ({"keep": "99999 days"}, "36600 days"),
    ],
)
def test_a_malformed_measure_is_refused_by_the_value_to_change(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Measure(**{"name": "revenue", "of": "transfer.posted", **values})


def test_two_measures_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="two measures 'revenue'"):
        Measures([REVENUE, REVENUE])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"window": "90 seconds"}, "no multiple"),
        ({"by": ["country"]}, "does not tell country apart"),
        ({"only": {"x": 1}}, "does not tell x apart"),
        ({"since": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - what is refused
        ({"at_most": 0}, "between 1 and"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], told: str) -> None:
    work: Any = None  # it is not asked
    with pytest.raises(ValueError, match=told):
        asyncio.run(MEASURES.read(work, "revenue", **asked))
