"""What Workhorse costs a Django project: the process's own CPU time per request, and round trips to Postgres.

    python -m benchmarks.django          in the project's folder: its name would hide Django from any other

Each line is a project in a process of its own. They take turns within a round, so what slows the machine for a while
slows all of them.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.django.lines import LINES
from benchmarks.django.report import Cost, claims, table
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from benchmarks.turns import Contestant, started
from workhorse.embedded import attach, drop_database, fresh_database
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.testing.conversation import Moment, MomentKind
from workhorse.testing.proxy import FaultProxy

__all__ = ["Plan", "compare", "main"]

FOLDER: Final = Path(__file__).parents[1] / ".workhorse"
WARM_UP: Final = 20
COUNTED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is timed."""

    rounds: int = 20
    requests: int = 200
    """Of each project in each round."""


QUICK: Final = Plan(rounds=2, requests=20)


def project(name: str, django_url: str, service_url: str) -> AbstractAsyncContextManager[Contestant]:
    """A project, warm, which is ended with the block."""
    urls = {"DJANGO_DATABASE_URL": django_url, "SERVICE_DATABASE_URL": service_url}
    return started("benchmarks.django.contestant", name, urls, warm_up=WARM_UP)


async def count(name: str, url: str) -> float:
    """Round trips per request on Django's connection, as a proxy before the server reads them from the wire."""
    trips: list[object] = []

    async def watch(moment: Moment) -> None:
        if moment.kind is MomentKind.ROUND_TRIP_ANSWERED:
            trips.append(moment.trip)

    async with FaultProxy(url, watcher=watch) as proxy, project(name, proxy.url, url) as contestant:
        trips.clear()
        await contestant.act(COUNTED)
        return len(trips) / COUNTED


async def compare(plan: Plan, *, folder: Path = FOLDER) -> str:
    """Count and time every project, and return what is to be printed.

    Raises:
        MeasurementError: a project failed, or did not write what it should have.
    """
    costs = {name: Cost() for name in LINES}
    with await asyncio.to_thread(attach, folder, cache=False) as attachment:
        url = fresh_database(attachment.database_url)
        try:
            await apply_migrations(url, [WORKHORSE])
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE notes (id bigserial PRIMARY KEY, text text NOT NULL)")
            for name, cost in costs.items():
                cost.round_trips = await count(name, url)
            async with AsyncExitStack() as stack:
                running = {name: await stack.enter_async_context(project(name, url, url)) for name in LINES}
                for number in range(plan.rounds):
                    # Back and forth, so that nobody always comes behind the same neighbour.
                    for name, one in list(running.items())[:: -1 if number % 2 else 1]:
                        costs[name].cpu_us.append(await one.act(plan.requests))
            with psycopg.connect(url, autocommit=True) as connection:
                row = connection.execute("SELECT count(*) FROM notes").fetchone()
        finally:
            drop_database(url)
    writers = sum(line.method == "POST" for line in LINES.values())
    wanted = writers * (2 * WARM_UP + COUNTED + plan.rounds * plan.requests)
    if row != (wanted,):
        raise MeasurementError(f"{row} rows were written, and {wanted} should have been")
    return "\n".join(
        [
            (
                f"{os.cpu_count()} cores, Python {platform.python_version()}, Django {version('django')},"
                f" psycopg {psycopg.__version__}"
            ),
            f"CPU time of the process: medians of {plan.rounds} rounds of {plan.requests} requests",
            "",
            table(costs),
            "",
            *map(str, claims(costs)),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.django", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few requests: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("it takes a round at least")
    return conduct(compare(QUICK if given.quick else Plan(rounds=given.rounds)))


if __name__ == "__main__":
    sys.exit(main())
