"""How fast measures are counted, how soon they are seen, and how fast a year of them is read.

A year of one event a minute is counted by the minute and by the day, once with sums alone and once with summaries of
many values, too; then the year is asked for by day, beside the same question over the events themselves. How soon a
committed event is seen is timed from its commit to the message of a live stream in the same process, beside other
events that are committed and counted meanwhile.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from fastapi import FastAPI

from benchmarks.figures import Claim, percentile
from benchmarks.processes import MeasurementError
from workhorse import Service
from workhorse.analytics.live import Live
from workhorse.analytics.measures import Measure, Measures
from workhorse.feeds import FeedReader
from workhorse.settings import load_settings
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.testing.client import running
from workhorse.units import Unit

__all__ = ["measures"]

EPOCH: Final = datetime(2025, 1, 1, tzinfo=UTC)
WINDOWS: Final = ("1 minute", "1 day")
SUMS: Final = Measure("sums", of="order.placed", by=("currency",), window=WINDOWS, sum="amount", average="amount")
SKETCHES: Final = Measure(
    "sketches",
    of="order.placed",
    by=("currency",),
    window=WINDOWS,
    sum="amount",
    distinct="customer",
    quantiles="amount",
    top="country",
)
DIRECT: Final = b"""
    SELECT date_trunc('day', occurred_at, 'UTC'), data -> 'currency', count(*), sum((data ->> 'amount')::numeric)
      FROM workhorse.events WHERE type = 'order.placed' GROUP BY 1, 2 ORDER BY 1, 2
"""
AT_ONCE: Final = 1_000
"""Events of one transaction."""
ASKED: Final = 20
SEEN_SECONDS: Final = 30.0
BESIDE: Final = 50
"""Events that are committed at once, beside those that are watched."""


@dataclass(frozen=True, slots=True)
class Times:
    """Of one question, in seconds, ascending."""

    name: str
    taken: list[float]

    def __str__(self) -> str:
        half, most = percentile(self.taken, 0.5) * 1e3, percentile(self.taken, 0.99) * 1e3
        return f"{self.name:44}{half:>9.1f}{most:>9.1f}"


async def measures(url: str, events: int, *, sightings: int = 100) -> str:
    """Measure all of it, on a database with Workhorse's tables.

    Raises:
        MeasurementError: a figure differs from what the events say, or was not seen in time.
    """
    _fill(url, events)
    async with _database(url) as database:
        counted = {measure.name: await _count(database, measure, events) for measure in (SUMS, SKETCHES)}
        asked = [
            await _ask("a year by day, from days", lambda: _read(database, SUMS, EPOCH)),
            await _ask("a year by day, from minutes", lambda: _read(database, SUMS, EPOCH + timedelta(minutes=1))),
            await _ask("a year by day with summaries, from days", lambda: _read(database, SKETCHES, EPOCH)),
        ]
        _compare(await _read(database, SUMS, EPOCH), url)
    asked.append(await _ask("a year by day, from the events", lambda: asyncio.to_thread(_direct, url)))
    seen = Times("from commit to the message of a live stream", sorted(await _see(url, sightings)))
    rates = [f"counted, {name:35}{events / seconds:>9,.0f} events/s" for name, seconds in counted.items()]
    claims = [
        Claim("measures.year_by_day_ms", percentile(asked[0].taken, 0.5) * 1e3, 50, "<"),
        Claim("measures.seen_p99_ms", percentile(seen.taken, 0.99) * 1e3, 300, "<"),
    ]
    heading = f"{'':44}{'p50 ms':>9}{'p99 ms':>9}"
    return "\n".join([*rates, "", heading, *map(str, [*asked, seen]), "", *map(str, claims)])


@asynccontextmanager
async def _database(url: str) -> AsyncGenerator[PostgresDatabase]:
    database = PostgresDatabase(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _fill(url: str, events: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(0, events, AT_ONCE):
            connection.execute(
                b"INSERT INTO workhorse.events (id, occurred_at, type, subject, data)"
                b" SELECT gen_random_uuid(), %s::timestamptz + n * interval '1 minute', 'order.placed', 'shop',"
                b" jsonb_build_object('currency', 'EUR', 'amount', (n * 7 %% 100000 / 100.0)::text,"
                b" 'customer', n %% 5003, 'country', 'c' || n %% 97) FROM generate_series(%s::int, %s::int) AS n",
                (EPOCH, first, min(first + AT_ONCE, events) - 1),
            )
        connection.execute(b"VACUUM ANALYZE workhorse.events")


async def _count(database: PostgresDatabase, measure: Measure, events: int) -> float:
    (feed,) = Measures([measure]).feeds
    reader, found, began = FeedReader(database, feed), 0, time.perf_counter()
    while more := await reader.drain():
        found += more
    if found != events:
        raise MeasurementError(f"{measure.name}: {found} events were counted of {events}")
    return time.perf_counter() - began


async def _read(database: PostgresDatabase, measure: Measure, since: datetime) -> list[Any]:
    async with Unit(database) as work:
        return await Measures([measure]).read(work, measure.name, since=since, window="1 day")


async def _ask(name: str, question: Callable[[], Awaitable[Any]]) -> Times:
    taken: list[float] = []
    for _ in range(ASKED):
        began = time.perf_counter()
        await question()
        taken.append(time.perf_counter() - began)
    return Times(name, sorted(taken))


def _direct(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(DIRECT).fetchall()


def _compare(rows: list[Any], url: str) -> None:
    found = [(row.starts, row.by["currency"], row.events, row.sum) for row in rows]
    if found != _direct(url):
        raise MeasurementError("the measure and the events differ")


async def _see(url: str, sightings: int) -> list[float]:
    """From the commit of an event until a client is told, many times, beside others."""
    figures = Measures([Measure("seen", of="seen.placed", by=("lane",), window="1 day")])
    live = Live(figures)
    settings = load_settings(database={"url": url}, log={"access": False, "level": "error"})
    service = Service(FastAPI(openapi_url=None), feeds=figures.feeds, live=live, settings=settings)
    told: dict[str, int] = {}
    news = asyncio.Event()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("data: {"):
                for row in json.loads(line[6:]).get("seen", {}).get("rows", []):
                    told[row["by"]["lane"]] = row["events"]
        news.set()

    async def place(database: PostgresDatabase, lane: str, events: int) -> None:
        async with Unit(database) as work:
            for _ in range(events):
                await work.emit("seen.placed", subject="shop", data={"lane": lane})

    async def beside(database: PostgresDatabase) -> None:
        while True:
            await place(database, "other", BESIDE)
            await asyncio.sleep(0.1)

    taken: list[float] = []
    async with running(service), _database(url) as database:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        tasks = [
            asyncio.ensure_future(live.stream("seen")(scope, receive, send)),
            asyncio.ensure_future(beside(database)),
        ]
        try:
            for number in range(1, sightings + 1):
                await place(database, "watched", 1)
                began = time.perf_counter()
                async with asyncio.timeout(SEEN_SECONDS):
                    while told.get("watched", 0) < number:
                        news.clear()
                        await news.wait()
                taken.append(time.perf_counter() - began)
        except TimeoutError as error:
            raise MeasurementError(f"an event was not seen within {SEEN_SECONDS:.0f} s") from error
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
    return taken
