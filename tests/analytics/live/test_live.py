"""What those who watch are told: first all there is, then what has changed, whichever process they come to."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from tests.analytics.live.watchers import MEASURES, Shop, Watcher, in_a_shop
from workhorse.analytics.live import Live
from workhorse.analytics.measures import Measure, Measures
from workhorse.errors import SettingsError
from workhorse.feeds import FeedReader
from workhorse.units import Unit


def test_first_all_is_told_and_then_what_changes(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("0.10", "0.20")
        await shop.order("7", currency="JPY")
        watcher = Watcher(shop.live().stream("revenue"))
        first = await watcher.event(0)
        assert watcher.status == 200
        assert watcher.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert (first.kind, first.rows()) == ("snapshot", [("EUR", 2, "0.30"), ("JPY", 1, "7")])
        assert first.data["revenue"]["window"] == 86_400
        (row,) = (row for row in first.data["revenue"]["rows"] if row["events"] == 2)
        assert row["starts"].endswith(":00Z")
        assert row["average"].startswith("0.15")
        await shop.order("1.70")
        second = await watcher.event(1)
        assert (second.kind, second.rows()) == ("change", [("EUR", 3, "2.00")])
        assert second.id != first.id
        await watcher.leave()

    in_a_shop(database_url, script)


def test_several_measures_are_told_of_in_one_stream_each_with_its_own_changes(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        watcher = Watcher(shop.live().stream("revenue", "visits"))
        assert {name: len(part["rows"]) for name, part in (await watcher.event(0)).data.items()} == {
            "revenue": 1,
            "visits": 0,
        }
        await shop.visit()
        change = await watcher.event(1)
        assert list(change.data) == ["visits"]
        assert change.rows("visits") == [(None, 1, None)]
        again = Watcher(shop.live().stream("revenue", "visits"), last=change.id)
        await shop.order("2")
        assert list((await again.event(0)).data) == ["revenue"]
        await watcher.leave()
        await again.leave()

    in_a_shop(database_url, script)


def test_summaries_of_many_values_are_told_as_what_they_say(database_url: str) -> None:
    measures = Measures(
        [Measure("visits", of="visit.begun", by=("site",), distinct="visitor", quantiles="ms", top="page")]
    )

    async def script(shop: Shop) -> None:
        async with Unit(shop.database) as work:
            for visitor, ms, page in (("ann", 10, "/"), ("bob", 20, "/"), ("ann", 1000, "/a")):
                await work.emit("visit.begun", subject="s", data={"visitor": visitor, "ms": ms, "page": page})
        await FeedReader(shop.database, *measures.feeds).drain()
        live = Live(measures, tick_seconds=0.02)
        live.bind(shop.database)
        watcher = Watcher(live.stream("visits"))
        (row,) = (await watcher.event(0)).data["visits"]["rows"]
        assert (row["events"], row["distinct"], row["top"], row["top_error"]) == (3, 2, [["/", 2], ["/a", 1]], 0)
        assert row["quantiles"] == {
            "0.5": pytest.approx(20, rel=0.0101),
            "0.9": pytest.approx(20, rel=0.0101),
            "0.99": pytest.approx(20, rel=0.0101),
        }, "the value of the rank floor(share * 2)"
        await watcher.leave()

    in_a_shop(database_url, script)


@pytest.mark.parametrize("by", ["last", "query"])
def test_who_comes_again_at_another_process_is_told_what_has_changed_since(database_url: str, by: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        await shop.order("1", currency="USD")
        watcher = Watcher(shop.live().stream("revenue"))
        first = await watcher.event(0)
        await watcher.leave()
        await shop.order("2")
        await shop.order("3")
        again = Watcher(shop.live().stream("revenue"), **{by: first.id})
        missed = await again.event(0)
        assert (missed.kind, missed.rows()) == ("change", [("EUR", 3, "6")])
        third = Watcher(shop.live().stream("revenue"), last=missed.id)
        await shop.order("4", currency="USD")
        assert (await third.event(0)).rows() == [("USD", 2, "5")]
        await again.leave()
        await third.leave()

    in_a_shop(database_url, script)


@pytest.mark.parametrize("position", ["nonsense", "1.1", "begun.999999", "_"])
def test_who_comes_with_a_position_that_is_none_is_told_all(database_url: str, position: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        ((began,),) = shop.sql(
            "SELECT (extract(epoch FROM began_at) * 1000)::bigint::text FROM workhorse.feeds"
            " WHERE name = 'measure.revenue.1'"
        )
        watcher = Watcher(shop.live().stream("revenue"), last=position.replace("begun", began))
        assert (await watcher.event(0)).kind == "snapshot"
        await watcher.leave()

    in_a_shop(database_url, script)


def test_who_comes_from_a_process_that_is_ahead_is_not_told_old_figures(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        behind = shop.live(tick_seconds=1.5).stream("revenue")
        watcher = Watcher(behind)
        await watcher.event(0)
        await shop.order("2")
        ahead = Watcher(shop.live().stream("revenue"))
        newest = await ahead.event(0)
        assert newest.rows() == [("EUR", 2, "3")]
        await ahead.leave()
        again = Watcher(behind, last=newest.id)
        await watcher.event(1)  # this process has looked again
        await asyncio.sleep(0.1)
        assert again.events == []
        await watcher.leave()
        await again.leave()

    in_a_shop(database_url, script)


def test_a_measure_that_is_counted_anew_is_told_whole(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        watcher = Watcher(shop.live().stream("revenue"))
        await watcher.event(0)
        shop.sql("DELETE FROM workhorse.measures")
        (feed, _) = MEASURES.feeds
        await FeedReader(shop.database, feed).restart("now")
        await shop.order("5")
        await watcher.until(lambda: watcher.events[-1].rows() == [("EUR", 1, "5")])
        assert "snapshot" in [event.kind for event in watcher.events[1:]]
        await watcher.leave()

    in_a_shop(database_url, script)


def test_a_measure_that_nobody_has_counted_yet_is_shown_once_it_is(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        watcher = Watcher(shop.live().stream("revenue"))
        assert (await watcher.event(0)).rows() == []
        await shop.order("1")
        await watcher.until(lambda: watcher.events[-1].rows() == [("EUR", 1, "1")])
        await watcher.leave()

    in_a_shop(database_url, script)


def test_a_change_by_the_version_before_is_told_too(database_url: str) -> None:
    """It knows no revisions: a trigger sets them."""

    async def script(shop: Shop) -> None:
        await shop.order("1")
        watcher = Watcher(shop.live().stream("revenue"))
        await watcher.event(0)
        shop.sql(
            "WITH counted AS (UPDATE workhorse.measures SET events = events + 1, summed = summed + 1 RETURNING 1)"
            " UPDATE workhorse.feeds SET events = events + (SELECT count(*) FROM counted)"
            " WHERE name = 'measure.revenue.1'"
        )
        assert (await watcher.event(1)).rows() == [("EUR", 2, "2")]
        await watcher.leave()

    in_a_shop(database_url, script)


def test_two_hundred_watch_at_the_cost_of_one_look_a_tick(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        live = shop.live(tick_seconds=0.1)
        loop = asyncio.get_running_loop()
        began, asked = loop.time(), shop.counting.asked
        watchers = [Watcher(live.stream("revenue")) for _ in range(200)]
        for watcher in watchers:
            await watcher.event(0)
        for number in range(1, 4):
            await shop.order("1")
            for watcher in watchers:
                await watcher.event(number)
        ticks = (loop.time() - began) / 0.1
        assert 4 <= shop.counting.asked - asked <= ticks + 2
        assert {watcher.events[-1].rows()[0] for watcher in watchers} == {("EUR", 4, "4")}
        for watcher in watchers:
            await watcher.leave()
        await asyncio.sleep(0.3)
        asked = shop.counting.asked
        await asyncio.sleep(0.3)
        assert shop.counting.asked == asked, "nobody watches, so nobody asks"

    in_a_shop(database_url, script)


def test_who_reads_slowly_is_told_the_newest_state_once_and_nothing_is_kept_for_them(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        live = shop.live()
        slow, quick = Watcher(live.stream("revenue")), Watcher(live.stream("revenue"))
        await slow.event(0)
        slow.taking.clear()
        for number in range(1, 31):
            await shop.order("1", currency="EUR" if number % 2 else "USD")
            await quick.event(number)
        slow.taking.set()
        await slow.until(lambda: slow.events[-1].id == quick.events[-1].id)
        assert len(slow.events) <= 3, "the one that it did not take, and the newest"
        assert slow.events[-1].rows() == [("EUR", 16, "16"), ("USD", 15, "15")]
        await slow.leave()
        await quick.leave()

    in_a_shop(database_url, script)


def test_who_does_not_read_at_all_is_cut_and_the_others_are_not(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        live = shop.live(stall_seconds=0.3)
        stalled, other = Watcher(live.stream("revenue")), Watcher(live.stream("revenue"))
        await stalled.event(0)
        await other.event(0)
        stalled.taking.clear()
        await shop.order("1")
        async with asyncio.timeout(5):
            await asyncio.wait({stalled.task})
        assert type(stalled.task.exception()).__name__ == "ClientDisconnect"
        assert repr(live).startswith("<Live 1 subscribers")
        await other.until(lambda: other.events[-1].rows() == [("EUR", 1, "1")])
        await other.leave()

    in_a_shop(database_url, script)


def test_who_leaves_leaves_nothing_behind(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        live = shop.live()
        watchers = [Watcher(live.stream("revenue")) for _ in range(20)]
        for watcher in watchers:
            await watcher.event(0)
        held = [weakref.ref(one.wake) for one in live._subscribers]
        assert len(held) == 20
        for watcher in watchers[:10]:
            await watcher.leave()
        for watcher in watchers[10:]:
            watcher.task.cancel()  # the server gives the request up
            await asyncio.wait({watcher.task})
        watchers.clear()
        del watcher
        await asyncio.sleep(0.1)
        gc.collect()
        assert [one for one in held if one() is not None] == []
        assert (live._shown, live._updates, live._looking) == ({}, {}, None)

    in_a_shop(database_url, script)


def test_more_clients_than_may_watch_are_told_to_come_later(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        live = shop.live(max_subscribers=2)
        watchers = [Watcher(live.stream("revenue")) for _ in range(2)]
        for watcher in watchers:
            await watcher.event(0)
        refused = Watcher(live.stream("revenue"))
        await refused.until(lambda: refused.ended)
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"5")
        assert b"too-many-subscribers" in refused.body
        await refused.leave()
        await watchers[0].leave()
        welcome = Watcher(live.stream("revenue"))
        await welcome.event(0)
        await welcome.leave()
        await watchers[1].leave()

    in_a_shop(database_url, script)


def test_a_stream_is_never_silent_for_long_and_ends_when_its_time_is_over(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        watcher = Watcher(shop.live(heartbeat_seconds=0.1, lifetime_seconds=1).stream("revenue"))
        await watcher.until(lambda: watcher.ended)
        assert watcher.comments >= 4
        assert [event.kind for event in watcher.events] == ["snapshot"]
        await watcher.leave()

    in_a_shop(database_url, script)


@pytest.mark.slow
def test_who_watches_is_told_that_the_database_is_away_and_keeps_what_there_is(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        await shop.order("1")
        watcher = Watcher(shop.live().stream("revenue"))
        await watcher.event(0)
        shop.counting.away = True
        assert (await watcher.event(1)).kind == "stale"
        await shop.order("2")
        shop.counting.away = False
        assert (await watcher.event(2)).rows() == [("EUR", 2, "3")]
        assert (await watcher.event(3)).kind == "fresh"
        await watcher.leave()

    in_a_shop(database_url, script)


@pytest.mark.slow
def test_who_comes_while_the_database_is_away_is_told_to_come_later(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        shop.counting.away = True
        watcher = Watcher(shop.live().stream("revenue"))
        await watcher.until(lambda: watcher.ended)
        assert watcher.status == 503
        assert b"not-live" in watcher.body
        await watcher.leave()

    in_a_shop(database_url, script)


def test_streams_end_when_the_service_does_and_nobody_new_is_let_in(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        live = shop.live()
        draining = False
        live.bind(shop.counting, draining=lambda: draining)  # type: ignore[arg-type]
        stream = live.stream("revenue")
        watcher = Watcher(stream)
        await watcher.event(0)
        draining = True
        await watcher.until(lambda: watcher.ended)
        late = Watcher(stream)
        await late.until(lambda: late.ended)
        assert (watcher.status, late.status) == (200, 503)
        draining = False
        other = Watcher(stream)
        await other.event(0)
        await live.unbind()
        assert other.ended
        await other.leave()

    in_a_shop(database_url, script)


def test_a_span_shows_no_older_windows(database_url: str) -> None:
    async def script(shop: Shop) -> None:
        for minutes in (0, 30, 90):
            shop.sql(
                "INSERT INTO workhorse.events (id, occurred_at, type, subject, data)"
                " VALUES (gen_random_uuid(), now() - %s * interval '1 minute', 'visit.begun', 's', '{}')",
                minutes,
            )
        await shop.count()
        live = shop.live()
        for span, rows in (("1 hour", 2), ("10 minutes", 1), ("1 day", 3)):
            watcher = Watcher(live.stream("visits", span=span))
            assert len((await watcher.event(0)).rows("visits")) == rows
            await watcher.leave()

    in_a_shop(database_url, script)


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("PUT", 405), ("HEAD", 200)])
def test_only_a_get_opens_a_stream(database_url: str, method: str, status: int) -> None:
    async def script(shop: Shop) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return await asyncio.Event().wait()

        scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
        await shop.live().stream("revenue")(scope, receive, send)
        assert (sent[0]["status"], sent[-1].get("more_body", False)) == (status, False)

    in_a_shop(database_url, script)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda live: live.stream("turnover"), "no measure 'turnover'"),
        (lambda live: live.stream(), "one measure or of several"),
        (lambda live: live.stream("revenue", "revenue"), "one measure or of several"),
        (lambda live: live.stream("revenue", span="a while"), "'a while'"),
        (lambda _: Live(MEASURES, tick_seconds=0), "tick_seconds=0"),
        (lambda _: Live(MEASURES, max_subscribers=-1), "max_subscribers=-1"),
    ],
    ids=["unknown", "none", "twice", "span", "tick", "subscribers"],
)
def test_what_cannot_be_streamed_is_refused(make: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        make(Live(MEASURES))
