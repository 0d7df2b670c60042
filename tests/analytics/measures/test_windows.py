"""Windows of several lengths, and windows that are kept for some time."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.analytics.measures.kit import drain, run
from tests.units.databases import Sql
from workhorse.analytics.measures import Measure, Measures, Row, forget_version
from workhorse.feeds import FeedReader, Recorded
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit, Work

ORDERS = Measure(
    "orders",
    of="order.placed",
    by=("shop",),
    window=("1 minute", "1 hour", "1 day"),
    keep=("4 days", "30 days", None),
    sum="amount",
    distinct="customer",
    quantiles="amount",
    top="customer",
)
MEASURES = Measures([ORDERS])
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def order(sql: Sql, at: datetime, amount: str = "1.50", customer: str = "ann") -> None:
    sql(
        "INSERT INTO workhorse.events (id, occurred_at, type, subject, data) VALUES (gen_random_uuid(), %s,"
        " 'order.placed', 's', jsonb_build_object('shop', 'a', 'amount', %s::text, 'customer', %s::text))",
        at,
        amount,
        customer,
    )


async def rows(database: Any, measures: Measures = MEASURES, **asked: Any) -> list[Row]:
    async with Unit(database) as work:
        return await measures.read(work, "orders", **asked)


def windows_of(sql: Sql) -> dict[str, int]:
    return dict(sql("SELECT measure, count(*) FROM workhorse.measures GROUP BY 1"))


def test_a_year_is_read_from_its_days_and_says_what_its_minutes_say(database_url: str) -> None:
    fine = Measures([replace(ORDERS, window="1 minute", keep=None, version=2)])

    async def script(database: Any, sql: Sql) -> None:
        for hours in range(0, 40, 3):
            order(sql, TODAY - timedelta(hours=hours), f"{hours}.50", customer=f"c{hours % 4}")
        for measures in (MEASURES, fine):
            await drain(database, measures)
        assert windows_of(sql) == {"orders": 14 + 14, "orders@3600": 14, "orders@86400": 3}
        for asked in ({"window": "1 day"}, {"window": "2 days", "by": []}, {"window": "2 hours", "since": TODAY}):
            assert await rows(database, **asked) == await rows(database, fine, **asked)
        # Days alone are left: so it is they that are read.
        sql("DELETE FROM workhorse.measures WHERE measure IN ('orders', 'orders@3600')")
        assert sum(row.events for row in await rows(database, window="1 day")) == 14
        assert await rows(database, window="1 hour") == []

    run(database_url, script)


def test_a_time_within_a_day_is_not_answered_with_the_whole_day(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        order(sql, TODAY - timedelta(hours=20))
        order(sql, TODAY - timedelta(hours=10), "2.00")
        await drain(database, MEASURES)
        (row,) = await rows(database, window="1 day", since=TODAY - timedelta(hours=12))
        assert (row.events, row.sum) == (1, Decimal("2.00"))
        (row,) = await rows(database, window="1 day", until=TODAY - timedelta(hours=12))
        assert (row.events, row.sum) == (1, Decimal("1.50"))

    run(database_url, script)


def test_what_is_too_old_goes_and_an_event_that_comes_later_does_not_bring_half_of_it_back(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        old, recent = TODAY - timedelta(days=5), TODAY - timedelta(hours=1)
        forever = Measures([Measure("orders", of="order.placed", by=("shop",), window="1 minute", sum="amount")])
        order(sql, old)
        order(sql, recent)
        await drain(database, forever)  # which had counted it while it was not old
        assert windows_of(sql) == {"orders": 2}
        order(sql, old, "7.00")
        await drain(database, MEASURES)
        wider = {"orders@3600": 1, "orders@86400": 1}
        assert windows_of(sql) == {"orders": 1, **wider}, "hours are kept for longer"
        assert [row.starts for row in await rows(database)] == [recent]
        order(sql, old, "9.00")
        await drain(database, MEASURES)
        assert windows_of(sql) == {"orders": 1, **wider}
        assert [row.sum for row in await rows(database, window="1 hour")] == [Decimal("16.00")]

    run(database_url, script)


def test_events_of_windows_that_are_gone_are_counted_once_they_are_left_out_and_logged_once_a_minute(
    database_url: str, tmp_path: Path
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        metrics, (feed,) = Registry(None), MEASURES.feeds
        with (tmp_path / "log").open("wb") as stream:
            log = Log(stream.fileno())
            log.start()
            failing = True

            async def counting(work: Work, events: Sequence[Recorded]) -> None:
                await feed.handler(work, events)
                if failing:
                    raise RuntimeError("after it was counted")

            reader = FeedReader(database, replace(feed, handler=counting), log=log, metrics=metrics)
            for days in (5, 5, 40, 0):
                order(sql, TODAY - timedelta(days=days))
            with pytest.raises(RuntimeError):
                await reader.drain()
            assert b"workhorse_measure_late_total{" not in metrics.render(), "nothing is left out before the commit"
            failing = False
            assert await reader.drain() == 4
            order(sql, TODAY - timedelta(days=5))
            assert await reader.drain() == 1
            log.close()
        told = metrics.render().decode()
        assert 'workhorse_measure_late_total{measure="orders",window="60"} 4' in told
        assert 'workhorse_measure_late_total{measure="orders",window="3600"} 1' in told
        assert 'window="86400"' not in told
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [(line["event"], line["window_seconds"], line["left_out"]) for line in lines] == [
            ("measure.late", 60, 3),
            ("measure.late", 3600, 1),
        ]

    run(database_url, script)


def test_what_is_too_old_is_not_read_even_before_it_is_deleted(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        forever = Measures([Measure("orders", of="order.placed", by=("shop",), sum="amount")])
        order(sql, TODAY - timedelta(days=5))
        await drain(database, forever)
        assert len(await rows(database, forever)) == 1
        assert await rows(database) == []

    run(database_url, script)


def test_an_old_version_is_forgotten_with_its_wider_windows(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        order(sql, TODAY)
        await drain(database, MEASURES)
        assert await forget_version(database, "orders", 1) == 3
        assert windows_of(sql) == {}

    run(database_url, script)
