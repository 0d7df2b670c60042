"""Requests served in this process, without a server: counted through a proxy, and timed without it.

What is counted does not depend on the machine. What is timed is the process's own CPU time, so neither Postgres nor the
wait for it is in it.
"""

import gc
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final

import psycopg

from benchmarks.guard.traffic import request_scope, serve_one
from benchmarks.processes import MeasurementError
from benchmarks.unit.apps import EVENT, PATH, App, Wrote
from benchmarks.unit.report import Cost
from workhorse.asgi import ASGIApp, Scope
from workhorse.migrations import WORKHORSE
from workhorse.sql import load_queries
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.testing.conversation import Moment, MomentKind
from workhorse.testing.proxy import FaultProxy

__all__ = ["count_costs", "prepare", "time_costs"]

# After so many a driver has prepared its statements, and a pool its connections.
WARM_UP: Final = 20
COUNTED: Final = 20
QUERIES: Final = load_queries("benchmarks.unit", "written.sql")


class Requests:
    """Makes requests for one app. Each has a key of its own, and a body that names the app."""

    def __init__(self, name: str) -> None:
        self._body = b'{"text":"%b"}' % name.encode()
        self._name = name
        self._numbers = count(1)
        self.sent = 0

    def scope(self) -> Scope:
        """The next one."""
        self.sent += 1
        key = f"{self._name.replace(' ', '-')}-{next(self._numbers)}".encode()
        headers = [
            (b"host", b"api.example.com"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self._body)),
            (b"idempotency-key", key),
        ]
        return request_scope("POST", PATH, headers)

    async def serve(self, app: ASGIApp, requests: int) -> None:
        """Have so many served, one after the other.

        Raises:
            MeasurementError: one was not answered with 200.
        """
        for _ in range(requests):
            answer = await serve_one(app, self.scope(), self._body)
            if answer.status != 200:
                raise MeasurementError(
                    f"{self._name}: a request was answered with {answer.status}: {answer.body[:300]!r}"
                )


@asynccontextmanager
async def _opened(apps: Mapping[str, App], url: str) -> AsyncGenerator[dict[str, ASGIApp]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(app.open(url)) for name, app in apps.items()}


async def prepare(url: str) -> None:
    """Make Workhorse's tables and the app's own."""
    await apply_migrations(url, [WORKHORSE])
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(QUERIES["make_notes"].encode())


async def count_costs(apps: Mapping[str, App], url: str) -> dict[str, Cost]:
    """Statements and round trips per request of each app, as a proxy before the server reads them from the wire.

    Raises:
        MeasurementError: an app failed, or did not write what it should have.
    """
    costs: dict[str, Cost] = {}
    for name, app in apps.items():
        trips: list[Sequence[str]] = []

        async def watch(moment: Moment, trips: list[Sequence[str]] = trips) -> None:
            if moment.kind is MomentKind.ROUND_TRIP_ANSWERED and moment.trip is not None:
                trips.append(tuple(moment.trip.statements))

        async with FaultProxy(url, watcher=watch) as proxy, _opened({name: app}, proxy.url) as opened:
            requests = Requests(name)
            written = _written(url, name)
            await requests.serve(opened[name], WARM_UP)
            trips.clear()
            await requests.serve(opened[name], COUNTED)
            costs[name] = Cost(
                statements=sum(map(len, trips)) / COUNTED,
                round_trips=len(trips) / COUNTED,
                trips=tuple(trips[-(len(trips) // COUNTED) :]) if len(trips) >= COUNTED else (),
            )
        _judge(name, app.wrote, WARM_UP + COUNTED, written, _written(url, name))
    return costs


async def time_costs(
    apps: Mapping[str, App], url: str, costs: Mapping[str, Cost], *, rounds: int, requests: int
) -> None:
    """Add to each of `costs` a figure a round. The apps take turns within each round.

    Raises:
        MeasurementError: an app failed.
    """
    async with _opened(apps, url) as opened:
        sources = {name: Requests(f"{name} timed") for name in apps}
        for name, app in opened.items():
            await sources[name].serve(app, WARM_UP)
        for number in range(rounds):
            # Back and forth, so that nobody always comes behind the same neighbour.
            order = list(opened.items())[:: -1 if number % 2 else 1]
            for name, app in order:
                gc.collect()
                began = time.process_time()
                await sources[name].serve(app, requests)
                costs[name].cpu_us.append((time.process_time() - began) / requests * 1e6)


def _written(url: str, name: str) -> Wrote:
    with psycopg.connect(url, autocommit=True) as connection:
        row: Any = connection.execute(QUERIES["written"].encode(), {"name": name, "event": EVENT}).fetchone()
    return Wrote(*row)


def _judge(name: str, wrote: Wrote, requests: int, before: Wrote, after: Wrote) -> None:
    """Raise unless each request left what it should have."""
    wanted = Wrote(wrote.notes * requests, wrote.replies * requests, wrote.events * requests, wrote.jobs * requests)
    found = Wrote(
        after.notes - before.notes,
        after.replies - before.replies,
        after.events - before.events,
        after.jobs - before.jobs,
    )
    if found != wanted:
        raise MeasurementError(f"{name}: {requests} requests left {found}, and should have left {wanted}")
