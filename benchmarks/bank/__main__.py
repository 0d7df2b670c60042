"""The bank beside its peers, in one run, on one Postgres, under one load.

    python -m bank --rounds 5 --seconds 10

Prints a table and the claims. The lines take turns (A B C A B C), and the medians over the rounds count. The exit code
is 1, and no figure is printed, if a book does not balance or lacks a transfer that was acknowledged, or if the bank
lacks one of its events, advices or replies; a claim that falls short is a figure like any other.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import psycopg

from benchmarks.bank.databases import (
    BENCHMARKS,
    ServerFacts,
    account_ranges,
    checkpoint,
    judge_books,
    judge_told,
    make_bank,
    make_plain_ledger,
    read_books,
    read_facts,
    read_told,
)
from benchmarks.bank.issuer import TOKENS, Issuer, run_issuer
from benchmarks.bank.measuring import Measurement, RunOptions, measure_served
from benchmarks.bank.node import node_version, prepare_fastify
from benchmarks.bank.pgbench import CLIENTS, measure_pgbench
from benchmarks.bank.report import NotRun, claims, rows, start_claims, table
from benchmarks.bank.starting import Starts, measure_starts
from benchmarks.bank.variants import (
    FASTIFY,
    FASTIFY_FOLDER,
    SERVED,
    YARDSTICKS,
    Ledger,
    Line,
    Served,
    Servers,
    Yardstick,
    lines_of,
)
from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.embedded import Attachment, ServerName, attach, drop_database, fresh_database, status

__all__ = ["main", "postgres_pid"]

QUICK: Final = RunOptions(warmup_seconds=0.5, seconds=1.0)
SCHEMAS: Final[Mapping[Ledger, str]] = {"bank": "bank", "plain": "public"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    options: RunOptions
    connections: tuple[int, ...]
    accounts: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """A variant with the database of its own."""

    variant: Served | Yardstick
    url: str
    accounts: tuple[AccountRange, ...]


async def compare(plan: Plan) -> str:
    """Measure every line in turn, and return what is to be printed.

    Raises:
        MeasurementError: something could not be measured, or the books are not right.
    """
    served, missing = await asyncio.to_thread(_able)
    variants: list[Served | Yardstick] = [*served, *YARDSTICKS]
    lines = lines_of(served, plan.connections, clients=CLIENTS)
    loads = [os.getloadavg()[0]]
    starts = await asyncio.to_thread(measure_starts, plan.rounds)
    with run_issuer() as issuer, await asyncio.to_thread(attach, BENCHMARKS / ".workhorse") as attachment:
        server = attachment.database_url
        facts = read_facts(server)
        if not facts.durable:
            raise MeasurementError(f"the embedded Postgres does not keep what it commits: {facts}")
        contestants: dict[str, Contestant] = {}
        try:
            for variant in variants:
                contestants[variant.name] = await _enter(server, variant, plan.accounts)
            measured = await _rounds(lines, contestants, attachment, issuer, plan, loads)
            _judge(lines, contestants, measured)
        finally:
            for one in contestants.values():
                drop_database(one.url)
    return _report(lines, missing, measured, starts, facts, plan, loads)


def _able() -> tuple[list[Served], list[NotRun]]:
    """Which variants can be served here, and which cannot."""
    why = prepare_fastify(FASTIFY_FOLDER)
    missing = [NotRun(FASTIFY.title, why)] if why else []
    return [variant for variant in SERVED if not (why and variant is FASTIFY)], missing


async def _enter(server: str, variant: Served | Yardstick, accounts: int) -> Contestant:
    """Make the database of a variant."""
    _note(f"filling the books of {variant.name}")
    make = make_bank if variant.ledger == "bank" else make_plain_ledger
    url = fresh_database(server)
    try:
        await asyncio.to_thread(make, url, accounts=accounts)
        return Contestant(variant, url, account_ranges(url, SCHEMAS[variant.ledger]))
    except BaseException:
        drop_database(url)
        raise


def postgres_pid(attachment: Attachment) -> int:
    """The main process of the embedded Postgres.

    Raises:
        MeasurementError: it has ended.
    """
    for server in status(attachment.folder).servers:
        if server.name is ServerName.POSTGRES and server.pid is not None:
            return server.pid
    raise MeasurementError(f"the Postgres of {attachment.folder} has ended meanwhile")


async def _rounds(
    lines: Sequence[Line],
    contestants: Mapping[str, Contestant],
    attachment: Attachment,
    issuer: Issuer,
    plan: Plan,
    loads: list[float],
) -> dict[str, list[Measurement]]:
    pid, tokens = postgres_pid(attachment), issuer.mint()
    measured: dict[str, list[Measurement]] = {line.name: [] for line in lines}
    for number in range(1, plan.rounds + 1):
        for line in lines:
            one = contestants[line.variant.name]
            await checkpoint(one.url)
            if isinstance(line.variant, Yardstick):
                figures = await measure_pgbench(
                    one.url,
                    one.accounts,
                    pid,
                    line.variant.ledger,
                    hot=line.hot,
                    warmup_seconds=plan.options.warmup_seconds,
                    seconds=plan.options.seconds,
                )
            else:
                servers = Servers(database=one.url, cache=attachment.cache_url or "", issuer=issuer.name)
                figures = await measure_served(
                    line.variant,
                    servers,
                    one.accounts,
                    tokens,
                    pid,
                    plan.options,
                    connections=line.connections,
                    hot=line.hot,
                )
            measured[line.name].append(figures)
            loads.append(os.getloadavg()[0])
            _note(f"round {number} of {plan.rounds}: {line.name} {figures.rate:,.0f}/s, load average {loads[-1]:.1f}")
    return measured


def _judge(
    lines: Sequence[Line], contestants: Mapping[str, Contestant], measured: Mapping[str, Sequence[Measurement]]
) -> None:
    faults: list[str] = []
    for name, one in contestants.items():
        acknowledged = sum(
            figures.acknowledged for line in lines if line.variant is one.variant for figures in measured[line.name]
        )
        books = read_books(one.url, SCHEMAS[one.variant.ledger])
        faults += judge_books(name, books, acknowledged, distinct=isinstance(one.variant, Served))
        if isinstance(one.variant, Served) and one.variant.tells:
            faults += judge_told(name, read_told(one.url), acknowledged)
    if faults:
        raise MeasurementError("the books are not right, so no figure counts:\n" + "\n".join(faults))


def _report(
    lines: Sequence[Line],
    missing: Sequence[NotRun],
    measured: Mapping[str, Sequence[Measurement]],
    starts: Starts,
    facts: ServerFacts,
    plan: Plan,
    loads: Sequence[float],
) -> str:
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("granian", "fastapi", "sqlalchemy", "django", "djangorestframework")
    )
    node = f", node {node_version()}" if node_version() else ""
    transfers = sum(figures.acknowledged for all_of_one in measured.values() for figures in all_of_one)
    workers = f"{plan.options.workers} worker{'s' if plan.options.workers > 1 else ''}"
    runs = f"{plan.rounds} rounds of {plan.options.seconds:g} s"
    said = [
        f"{os.cpu_count()} cores, Python {platform.python_version()}, psycopg {psycopg.__version__}, {packages}{node}",
        f"Postgres {facts.version}, fsync on; {plan.accounts:,} accounts; {workers}; {runs}",
        f"load average {min(loads):.1f} to {max(loads):.1f}",
        "",
        table(rows(measured, lines)),
        *map(str, missing),
        "",
        f"all get the requests of {TOKENS:,} callers with a token each; only the bank checks token, scope and rate",
        f"correct: all books balance, and each of {transfers:,} acknowledged transfers is in them once;",
        "each of the bank's has one event, its advice or the job for it, and its kept reply",
        *map(str, claims(measured, lines)),
        *map(str, start_claims(measured, lines[0], starts)),
    ]
    return "\n".join(said)


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and run."""
    defaults = RunOptions()
    parser = argparse.ArgumentParser(prog="python -m bank", description="Time the bank beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one second a line: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="measured per line and round")
    parser.add_argument("--warmup-seconds", type=float, default=defaults.warmup_seconds)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--workers", type=int, default=defaults.workers, help="processes of each server")
    parser.add_argument("--accounts", type=int, default=10_000)
    given = parser.parse_args()
    if min(given.rounds, given.seconds, given.workers, *given.connections) < 1 or given.accounts < 20:
        parser.error("it takes a round, a second, a connection, a worker and 20 accounts at least")
    options = RunOptions(workers=given.workers, warmup_seconds=given.warmup_seconds, seconds=given.seconds)
    plan = Plan(
        options=QUICK if given.quick else options,
        connections=(16,) if given.quick else tuple(dict.fromkeys(given.connections)),
        accounts=given.accounts,
        rounds=1 if given.quick else given.rounds,
    )
    return conduct(compare(plan))


if __name__ == "__main__":
    sys.exit(main())
