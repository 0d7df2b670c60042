"""What the bank does when its tables have grown, beside what it does when they are small.

    python -m growth --rows 1000000 10000000 --rounds 3

Databases of each size are filled (see `filling`), beside one that is as good as empty. Then, in turns over the sizes:
transfers a second over HTTP, as `python -m bank` times them; jobs a second by one worker, as `python -m jobs` does; and
how soon a retried key finds its reply. At the end old rows are forgotten, each in its way. Prints a table and the
claims; the exit code is 1, and no figure is printed, if a row is missing or stands twice.
"""

import argparse
import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.bank.__main__ import postgres_pid
from benchmarks.bank.databases import BENCHMARKS, checkpoint, judge_books, judge_told, read_books, read_facts, read_told
from benchmarks.bank.issuer import run_issuer
from benchmarks.bank.measuring import RunOptions, measure_served
from benchmarks.bank.variants import BANK
from benchmarks.bank.variants import Servers as BankServers
from benchmarks.growth.filling import Grown, bytes_needed, make_grown
from benchmarks.growth.probes import forget, retry_look_up_ms
from benchmarks.growth.report import Sized, claims, table
from benchmarks.jobs.engine import Servers as JobServers
from benchmarks.jobs.engines import ENTRIES, OURS
from benchmarks.jobs.measuring import Bench
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.embedded import Attachment, attach, drop_database, fresh_database

__all__ = ["main"]

SMALLEST: Final = 10_000
"""As good as empty, and enough to be purged."""
ACCOUNTS: Final = 10_000
CONNECTIONS: Final = 64
LOOK_UPS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    rows: tuple[int, ...]
    rounds: int
    options: RunOptions
    jobs: int


async def compare(plan: Plan) -> str:
    """Fill, measure, forget, and return what is to be printed.

    Raises:
        MeasurementError: there is no room, something could not be measured, or rows are not right.
    """
    sizes = [SMALLEST, *plan.rows]
    free = shutil.disk_usage(BENCHMARKS).free
    if bytes_needed(sizes) > free:
        raise MeasurementError(
            f"tables of {sizes} rows take up to {bytes_needed(sizes):,} bytes, and {free:,} are free: give less --rows"
        )
    loads = [os.getloadavg()[0]]
    with await asyncio.to_thread(attach, BENCHMARKS / ".workhorse") as attachment:
        facts = read_facts(attachment.database_url)
        if not facts.durable:
            raise MeasurementError(f"the embedded Postgres does not keep what it commits: {facts}")
        urls: list[str] = []
        try:
            grown: list[Grown] = []
            for rows in sizes:
                urls.append(fresh_database(attachment.database_url))
                grown.append(await asyncio.to_thread(make_grown, urls[-1], rows=rows, accounts=ACCOUNTS))
                _note(f"filled {rows:,} rows of each: {grown[-1].bytes:,} bytes")
            measured = await _measure(grown, attachment, plan, loads)
        finally:
            for url in urls:
                drop_database(url)
    server = f"Postgres {facts.version}, fsync on, shared_buffers {facts.shared_buffers}"
    rounds = f"{plan.rounds} rounds of {plan.options.seconds:g} s, of {plan.jobs:,} jobs and of {LOOK_UPS} look-ups"
    lines = [
        f"{os.cpu_count()} cores, Python {platform.python_version()}; {server}",
        f"{CONNECTIONS} connections; {rounds}; load average {min(loads):.1f} to {max(loads):.1f}",
        "",
        table(measured),
        "",
        "correct: every transfer and every job once, and of the rows those went that were to go",
        *map(str, claims(measured)),
    ]
    return "\n".join(lines)


async def _measure(grown: Sequence[Grown], attachment: Attachment, plan: Plan, loads: list[float]) -> list[Sized]:
    jobs: dict[int, list[float]] = {one.rows: [] for one in grown}
    retries: dict[int, list[float]] = {one.rows: [] for one in grown}
    benches = {
        one.rows: Bench(name=OURS, entry=ENTRIES[OURS], servers=JobServers(database=one.url, cache="")) for one in grown
    }
    # Jobs first, while none of the bank's are in the queue.
    for number in range(1, plan.rounds + 1):
        for one in grown:
            await checkpoint(one.url)
            jobs[one.rows].append((await benches[one.rows].drain(plan.jobs, 1)).drained)
            retries[one.rows].append(await retry_look_up_ms(one, LOOK_UPS))
            loads.append(os.getloadavg()[0])
            _note(f"round {number}, {one.rows:,} rows: {jobs[one.rows][-1]:,.0f} jobs/s")
    transfers = await _transfers(grown, attachment, plan, loads)
    measured: list[Sized] = []
    for one in grown:
        measured.append(
            Sized(
                rows=one.rows,
                bytes=one.bytes,
                transfers=transfers[one.rows],
                jobs=jobs[one.rows],
                retries_ms=retries[one.rows],
                forgetting=await forget(one),
            )
        )
        _note(f"forgot the old ones of {one.rows:,} rows: {measured[-1].forgetting}")
    return measured


async def _transfers(
    grown: Sequence[Grown], attachment: Attachment, plan: Plan, loads: list[float]
) -> dict[int, list[float]]:
    """Transfers a second of each round, by size.

    Raises:
        MeasurementError: a transfer that was acknowledged is missing, or anything that belongs to it.
    """
    pid = postgres_pid(attachment)
    rates: dict[int, list[float]] = {one.rows: [] for one in grown}
    acknowledged = dict.fromkeys(rates, 0)
    with run_issuer() as issuer:
        tokens = issuer.mint()
        for number in range(1, plan.rounds + 1):
            for one in grown:
                await checkpoint(one.url)
                servers = BankServers(database=one.url, cache=attachment.cache_url or "", issuer=issuer.name)
                figures = await measure_served(
                    BANK, servers, one.accounts, tokens, pid, plan.options, connections=CONNECTIONS
                )
                rates[one.rows].append(figures.rate)
                acknowledged[one.rows] += figures.acknowledged
                loads.append(os.getloadavg()[0])
                _note(f"round {number}, {one.rows:,} rows: {figures.rate:,.0f} transfers/s")
    faults: list[str] = []
    for one in grown:
        name, count = f"{one.rows:,} rows", acknowledged[one.rows]
        faults += judge_books(name, read_books(one.url, "bank"), count, distinct=True)
        faults += judge_told(name, await asyncio.to_thread(read_told, one.url), count)
    if faults:
        raise MeasurementError("the books are not right, so no figure counts:\n" + "\n".join(faults))
    return rates


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m growth", description="Time the bank on tables that have grown.")
    parser.add_argument("--quick", action="store_true", help="few rows and one short round: shows that it works")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="of each of the tables")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of transfers, per size and round")
    parser.add_argument("--jobs", type=int, default=10_000, help="per size and round")
    given = parser.parse_args()
    if min(given.rounds, given.seconds, given.jobs / 100, *(rows / SMALLEST for rows in given.rows)) < 1:
        parser.error(f"it takes a round, a second, 100 jobs and {SMALLEST:,} rows at least")
    plan = Plan(
        rows=(50_000,) if given.quick else tuple(sorted(set(given.rows) - {SMALLEST})),
        rounds=1 if given.quick else given.rounds,
        options=RunOptions(seconds=1.0, warmup_seconds=0.5) if given.quick else RunOptions(seconds=given.seconds),
        jobs=500 if given.quick else given.jobs,
    )
    return conduct(compare(plan))


if __name__ == "__main__":
    sys.exit(main())
