"""Summaries of many values: each within the error that its row tells, whatever is put together in whatever order."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.measures.kit import drain, run
from tests.analytics.measures.test_measures import die_in_the_fold
from tests.units.databases import Sql
from workhorse.analytics.measures import Measure, Measures, Row
from workhorse.units import Unit

VISITS = Measures([Measure("visits", of="page.read", by=("site",), distinct="visitor", quantiles="ms", top="page")])
SHARES = [0.0, 0.5, 0.9, 0.99, 1.0]
MOMENT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


async def visit(database: Any, *visits: tuple[Any, Any, Any], site: str = "a") -> None:
    async with Unit(database) as work:
        for visitor, ms, page in visits:
            data = {"visitor": visitor, "ms": ms, "page": page, "site": site}
            await work.emit("page.read", subject="s", data=data)


async def rows(database: Any, measures: Measures = VISITS, **asked: Any) -> list[Row]:
    async with Unit(database) as work:
        return await measures.read(work, "visits", **{"window": "366 days", "quantiles": SHARES, **asked})


def exact(values: Sequence[Decimal], share: float) -> Decimal:
    """The value of that rank, as the paper counts ranks."""
    return sorted(values)[math.floor(Fraction(share) * (len(values) - 1))]


def test_few_values_are_told_exactly(database_url: str) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        await visit(database, ("ann", 10, "/"), ("bob", "20.5", "/"), ("ann", 30, "/a"), (7, 0, None), ("7", -5, "/"))
        await visit(database, ("ann", 1, "/b"), site="b")
        await drain(database, VISITS)
        first, second = await rows(database)
        assert (first.by, first.distinct, first.distinct_error, first.rejected) == ({"site": "a"}, 3, 0, 0)
        assert (first.top, first.top_error) == ([("/", 3), ("/a", 1)], 0)
        assert second.distinct == 1
        (both,) = await rows(database, by=[], top=1, quantiles=[0, *SHARES[1:]])
        assert (both.events, both.distinct, both.top) == (6, 3, [("/", 3)])
        for share, wanted in zip(SHARES, [-5, 1, 20.5, 20.5, 30], strict=True):
            found = both.quantiles[share]
            assert found is not None
            assert abs(found - wanted) <= abs(wanted) * 0.0101

    run(database_url, script)


def test_what_has_no_value_is_told_so(database_url: str) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        await visit(database, (None, None, None), (None, "fast", None))
        await drain(database, VISITS)
        (row,) = await rows(database)
        assert (row.events, row.rejected, row.distinct, row.top) == (2, 2, 0, [])
        assert row.quantiles == dict.fromkeys(SHARES)

    run(database_url, script)


def test_a_measure_without_them_has_none(database_url: str) -> None:
    plain = Measures([Measure("visits", of="page.read")])

    async def script(database: Any, _sql: Sql) -> None:
        await visit(database, ("ann", 1, "/"))
        await drain(database, plain)
        (row,) = await rows(database, plain)
        assert (row.events, row.distinct, row.quantiles, row.top) == (1, None, {}, ())

    run(database_url, script)


def test_of_many_different_values_the_number_is_within_five_standard_errors(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        # Windows that overlap in their values, as days do in their visitors.
        for day in range(3):
            sql(
                "INSERT INTO workhorse.events (id, occurred_at, type, subject, data)"
                " SELECT gen_random_uuid(), %s, 'page.read', 's',"
                " jsonb_build_object('visitor', n, 'ms', 1, 'page', 'p' || n %% 1000)"
                " FROM generate_series(%s::int, %s::int) AS n",
                MOMENT + timedelta(days=day),
                day * 2_000,
                day * 2_000 + 3_999,
            )
        await drain(database, VISITS)
        (row,) = await rows(database)
        assert row.distinct_error == pytest.approx(0.0313, abs=0.0001)
        assert row.distinct is not None
        assert abs(row.distinct - 8_000) < 5 * row.distinct_error * 8_000
        # A thousand pages, each read twelve times: none is frequent, and what is missing is bounded.
        assert 0 < row.top_error <= 12_000 / 257 + 1
        assert all(one.events <= 12 <= one.events + row.top_error for one in row.top)
        days = await rows(database, window="1 day")
        assert all(day.distinct is not None and abs(day.distinct - 4_000) < 5 * 0.0313 * 4_000 for day in days)

    run(database_url, script)


def test_what_a_death_undid_is_counted_once(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await visit(database, ("ann", 10, "/"))
        await drain(database, VISITS)
        await visit(database, ("bob", 20, "/"))
        await die_in_the_fold(database, VISITS)
        await drain(database, VISITS)
        assert sql("SELECT cardinality(distinct_hashes), top FROM workhorse.measures") == [
            (2, {"counts": {"/": 2}, "dropped": 0})
        ]
        assert sql("SELECT sum(value::int) FROM workhorse.measures, jsonb_each_text(quantiles)") == [(2,)]

    run(database_url, script)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"quantiles": [99]}, "from 0 to 1"),
        ({"quantiles": [0.5] * 101}, "up to 100"),
        ({"top": 0}, "between 1 and 256"),
        ({"top": 257}, "between 1 and 256"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], told: str) -> None:
    work: Any = None  # it is not asked
    with pytest.raises(ValueError, match=told):
        asyncio.run(VISITS.read(work, "visits", **asked))


values = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6)


def test_ranked_values_are_at_most_one_percent_off(database_url: str) -> None:
    def script(_database: Any, sql: Sql) -> Any:
        @given(st.lists(values, min_size=1, max_size=60), st.integers(0, 60))
        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        def law(ranked: list[Decimal], cut: int) -> None:
            counted = "workhorse.counted(ARRAY(SELECT workhorse.measured_bucket(v)::text FROM unnest(%s::numeric[]) v))"
            query = f"SELECT workhorse.estimated_quantiles(workhorse.added_counts({counted}, {counted}), %s::float8[])"
            ((found,),) = sql(query, ranked[:cut], ranked[cut:], SHARES)
            for share, one in zip(SHARES, found, strict=True):
                wanted = exact(ranked, share)
                assert abs(Decimal(one) - wanted) <= abs(wanted) * Decimal("0.0100001")
            assert all(one <= other for one, other in pairwise(found))

        return asyncio.to_thread(law)

    run(database_url, script)


def test_however_pages_are_cut_the_error_is_within_what_is_told(database_url: str) -> None:
    named = st.lists(st.integers(0, 400).map(lambda n: f"p{n * n % 397}"), max_size=900)

    def script(_database: Any, sql: Sql) -> Any:
        @given(named, st.integers(1, 7))
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def law(pages: list[str], parts: int) -> None:
            state: dict[str, Any] = {"counts": {}, "dropped": 0}
            for part in range(parts):
                ((state,),) = sql(
                    "WITH page AS (SELECT workhorse.kept_top(workhorse.counted(%s::text[]), 0) AS top)"
                    " SELECT workhorse.kept_top(workhorse.added_counts(%s::jsonb -> 'counts', top -> 'counts'),"
                    " %s::bigint + (top ->> 'dropped')::bigint) FROM page",
                    pages[part::parts],
                    json.dumps(state),
                    state["dropped"],
                )
            kept, dropped = state["counts"], state["dropped"]
            assert len(kept) <= 256
            assert dropped <= len(pages) / 257
            for page, often in Counter(pages).items():
                assert kept.get(page, 0) <= often <= kept.get(page, 0) + dropped

        return asyncio.to_thread(law)

    run(database_url, script)


def test_different_values_are_the_same_state_in_any_order(database_url: str) -> None:
    hashes = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=1_500)

    def script(_database: Any, sql: Sql) -> Any:
        @given(hashes, st.integers(0, 1_500), st.integers(0, 1_500))
        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        def law(found: list[int], one: int, other: int) -> None:
            merged = (
                "workhorse.least_hashes(workhorse.least_hashes(%s::bigint[]) || workhorse.least_hashes(%s::bigint[]))"
            )
            query = f"SELECT {merged}, {merged}"
            ((first, second),) = sql(query, found[:one], found[one:], found[other:], found[:other])
            assert first == second == (sorted(set(found))[:1024] or None)

        return asyncio.to_thread(law)

    run(database_url, script)
