"""Watches a stream in process as a client does: what it is sent, read as slowly as the test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg

from tests.asgi_client import http_scope
from workhorse.analytics.live import Live
from workhorse.analytics.measures import Measure, Measures
from workhorse.asgi import ASGIApp
from workhorse.contracts import Query
from workhorse.feeds import FeedReader
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit

SECONDS = 10.0
REVENUE = Measure("revenue", of="order.placed", by=("currency",), window="1 day", sum="amount", average="amount")
VISITS = Measure("visits", of="visit.begun", window="1 minute")
MEASURES = Measures([REVENUE, VISITS])


class Event(NamedTuple):
    kind: str
    id: str
    data: Any

    def rows(self, name: str = "revenue") -> list[tuple[str | None, int, str | None]]:
        """What a row is counted by, its events and its sum."""
        found = self.data[name]["rows"]
        return sorted((row["by"].get("currency"), row["events"], row.get("sum")) for row in found)


class CountingDatabase:
    """The database, and how often it was asked."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self.asked = 0
        self.away = False

    async def run(self, query: Query, *, repeatable: bool = False) -> Any:
        self.asked += 1
        if self.away:
            raise ConnectionError("the database is away")
        return await self.database.run(query, repeatable=repeatable)


class Watcher:
    """One client. It takes a message of the server's when `taking` is set."""

    def __init__(self, app: ASGIApp, *, last: str = "", query: str = "", path: str = "/") -> None:
        self.taking = asyncio.Event()
        self.taking.set()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.events: list[Event] = []
        self.comments = 0
        self.ended = False
        self.body = b""
        self._came = asyncio.Event()
        self._gone = asyncio.Event()
        headers = [("last-event-id", last)] if last else []
        scope = http_scope("GET", path + (f"?last_event_id={query}" if query else ""), headers)
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.taking.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.ended = self.ended or not message.get("more_body", False)
            self._read()
        self._came.set()

    def _read(self) -> None:
        *whole, self.body = self.body.split(b"\n\n") if self.status == 200 else [self.body]
        for part in whole:
            fields = dict(line.split(": ", 1) for line in part.decode().split("\n") if not line.startswith(":"))
            self.comments += part.startswith(b":")
            if "event" in fields:
                self.events.append(Event(fields["event"], fields.get("id", ""), json.loads(fields["data"])))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def event(self, number: int) -> Event:
        """The event of this number, from 0, once it has come."""
        await self.until(lambda: len(self.events) > number)
        return self.events[number]

    async def leave(self) -> None:
        self._gone.set()
        self.taking.set()
        async with asyncio.timeout(SECONDS):
            await asyncio.wait({self.task})


class Shop:
    """A database in which orders are placed and counted."""

    def __init__(self, database: PostgresDatabase, url: str) -> None:
        self.database = database
        self.url = url
        self.counting = CountingDatabase(database)

    def live(self, **options: Any) -> Live:
        """Another process that shows the same."""
        live = Live(MEASURES, **{"tick_seconds": 0.02, **options})
        live.bind(self.counting)  # type: ignore[arg-type]
        return live

    async def order(self, *amounts: str, currency: str = "EUR") -> None:
        """Place orders, and have them counted."""
        async with Unit(self.database) as work:
            for amount in amounts:
                await work.emit("order.placed", subject="shop", data={"amount": amount, "currency": currency})
        await self.count()

    async def visit(self) -> None:
        async with Unit(self.database) as work:
            await work.emit("visit.begun", subject="shop", data={})
        await self.count()

    async def count(self) -> None:
        for feed in MEASURES.feeds:
            await FeedReader(self.database, feed).drain()

    def sql(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def open_shop(url: str) -> AsyncIterator[Shop]:
    await apply_migrations(url, [WORKHORSE])
    database = PostgresDatabase(url, pool_min=1, pool_max=4)
    await database.open()
    try:
        yield Shop(database, url)
    finally:
        await database.close()


def in_a_shop(url: str, script: Callable[[Shop], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_shop(url) as shop:
            await script(shop)
            left = [task for task in asyncio.all_tasks() if task.get_name() == "live"]
            if left:
                await asyncio.wait(left, timeout=SECONDS)
            assert not [task for task in left if not task.done()], "nobody watches, so nobody looks"

    asyncio.run(main())
