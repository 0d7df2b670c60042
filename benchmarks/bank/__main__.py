"""The bank beside its peers, in one run, on one Postgres, under one load.

    python -m bank --rounds 5 --seconds 10

Prints a table and the claims. The variants take turns (A B C A B C), and the medians over the rounds count. The exit
code is 1, and no figure is printed, if a book does not balance or lacks a transfer that was acknowledged; a claim that
falls short is a figure like any other.
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
    make_bank,
    make_plain_ledger,
    read_books,
    read_facts,
)
from benchmarks.bank.issuer import TOKENS, Issuer, run_issuer
from benchmarks.bank.measuring import Measurement, RunOptions, measure_served
from benchmarks.bank.pgbench import CLIENTS, measure_pgbench
from benchmarks.bank.report import claims, rows, table
from benchmarks.bank.variants import BANK, PGBENCH, PSYCOPG, SERVED, SQLALCHEMY, Ledger, Servers
from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.embedded import Attachment, ServerName, attach, drop_database, fresh_database, status

__all__ = ["main"]

QUICK: Final = RunOptions(connections=16, warmup_seconds=0.5, seconds=1.0)
SCHEMAS: Final[Mapping[Ledger, str]] = {"bank": "bank", "plain": "public"}
ENTRIES: Final[Sequence[tuple[str, str, Ledger]]] = (
    *((variant.name, variant.title, variant.ledger) for variant in SERVED),
    (PGBENCH, f"pgbench, {CLIENTS} clients, no HTTP", "bank"),
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A variant with the database of its own."""

    name: str
    title: str
    schema: str
    url: str
    accounts: tuple[AccountRange, ...]


async def compare(options: RunOptions, *, accounts: int, rounds: int) -> str:
    """Measure every variant in turn, and return what is to be printed.

    Raises:
        MeasurementError: something could not be measured, or the books are not right.
    """
    with run_issuer() as issuer, await asyncio.to_thread(attach, BENCHMARKS / ".workhorse") as attachment:
        server = attachment.database_url
        facts = read_facts(server)
        if not facts.durable:
            raise MeasurementError(f"the embedded Postgres does not keep what it commits: {facts}")
        contestants: list[Contestant] = []
        try:
            for name, title, ledger in ENTRIES:
                contestants.append(await _enter(server, name, title, ledger, accounts))
            measured = await _rounds(contestants, attachment, issuer, options, rounds)
            _judge(contestants, measured)
        finally:
            for one in contestants:
                drop_database(one.url)
    return _report(contestants, measured, facts, options, accounts)


async def _enter(server: str, name: str, title: str, ledger: Ledger, accounts: int) -> Contestant:
    """Make the database of a variant."""
    _note(f"filling the books of {name}")
    make = make_bank if ledger == "bank" else make_plain_ledger
    url = fresh_database(server)
    try:
        await asyncio.to_thread(make, url, accounts=accounts)
        return Contestant(name, title, SCHEMAS[ledger], url, account_ranges(url, SCHEMAS[ledger]))
    except BaseException:
        drop_database(url)
        raise


def _postgres_pid(attachment: Attachment) -> int:
    for server in status(attachment.folder).servers:
        if server.name is ServerName.POSTGRES and server.pid is not None:
            return server.pid
    raise MeasurementError(f"the Postgres of {attachment.folder} has ended meanwhile")


async def _rounds(
    contestants: Sequence[Contestant], attachment: Attachment, issuer: Issuer, options: RunOptions, rounds: int
) -> dict[str, list[Measurement]]:
    postgres_pid, tokens = _postgres_pid(attachment), issuer.mint()
    served = {variant.name: variant for variant in SERVED}
    measured: dict[str, list[Measurement]] = {contestant.name: [] for contestant in contestants}
    for number in range(1, rounds + 1):
        for one in contestants:
            await checkpoint(one.url)
            if one.name == PGBENCH:
                figures = await measure_pgbench(
                    one.url,
                    one.accounts,
                    postgres_pid,
                    warmup_seconds=options.warmup_seconds,
                    seconds=options.seconds,
                )
            else:
                servers = Servers(database=one.url, cache=attachment.cache_url or "", issuer=issuer.name)
                figures = await measure_served(served[one.name], servers, one.accounts, tokens, postgres_pid, options)
            measured[one.name].append(figures)
            _note(f"round {number} of {rounds}: {one.name} {figures.rate:,.0f}/s")
    return measured


def _judge(contestants: Sequence[Contestant], measured: Mapping[str, Sequence[Measurement]]) -> None:
    faults: list[str] = []
    for one in contestants:
        acknowledged = sum(figures.acknowledged for figures in measured[one.name])
        books = read_books(one.url, one.schema)
        faults += judge_books(one.name, books, acknowledged, distinct=one.name != PGBENCH)
    if faults:
        raise MeasurementError("the books are not right, so no figure counts:\n" + "\n".join(faults))


def _report(
    contestants: Sequence[Contestant],
    measured: Mapping[str, Sequence[Measurement]],
    facts: ServerFacts,
    options: RunOptions,
    accounts: int,
) -> str:
    titles = {contestant.name: contestant.title for contestant in contestants}
    packages = ", ".join(f"{name} {version(name)}" for name in ("granian", "fastapi", "sqlalchemy", "uvicorn"))
    transfers = sum(figures.acknowledged for all_of_one in measured.values() for figures in all_of_one)
    stands = claims(
        measured,
        bank=BANK.name,
        psycopg=PSYCOPG.name,
        pgbench=PGBENCH,
        sqlalchemy=[variant.name for variant in SERVED if variant.ledger == "plain"],
    )
    runs = f"{len(measured[BANK.name])} rounds of {options.seconds:g} s"
    load = f"{options.connections} connections, {options.workers} worker{'s' if options.workers > 1 else ''}"
    lines = [
        f"{os.cpu_count()} cores, Python {platform.python_version()}, psycopg {psycopg.__version__}, {packages}",
        f"Postgres {facts.version}, fsync on; {accounts:,} accounts; {load}; {runs}",
        "",
        table(rows(measured, titles, pgbench=PGBENCH, sqlalchemy=SQLALCHEMY.name)),
        "",
        f"all get the requests of {TOKENS:,} callers with a token each; only the bank checks token, scope and rate",
        f"correct: all books balance, and each of {transfers:,} acknowledged transfers is in them once",
        *map(str, stands),
    ]
    return "\n".join(lines)


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and run."""
    defaults = RunOptions()
    parser = argparse.ArgumentParser(prog="python -m bank", description="Time the bank beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one second a variant: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="measured per variant and round")
    parser.add_argument("--warmup-seconds", type=float, default=defaults.warmup_seconds)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--workers", type=int, default=defaults.workers, help="processes of each server")
    parser.add_argument("--accounts", type=int, default=10_000)
    given = parser.parse_args()
    if given.rounds < 1 or given.seconds < 1 or given.connections < 1 or given.workers < 1 or given.accounts < 20:
        parser.error("it takes a round, a second, a connection, a worker and 20 accounts at least")
    options = RunOptions(
        connections=given.connections,
        workers=given.workers,
        warmup_seconds=given.warmup_seconds,
        seconds=given.seconds,
    )
    chosen, rounds = (QUICK, 1) if given.quick else (options, given.rounds)
    return conduct(compare(chosen, accounts=given.accounts, rounds=rounds))


if __name__ == "__main__":
    sys.exit(main())
