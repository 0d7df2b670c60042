"""What a unit costs over an app's own transaction: statements, round trips, and the process's own CPU time.

    python -m unit
    python -m unit --rounds 60 --statements

Each request writes one row by one statement. Below each way of doing that by hand are units that do the same, and what
they do more. The exit code is 1, and no figure is printed, if a request left anything else in the database.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.bank.databases import read_facts
from benchmarks.program import conduct
from benchmarks.unit.apps import APPS, BARE, NO_UNIT
from benchmarks.unit.measuring import count_costs, prepare, time_costs
from benchmarks.unit.report import claims, spelled, table
from workhorse.embedded import attach, drop_database, fresh_database

__all__ = ["Plan", "compare", "main"]

FOLDER: Final = Path(__file__).parents[1] / ".workhorse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is timed."""

    rounds: int = 40
    requests: int = 100
    """Of each app in each round."""
    spelled: bool = False
    """Whether to tell the statements too."""


QUICK: Final = Plan(rounds=2, requests=20)


async def compare(plan: Plan, *, folder: Path = FOLDER) -> str:
    """Count and time every app, and return what is to be printed.

    Raises:
        MeasurementError: an app failed, or did not write what it should have.
    """
    with await asyncio.to_thread(attach, folder, cache=False) as attachment:
        facts = read_facts(attachment.database_url)
        url = fresh_database(attachment.database_url)
        try:
            await prepare(url)
            costs = await count_costs(APPS, url)
            await time_costs(APPS, url, costs, rounds=plan.rounds, requests=plan.requests)
        finally:
            drop_database(url)
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "starlette", "sqlalchemy"))
    return "\n".join(
        [
            f"{os.cpu_count()} cores, Python {platform.python_version()}, psycopg {psycopg.__version__}, {packages}",
            f"Postgres {facts.version}; CPU time: medians of {plan.rounds} rounds of {plan.requests} requests",
            "",
            table(APPS, costs),
            "",
            *((spelled(APPS, costs), "") if plan.spelled else ()),
            *map(str, claims(APPS, costs, bare=BARE, no_unit=NO_UNIT)),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m unit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few requests: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--statements", action="store_true", help="tell what one request of each app says to Postgres")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("it takes a round at least")
    plan = QUICK if given.quick else Plan(rounds=given.rounds)
    return conduct(compare(replace(plan, spelled=given.statements)))


if __name__ == "__main__":
    sys.exit(main())
