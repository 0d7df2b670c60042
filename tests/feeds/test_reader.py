"""A feed is given every event once, whatever commits late, fails, reads beside it or is killed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asgi_client import call, running
from tests.units.databases import Sql, open_database
from workhorse import Service, unit
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, FeedMoved, FeedReader, Recorded
from workhorse.feeds.reader import reading
from workhorse.migrations import WORKHORSE
from workhorse.settings import load_settings
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit, Work

TALLY = "CREATE TABLE IF NOT EXISTS tally (number serial PRIMARY KEY, id uuid NOT NULL, subject text NOT NULL)"

Script = Callable[[Any, Sql], Awaitable[Any]]


def run(database_url: str, script: Script) -> Any:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TALLY)

        def sql(statement: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

        async def main() -> Any:
            await apply_migrations(database_url, [WORKHORSE])
            async with open_database("pool", database_url) as database:
                return await script(database, sql)

        return asyncio.run(main())


async def tally(work: Work, events: Sequence[Recorded]) -> None:
    for event in events:
        await work.execute("INSERT INTO tally (id, subject) VALUES (%s, %s)", (event.id, event.subject))


async def emit(database: Any, *subjects: str, type_: str = "note.taken") -> None:
    async with Unit(database) as work:
        for subject in subjects:
            await work.emit(type_, subject=subject)


def told(sql: Sql) -> list[str]:
    return [subject for (subject,) in sql("SELECT subject FROM tally ORDER BY number")]


def check_exact(sql: Sql) -> None:
    assert sql("SELECT id FROM tally ORDER BY id") == sql("SELECT id FROM workhorse.events ORDER BY id")


def test_a_feed_is_given_what_was_and_then_what_comes(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        reader = FeedReader(database, Feed("notes", tally))
        await emit(database, "1", "2")
        assert await reader.drain() == 2
        assert await reader.drain() == 0
        await emit(database, "3")
        assert await reader.drain() == 1
        assert told(sql) == ["1", "2", "3"]

    run(database_url, script)


def test_a_slow_transaction_is_not_skipped_and_nothing_comes_twice(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        reader = FeedReader(database, Feed("notes", tally, at_most=2))
        async with Unit(database) as slow:
            await slow.emit("note.taken", subject="slow")
            await slow.execute("SELECT pg_current_xact_id()")
            for number in range(5):
                await emit(database, str(number))
            assert await reader.drain() == 5
            assert await reader.drain() == 0
        await emit(database, "after")
        assert await reader.drain() == 2
        assert sorted(told(sql)) == ["0", "1", "2", "3", "4", "after", "slow"]

    run(database_url, script)


def test_what_was_rolled_back_never_comes(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        with suppress(ZeroDivisionError):
            async with Unit(database) as work:
                await work.emit("note.taken", subject="undone")
                await work.flush()
                raise ZeroDivisionError
        async with Unit(database) as work:
            await work.emit("note.taken", subject="kept")
            with suppress(ZeroDivisionError):
                async with work.savepoint():
                    await work.emit("note.taken", subject="half")
                    raise ZeroDivisionError
        await FeedReader(database, Feed("notes", tally)).drain()
        assert told(sql) == ["kept"]

    run(database_url, script)


def test_a_page_whose_handler_fails_comes_again_whole(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        failures = [True]

        async def handler(work: Work, events: Sequence[Recorded]) -> None:
            await tally(work, events)
            if events[0].subject == "2" and failures:
                failures.pop()
                raise ZeroDivisionError

        reader = FeedReader(database, Feed("notes", handler, at_most=2))
        await emit(database, "0", "1", "2", "3", "4")
        with pytest.raises(ZeroDivisionError):
            await reader.drain()
        assert told(sql) == ["0", "1"]
        await reader.drain()
        assert told(sql) == ["0", "1", "2", "3", "4"]

    run(database_url, script)


def test_a_handlers_own_events_come_in_a_later_page(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def handler(work: Work, events: Sequence[Recorded]) -> None:
            await tally(work, events)
            for event in events:
                if event.type == "note.taken":
                    await work.emit("note.read", subject=f"{event.subject} read")

        reader = FeedReader(database, Feed("notes", handler))
        await emit(database, "1")
        await reader.drain()
        await emit(database, "2")
        await reader.drain()
        await reader.drain()
        assert told(sql) == ["1", "1 read", "2", "2 read"]
        check_exact(sql)

    run(database_url, script)


def test_only_the_wanted_types_come(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        for type_ in ("a.b", "a.b.c", "a.bc", "axb", "d", "d.e"):
            await emit(database, type_, type_=type_)
        await FeedReader(database, Feed("some", tally, types=["a.b.*", "a.b", "d"])).drain()
        assert told(sql) == ["a.b", "a.b.c", "d"]

    run(database_url, script)


def test_several_readers_of_one_feed_take_turns(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        readers = [asyncio.create_task(FeedReader(database, Feed("notes", tally, at_most=3)).run()) for _ in range(3)]
        for number in range(40):
            await emit(database, str(number))
        async with asyncio.timeout(20):
            while len(told(sql)) < 40:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        check_exact(sql)

    run(database_url, script)


def test_two_feeds_do_not_know_of_each_other_and_one_may_begin_now(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await emit(database, "old")
        late = FeedReader(database, Feed("late", tally, start="now"))
        assert await late.drain() == 0
        await emit(database, "new")
        assert await late.drain() == 1
        assert await FeedReader(database, Feed("all", tally)).drain() == 2
        assert told(sql) == ["new", "old", "new"]

    run(database_url, script)


def test_another_version_of_a_feed_begins_anew(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await emit(database, "1")
        await FeedReader(database, Feed("notes", tally)).drain()
        assert await FeedReader(database, Feed("notes", tally, version="2")).drain() == 1
        assert await FeedReader(database, Feed("notes", tally, version="2")).drain() == 0
        await FeedReader(database, Feed("notes", tally, version="2")).restart("now")
        assert await FeedReader(database, Feed("notes", tally, version="2")).drain() == 0
        assert told(sql) == ["1", "1"]

    run(database_url, script)


def test_a_position_of_another_cluster_is_refused_with_what_to_do(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        reader = FeedReader(database, Feed("notes", tally))
        await emit(database, "1")
        await reader.drain()
        async with Unit(database) as work:
            await work.execute("UPDATE workhorse.feeds SET cluster = cluster + 1")
        with pytest.raises(FeedMoved, match="another database cluster"):
            await reader.turn()
        await reader.restart("now")
        assert await reader.drain() == 0

    run(database_url, script)


@pytest.mark.parametrize(
    "options",
    [
        {"at_most": 0},
        {"at_most": 10_001},
        {"types": ["A"]},
        {"types": ["*"]},
        {"types": "a.b"},
        {"start": "then"},
        {"version": ""},
    ],
    ids=str,
)
def test_a_malformed_feed_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="the feed 'notes'"):
        Feed("notes", tally, **options)


def test_a_malformed_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="the feed's name"):
        Feed("Notes", tally)


Step = st.tuples(st.sampled_from(["begin", "emit", "commit", "roll back", "read", "fail"]), st.integers(0, 3))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(Step, min_size=5, max_size=40), st.integers(1, 4))
def test_whatever_the_order_of_commits_each_event_comes_once(
    database_url: str, steps: list[tuple[str, int]], at_most: int
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.execute("TRUNCATE tally, workhorse.events, workhorse.feeds")
        broken = [False]

        async def handler(work: Work, events: Sequence[Recorded]) -> None:
            await tally(work, events)
            if broken[0]:
                raise ZeroDivisionError

        reader = FeedReader(database, Feed("law", handler, at_most=at_most))
        open_units: dict[int, tuple[Unit, Work]] = {}
        for number, (step, which) in enumerate(steps):
            if step == "begin" and which not in open_units:
                unit = Unit(database)
                open_units[which] = unit, await asyncio.create_task(opened(unit))
            elif step == "emit" and which in open_units:
                work = open_units[which][1]
                await work.emit("law.tried", subject=str(number))
                await work.flush()
            elif step in {"commit", "roll back"} and which in open_units:
                await ended(*open_units.pop(which), commit=step == "commit")
            elif step == "read":
                await reader.turn()
            elif step == "fail":
                broken[0] = True
                with suppress(ZeroDivisionError):
                    await reader.turn()
                broken[0] = False
        for unit, work in open_units.values():
            await ended(unit, work, commit=True)
        await reader.drain()
        check_exact(sql)

    run(database_url, script)


async def opened(unit: Unit) -> Work:
    return await unit.__aenter__()


async def ended(unit: Unit, work: Work, *, commit: bool) -> None:
    unit.ended = True
    if commit:
        await work.transaction.commit(work.drain())
    else:
        await work.transaction.rollback()


def test_feeds_run_as_long_as_their_service(database_url: str, tmp_path: Path) -> None:
    seen: list[str] = []

    async def note(work: Work, events: Sequence[Recorded]) -> None:
        seen.extend(event.subject for event in events)

    app = FastAPI()

    @app.post("/notes/{subject}")
    async def take(subject: str) -> None:
        await (await unit()).emit("note.taken", subject=subject)

    chosen = load_settings(tmp_path, database={"url": database_url}, log={"access": False})
    service = Service(app, feeds=[Feed("notes", note)], settings=chosen)

    async def main() -> None:
        async with running(service):
            await call(service, "POST", "/notes/a")
            async with asyncio.timeout(10):
                while not seen:
                    await asyncio.sleep(0.02)

    asyncio.run(main())
    assert seen == ["a"]


def test_two_feeds_of_one_name_are_refused(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with reading(database, [Feed("notes", tally), Feed("notes", tally)]):
            pass

    with pytest.raises(SettingsError, match="two feeds are named 'notes'"):
        run(database_url, script)
