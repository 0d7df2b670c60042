"""Tables that grow: how they are filled, and what is said of them."""

import asyncio

import psycopg
import pytest

from benchmarks.growth.filling import Grown, bytes_needed, counted, make_grown, scope_of, shares
from benchmarks.growth.probes import Forgetting, forget, retry_look_up_ms
from benchmarks.growth.report import Sized, claims, slowdown, table
from benchmarks.processes import MeasurementError

ROWS = 400


@pytest.fixture
def grown(database_url: str) -> Grown:
    return make_grown(database_url, rows=ROWS, accounts=20)


def sized(rows: int, rate: float, retry_ms: float, purge_us: float) -> Sized:
    return Sized(
        rows=rows,
        bytes=rows * 1024,
        transfers=[rate, rate * 2],
        jobs=[rate * 3, rate * 3],
        retries_ms=[retry_ms, retry_ms],
        forgetting=Forgetting(purge_us=purge_us, drop_ms=20, delete_ms=3_000),
    )


@pytest.mark.parametrize("rows", [4, 5, 6, 7, 10_000])
def test_no_row_is_left_out_of_the_shares(rows: int) -> None:
    now, last, oldest = shares(rows)
    assert now + last + oldest == rows
    assert now >= last == oldest > 0


def test_disk_is_reckoned_for_all_sizes_together() -> None:
    assert bytes_needed([1_000, 3_000]) == 4 * bytes_needed([1_000])


@pytest.mark.slow
def test_the_rows_lie_in_the_partitions_of_their_time_and_none_in_the_default_ones(grown: Grown) -> None:
    assert counted(grown.url) == (ROWS, ROWS, ROWS)
    with psycopg.connect(grown.url) as connection:
        events = connection.execute(
            "SELECT tableoid::regclass::text, count(*) FROM workhorse.events GROUP BY 1 ORDER BY 1"
        ).fetchall()
        jobs = connection.execute(
            "SELECT tableoid::regclass::text, count(*) FROM workhorse.finished_jobs GROUP BY 1 ORDER BY 1"
        ).fetchall()
        versions = connection.execute("SELECT DISTINCT uuid_extract_version(id) FROM workhorse.events").fetchall()
        late = connection.execute("SELECT count(*) FROM workhorse.events WHERE occurred_at > now()").fetchone()
    assert [count for _, count in events] == [count for _, count in jobs] == [100, 100, 200]
    assert not any(name.endswith(("_rest", "_other")) for name, _ in (*events, *jobs))
    assert versions == [(7,)]
    assert late == (0,)


@pytest.mark.slow
def test_a_retried_key_finds_the_reply_of_its_number(grown: Grown) -> None:
    assert asyncio.run(retry_look_up_ms(grown, look_ups=5)) > 0
    with psycopg.connect(grown.url) as connection:
        connection.execute("DELETE FROM workhorse.replies WHERE scope <> %s", (scope_of(1),))
    with pytest.raises(MeasurementError, match="no reply is kept"):
        asyncio.run(retry_look_up_ms(grown, look_ups=5))


@pytest.mark.slow
def test_a_quarter_of_the_rows_goes_in_each_way_of_forgetting(grown: Grown) -> None:
    forgotten = asyncio.run(forget(grown))
    assert min(forgotten.purge_us, forgotten.drop_ms, forgotten.delete_ms) > 0
    events, replies, jobs = counted(grown.url)
    assert (events, jobs) == (ROWS // 2, ROWS // 2)
    assert ROWS * 3 // 4 - 1 <= replies <= ROWS * 3 // 4


def test_a_slowdown_is_the_median_of_the_rounds_own_ratios() -> None:
    assert slowdown([10, 30, 80], [10, 10, 20]) == 3


def test_the_table_tells_each_size_beside_the_smallest() -> None:
    heading, small, large = table([sized(10_000, 1000, 0.5, 10), sized(1_000_000, 800, 1.0, 40)]).splitlines()
    assert len({len(heading), len(small), len(large)}) == 1
    assert small.split() == [
        *("10,000", "10", "MB", "1,500", "1.00", "3,000", "1.00", "0.50", "1.00", "10", "1.00", "20", "3,000")
    ]
    assert large.split() == [
        *("1,000,000", "977", "MB", "1,200", "0.80", "2,400", "0.80", "1.00", "0.50", "40", "0.25", "20", "3,000")
    ]


def test_what_becomes_worse_by_more_than_a_fifth_falls_short() -> None:
    made = claims([sized(10_000, 1000, 0.5, 10), sized(1_000_000, 900, 1.0, 11)])
    assert {claim.name: (round(claim.value, 3), claim.holds) for claim in made} == {
        "growth.transfers_times_worse": (1.111, True),
        "growth.jobs_times_worse": (1.111, True),
        "growth.retry_look_up_times_worse": (2.0, False),
        "growth.purge_times_worse": (1.1, True),
    }
