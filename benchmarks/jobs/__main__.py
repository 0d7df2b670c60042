"""Jobs a second, how soon a job begins, and what idling costs, beside other engines on the same servers, in one run.

    python -m jobs --rounds 5

The engines take turns. Each is in a database of its own, with the defaults that its own pages show for durable jobs.
`enqueue/s`: jobs in batches of 1,000. `1 worker/s` and `2 workers/s`: jobs that do nothing, from the first that begins
to the last. `p50 ms` and `p99 ms`: from a commit to the job's begin, with one worker that has nothing else to do.
`idle tx/s`: the transactions of one worker without work. The exit code is 1, and no figure is printed, if a job did not
begin, or began twice.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from benchmarks.bank.databases import checkpoint, read_facts
from benchmarks.jobs.engine import Servers
from benchmarks.jobs.engines import ENTRIES, OURS
from benchmarks.jobs.measuring import Bench, idle_transactions
from benchmarks.jobs.report import Measured, claims, table
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.embedded import attach, drop_database, fresh_database

__all__ = ["Plan", "compare", "main"]

FOLDER: Final = Path(__file__).parents[1] / ".workhorse"
LEAST_JOBS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    share: float = 1.0
    """Of the jobs that an engine's entry names."""
    delays: int = 100
    """Jobs that come one by one, in each round."""
    idle_seconds: float = 40.0


QUICK: Final = Plan(rounds=1, share=0.05, delays=20, idle_seconds=5)


async def compare(plan: Plan, names: Sequence[str], *, folder: Path = FOLDER) -> str:
    """Measure every engine in turn, and return what is to be printed.

    Raises:
        MeasurementError: an engine is not installed or failed, or the server does not keep what it commits.
    """
    _installed(names)
    with await asyncio.to_thread(attach, folder) as attachment:
        facts = read_facts(attachment.database_url)
        if not facts.durable:
            raise MeasurementError(f"the embedded Postgres does not keep what it commits: {facts}")
        async with _benches(names, attachment.database_url, attachment.cache_url or "") as benches:
            measured = {bench.name: Measured() for bench in benches}
            for number in range(1, plan.rounds + 1):
                for bench in benches:
                    await _round(bench, plan, measured[bench.name])
                    _note(
                        f"round {number} of {plan.rounds}: {bench.name} {measured[bench.name].two[-1].drained:,.0f}/s"
                    )
            await _idle(benches, attachment.database_url, plan.idle_seconds, measured)
    packages = ", ".join(f"{package} {version(package)}" for package in dict.fromkeys(_packages(names)))
    return "\n".join(
        [
            f"{os.cpu_count()} cores, Python {platform.python_version()}, psycopg {psycopg.__version__}, {packages}",
            f"Postgres {facts.version}, fsync on; {plan.rounds} rounds; correct: each job began, and none did twice",
            "",
            table({name: ENTRIES[name].title for name in names}, measured, ours=OURS),
            "",
            *map(str, claims(measured[OURS])),
        ]
    )


def _packages(names: Iterable[str]) -> list[str]:
    return [ENTRIES[name].package for name in names]


def _installed(names: Iterable[str]) -> None:
    for package in _packages(names):
        try:
            version(package)
        except PackageNotFoundError:
            raise MeasurementError(f"{package} is not installed; install it, or use --alone") from None


@asynccontextmanager
async def _benches(names: Iterable[str], server: str, cache: str) -> AsyncGenerator[list[Bench]]:
    """Each engine with a database of its own, and its tables in it."""
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for name in names:
            url = fresh_database(server)
            stack.callback(drop_database, url)
            bench = Bench(name=name, entry=ENTRIES[name], servers=Servers(database=url, cache=cache))
            await bench.prepare()
            benches.append(bench)
        yield benches


async def _round(bench: Bench, plan: Plan, measured: Measured) -> None:
    jobs = max(LEAST_JOBS, round(bench.entry.jobs * plan.share))
    await checkpoint(bench.servers.database)
    measured.one.append(await bench.drain(jobs, 1))
    measured.two.append(await bench.drain(jobs, 2))
    measured.delays_ms += await bench.delays(plan.delays)


async def _idle(benches: Iterable[Bench], server: str, seconds: float, measured: dict[str, Measured]) -> None:
    """All of them at once: idling, they are not in each other's way."""
    counted = [bench for bench in benches if bench.entry.on_postgres]
    async with AsyncExitStack() as stack:
        for bench in counted:
            await stack.enter_async_context(bench.idling())
        # The server's own housekeeping has transactions too, in whichever database it visits.
        await asyncio.to_thread(_set_housekeeping, server, on=False)
        try:
            databases = {bench.name: urlsplit(bench.servers.database).path.lstrip("/") for bench in counted}
            found = await idle_transactions(server, databases, seconds)
        finally:
            _set_housekeeping(server, on=True)
    for name, idle in found.items():
        measured[name].idle = idle


def _set_housekeeping(server: str, *, on: bool) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET autovacuum" if on else "ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few jobs an engine: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--alone", action="store_true", help="leave the other libraries out")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("it takes a round at least")
    names = [name for name, entry in ENTRIES.items() if not given.alone or entry.package == "workhorse"]
    return conduct(compare(QUICK if given.quick else Plan(rounds=given.rounds), names))


if __name__ == "__main__":
    sys.exit(main())
