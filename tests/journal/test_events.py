"""An event is checked where it is emitted, commits with its unit, and is never refused for want of a partition."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.units.databases import Sql, on
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import Query
from workhorse.journal.events import MAX_DATA_BYTES, Event, EventBox, time_ordered_id
from workhorse.principal import Kind, Principal
from workhorse.sql import load_queries
from workhorse.units import Unit, Work

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="ascii",
                                                                exclude_characters="\0"), max_size=8), inner),
    max_leaves=12,
)  # fmt: skip


@dataclass
class Transfer:
    amount: Decimal
    at: datetime
    id: UUID


def run(database_url: str, script: Any) -> Any:
    return asyncio.run(on("pool", database_url, script))


def test_an_event_tells_what_happened_and_in_whose_request(database_url: str) -> None:
    request = RequestContext()
    request.request_id, request.trace_id = b"req-1", b"0af7651916cd43dd8448eb211c80319c"
    request.principal = Principal(subject="a\0na", kind=Kind.TOKEN, issuer="https://issuer.test")

    async def script(database: Any, sql: Sql) -> None:
        before = datetime.now(UTC)
        token = CURRENT.set(request)
        data = Transfer(Decimal("10.50"), datetime(2026, 1, 2, tzinfo=UTC), UUID(int=7))
        async with Unit(database) as work:
            event = await work.emit("transfer.posted", subject="account/7", data=data)
            await work.emit("transfer.noted", subject="account/7")
        CURRENT.reset(token)
        async with Unit(database) as work:
            await work.emit("day.closed", subject="2026")
        rows = sql(
            "SELECT id, type, subject, data, occurred_at, request_id, trace_id, principal"
            " FROM workhorse.events ORDER BY id"
        )
        assert rows[0][:4] == (
            event.id,
            "transfer.posted",
            "account/7",
            {"amount": "10.50", "at": "2026-01-02T00:00:00Z", "id": str(UUID(int=7))},
        )
        assert before <= rows[0][4] <= datetime.now(UTC)
        assert rows[0][4] == event.occurred_at
        assert (
            rows[0][5:] == rows[1][5:] == ("req-1", "0af7651916cd43dd8448eb211c80319c", "https://issuer.test|a\ufffdna")
        )
        assert rows[1][1:4] == ("transfer.noted", "account/7", {})
        assert rows[2][1:4] == ("day.closed", "2026", {})
        assert rows[2][5:] == (None, None, None)

    run(database_url, script)


@pytest.mark.parametrize(
    ("type_", "subject", "data", "said"),
    [
        ("Transfer", "x", {}, "dotted lower case"),
        ("transfer posted", "x", {}, "dotted lower case"),
        ("", "x", {}, "dotted lower case"),
        ("a.", "x", {}, "dotted lower case"),
        ("a\n", "x", {}, "dotted lower case"),
        ("a" * 101, "x", {}, "at most 100 characters"),
        ("a.b", "", {}, "1 to 200 printable"),
        ("a.b", "x" * 201, {}, "1 to 200 printable"),
        ("a.b", "a\0b", {}, "1 to 200 printable"),
        ("a.b", "\ud800", {}, "1 to 200 printable"),
        ("a.b", "x", [1], "no JSON object"),
        ("a.b", "x", "text", "no JSON object"),
        ("a.b", "x", {"a": object()}, "cannot be said in JSON"),
        ("a.b", "x", {"a": "\ud800"}, "cannot be said in JSON"),
        ("a.b", "x", {"a": "x\0y"}, r"U\+0000"),
        ("a.b", "x", {"x\0y": 1}, r"U\+0000"),
        ("a.b", "x", {"a": "x" * MAX_DATA_BYTES}, "at most 65536 are taken"),
    ],
)  # fmt: skip
def test_what_the_database_would_refuse_is_refused_where_it_is_emitted(
    type_: str, subject: str, data: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Event.of(type_, subject=subject, data=data)


def test_data_that_is_nested_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(ValueError, match="cannot be said in JSON"):
        Event.of("a.b", subject="x", data=endless)


def test_a_backslash_before_the_letters_of_an_escape_is_no_nul(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.emit("a.b", subject="x", data={"a": "\\u0000"})
        assert sql("SELECT data ->> 'a' FROM workhorse.events") == [("\\u0000",)]

    run(database_url, script)


@given(st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\0")), Json))
def test_whatever_json_can_say_goes_into_the_box_as_it_is(data: dict[str, Any]) -> None:
    box = EventBox()
    box.add(Event.of("a.b", subject="x", data=data))
    statement = box.drain()
    assert statement is not None
    (row,) = json.loads(str(statement.params[0]))
    assert row["data"] == data
    assert box.drain() is None


@given(st.integers(0, 2**47 * 10**6), st.integers(0, 10**15))
def test_ids_are_of_version_7_and_sort_by_their_time(nanoseconds: int, later: int) -> None:
    one, two = time_ordered_id(nanoseconds), time_ordered_id(nanoseconds + later)
    assert (one.version, one.variant) == (7, "specified in RFC 4122")
    assert one.int >> 80 == nanoseconds // 1_000_000
    if later > 300:  # the finest difference is a 4,096th of a millisecond
        assert one < two


def test_a_thousand_events_of_one_unit_are_a_few_statements(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            events = [await work.emit("a.b", subject=str(number)) for number in range(1_001)]
            assert len(work.drain()) == 1
            work._drained = False
            for event in events[1_000:]:
                await work.put(EventBox, event)
        assert sql("SELECT count(*), count(DISTINCT txid) FROM workhorse.events") == [(1_001, 1)]
        assert [subject for (subject,) in sql("SELECT subject FROM workhorse.events ORDER BY id")] == [
            str(number) for number in range(1_001)
        ]

    run(database_url, script)


def test_the_feed_by_difference_of_snapshots_loses_nothing_to_a_slow_transaction(database_url: str) -> None:
    """What the column txid is for: an event of an older transaction that commits later is still found."""
    fresh = (
        "SELECT subject FROM workhorse.events WHERE txid >= pg_snapshot_xmin(%s::pg_snapshot)"
        " AND NOT pg_visible_in_snapshot(txid, %s::pg_snapshot) ORDER BY id"
    )

    async def script(database: Any, sql: Sql) -> None:
        begin = sql("SELECT pg_current_snapshot()::text")[0][0]
        slow, _ = await database.begin()
        await slow.execute("SELECT pg_current_xact_id()")
        async with Unit(database) as work:
            await work.emit("quick.one", subject="quick")
        assert sql(fresh, begin, begin) == [("quick",)]
        seen = sql("SELECT pg_current_snapshot()::text")[0][0]
        late = Work(slow)
        await late.emit("slow.one", subject="slow")
        await slow.commit(late.drain())
        assert sql(fresh, seen, seen) == [("slow",)]

    run(database_url, script)


def event_at(moment: datetime, subject: str) -> Event:
    nanoseconds = int(moment.timestamp()) * 10**9
    return Event(
        id=time_ordered_id(nanoseconds), type="a.b", subject=subject, data=b"{}", occurred_at=moment
    )  # fmt: skip


def test_events_land_in_their_month_and_else_in_the_default_partition(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        now = datetime.now(UTC)
        async with Unit(database) as work:
            await work.emit("a.b", subject="now")
            await work.put(EventBox, event_at(now + timedelta(days=5 * 365), "far"))
            await work.put(EventBox, event_at(now - timedelta(days=400), "old"))
        places: dict[str, str] = dict(sql("SELECT subject, tableoid::regclass::text FROM workhorse.events"))
        assert places == {
            "now": f"workhorse.events_{now:%Y_%m}",
            "far": "workhorse.events_rest",
            "old": "workhorse.events_rest",
        }

    run(database_url, script)


def test_months_are_made_ahead_and_take_over_what_the_default_partition_took(database_url: str) -> None:
    queries = load_queries("workhorse.journal", "sql/queries.sql")

    async def script(database: Any, sql: Sql) -> None:
        first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        in_five = (first + timedelta(days=31 * 5 + 5)).replace(day=1)
        async with Unit(database) as work:
            for moment, subject in ((in_five, "first"), (in_five - timedelta(seconds=1), "last")):
                await work.put(EventBox, event_at(moment, subject))
        before = sql("SELECT subject, txid::text FROM workhorse.events ORDER BY id")
        assert await database.run(Query(queries["prepare_partitions"], (6,))) == [(4,)]
        assert await database.run(Query(queries["prepare_partitions"], (6,))) == [(0,)]
        assert sql("SELECT subject, txid::text FROM workhorse.events ORDER BY id") == before
        places: dict[str, str] = dict(sql("SELECT subject, tableoid::regclass::text FROM workhorse.events"))
        assert places["first"] == f"workhorse.events_{in_five:%Y_%m}"
        assert places["last"] == f"workhorse.events_{in_five - timedelta(days=1):%Y_%m}"
        assert sql("TABLE workhorse.events_rest") == []

    run(database_url, script)


def test_old_months_are_dropped_whole(database_url: str) -> None:
    queries = load_queries("workhorse.journal", "sql/queries.sql")

    async def script(database: Any, sql: Sql) -> None:
        now = datetime.now(UTC)
        async with Unit(database) as work:
            await work.emit("a.b", subject="now")
            await work.put(EventBox, event_at(now - timedelta(days=400), "old"))
        drop = queries["drop_partitions"]
        assert await database.run(Query(drop, (f"{now:%Y-%m-%d}", "[]"))) == [(0, None)]
        assert sql("SELECT subject FROM workhorse.events") == [("now",)]
        assert await database.run(Query(drop, (f"{now + timedelta(days=32):%Y-%m-%d}", "[]"))) == [(1, None)]
        assert sql("SELECT subject FROM workhorse.events") == []

    run(database_url, script)


def test_one_id_cannot_stand_twice_in_the_journal(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        event = Event.of("a.b", subject="x")

        async def twice(work: Work) -> None:
            for _ in range(2):
                await work.put(EventBox, event)

        with pytest.raises(psycopg.errors.UniqueViolation):
            await Unit.run(database, twice)

    run(database_url, script)


@pytest.mark.parametrize("time", ["infinity", "-infinity", "12026-01-01Z", "0044-03-15 BC"])
def test_a_time_that_no_reader_could_read_stops_the_writer_and_not_the_feeds(time: str, database_url: str) -> None:
    insert = "INSERT INTO workhorse.events VALUES (%s, DEFAULT, 'a.b', 'c', '{}', %s::text::timestamptz)"

    async def script(database: Any, sql: Sql) -> None:
        await database.run(Query("SELECT workhorse.prepare_event_partitions(6)"))
        now = datetime.now(UTC)
        for day in (now, now + timedelta(days=150), now + timedelta(days=3_000)):  # old, new and no partition
            with pytest.raises(psycopg.errors.CheckViolation):
                sql(insert, time_ordered_id(int(day.timestamp()) * 10**9), time)

    run(database_url, script)
