"""No month of events goes before everybody who reads them has read it."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.feeds.test_reader import emit, tally
from tests.units.databases import Sql, on
from workhorse.contracts import Query
from workhorse.feeds import Feed, FeedReader
from workhorse.sql import load_queries

DROP = load_queries("workhorse.journal", "sql/queries.sql")["drop_partitions"]


async def drop(database: Any, *required: str) -> tuple[int, str | None]:
    """Drop all months that there are."""
    before = f"{datetime.now(UTC) + timedelta(days=100):%Y-%m-%d}"
    ((dropped, held_by),) = await database.run(Query(DROP, (before, json.dumps(required))))
    return dropped, held_by


def test_a_month_that_a_feed_has_not_read_stays_until_it_has(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sql("CREATE TABLE tally (number serial PRIMARY KEY, id uuid NOT NULL, subject text NOT NULL)")
        slow, fast = FeedReader(database, Feed("slow", tally, at_most=1)), FeedReader(database, Feed("fast", tally))
        await emit(database, "1", "2")
        await fast.drain()
        await slow.turn()
        held = await drop(database)
        assert held == (0, "slow")
        assert sql("SELECT count(*) FROM workhorse.events") == [(2,)]
        await slow.drain()
        assert await drop(database) == (3, None)
        assert sql("SELECT count(*) FROM workhorse.events") == [(0,)]

    asyncio.run(on("pool", database_url, script))


def test_a_reader_that_is_required_holds_all_up_before_its_first_day(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await emit(database, "1")
        assert await drop(database, "sealer") == (0, "sealer")
        sql("INSERT INTO workhorse.feeds (name, cluster, seen, version) VALUES ('sealer', 1, '1:1:', '1')")
        assert await drop(database) == (0, "sealer"), "a position of another cluster says nothing of this one"
        sql("DELETE FROM workhorse.feeds")
        assert await drop(database) == (3, None)

    asyncio.run(on("pool", database_url, script))


def test_what_lies_in_no_month_stays_as_well(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        for name in [name for (name,) in sql("SELECT relname FROM pg_class WHERE relname ~ '^events_\\d{4}_\\d\\d$'")]:
            sql(f"DROP TABLE workhorse.{name}")
        await emit(database, "1")
        assert await drop(database, "sealer") == (0, "sealer")
        assert sql("SELECT count(*) FROM workhorse.events") == [(1,)]
        await drop(database)
        assert sql("SELECT count(*) FROM workhorse.events") == [(0,)]

    asyncio.run(on("pool", database_url, script))


def test_a_repeatable_page_comes_again_as_it_was(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        pages: list[list[tuple[str, tuple[int, int]]]] = []
        fails = [True]

        async def publish(work: Any, events: Any) -> None:
            pages.append([(event.subject, event.place) for event in events])
            if fails and fails.pop():
                raise RuntimeError

        reader = FeedReader(database, Feed("out", publish, at_most=2, repeatable=True))
        begun = await database.begin()
        await begun[0].execute("SELECT pg_current_xact_id()")
        await emit(database, "1", "2")
        with suppress(RuntimeError):
            await reader.drain()
        # It began before the others, and is seen only now: it must not come between what was published before.
        await begun[0].execute(
            "INSERT INTO workhorse.events (id, type, subject, data, occurred_at)"
            " VALUES (gen_random_uuid(), 'note.taken', '0', '{}', now())"
        )
        await begun[0].commit()
        await emit(database, "3")
        assert await reader.drain() >= 1
        await reader.drain()
        assert pages[0] == pages[1]
        assert [subject for page in pages[1:] for subject, _ in page] == ["1", "2", "0", "3"]
        places = [place for page in pages[1:] for _, place in page]
        assert [count for _, count in places] == [1, 2, 3, 4]
        assert len({began for began, _ in places}) == 1
        await reader.restart("beginning")
        await reader.drain()
        assert min(place for page in pages[3:] for _, place in page) > max(places), "a new beginning is after all"

    asyncio.run(on("pool", database_url, script))
