"""A stream has the journal's events in its order, each once, also where a page is published twice."""

import asyncio
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import pytest
import redis
from fastapi import FastAPI

from tests.asgi_client import call, running
from tests.feeds.test_reader import emit
from tests.units.databases import Sql, on
from workhorse import Service, unit
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.feeds import Feed, FeedReader
from workhorse.relays import StreamRelay
from workhorse.settings import Settings
from workhorse.state.redis.streams import StreamTaken


@pytest.fixture
def relay(servers: Attachment) -> Any:
    assert servers.cache_url is not None
    return StreamRelay("out", f"stream:{uuid4()}", servers.cache_url)


def a_client(url: str) -> Any:
    return cast("Any", redis.Redis).from_url(url, decode_responses=True)


def entries(relay: StreamRelay) -> list[tuple[str, dict[str, str]]]:
    with a_client(relay.url) as client:
        return list(client.xrange(relay.stream))


def ending(relay: StreamRelay, fails: Callable[[], None]) -> Feed:
    """The relay's feed, which raises once it has published."""
    feed = relay.feed

    async def handler(work: Any, events: Any) -> None:
        await feed.handler(work, events)
        fails()

    return Feed(feed.name, handler, at_most=2, repeatable=True)


def test_a_page_that_was_published_and_not_noted_is_not_published_again(relay: StreamRelay, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        crashes = [True, True]

        def crash() -> None:
            if crashes:
                crashes.pop()
                raise RuntimeError

        reader = FeedReader(database, ending(relay, crash))
        await emit(database, *"123")
        async with relay.running(database):
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    await reader.drain()
            await reader.drain()
            await emit(database, *"45")
            await reader.drain()
            await reader.drain()
        told = entries(relay)
        assert [fields["subject"] for _, fields in told] == list("12345")
        assert [fields["id"] for _, fields in told] == [
            str(i) for (i,) in sql("SELECT id FROM workhorse.events ORDER BY id")
        ]
        assert told[0][1]["data"] == "{}"

    asyncio.run(on("pool", database_url, script))


def test_a_stream_that_others_write_to_is_said(relay: StreamRelay, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        with a_client(relay.url) as client:
            client.xadd(relay.stream, {"a": "b"}, id="99999999999999-1")
        await emit(database, "1")
        async with relay.running(database):
            with pytest.raises(StreamTaken, match="others write"):
                await FeedReader(database, relay.feed).drain()

    asyncio.run(on("pool", database_url, script))


def test_while_the_server_is_away_nothing_is_passed_by(relay: StreamRelay, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        away = StreamRelay("out", relay.stream, "redis://127.0.0.1:1/0")
        await emit(database, "1")
        async with away.running(database):
            with pytest.raises(StoreUnavailable):
                await FeedReader(database, away.feed).drain()
        async with relay.running(database):
            await FeedReader(database, relay.feed).drain()
        assert len(entries(relay)) == 1

    asyncio.run(on("pool", database_url, script))


def test_a_service_runs_its_relays(relay: StreamRelay, settings: Settings) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def notes() -> None:
        await (await unit()).emit("note.taken", subject="1")

    async def main() -> None:
        async with running(service := Service(app, relays=[relay], settings=settings)):
            assert (await call(service, "POST", "/notes")).status == 200
            async with asyncio.timeout(10):
                while not entries(relay):
                    await asyncio.sleep(0.05)

    asyncio.run(main())
    assert entries(relay)[0][1]["type"] == "note.taken"


def test_a_relay_without_a_stream_is_refused() -> None:
    with pytest.raises(SettingsError):
        StreamRelay("out", "", "redis://127.0.0.1/0")
