"""One database a variant, all in one embedded Postgres, all filled with the same accounts; and their books.

After the load the books say whether the figures may be believed: every balance is the sum of its entries, and each
transfer that a client was told of is there once; and of the bank, that each has its event, its advice or the job that
will write it, and its kept reply.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError
from workhorse.sql import load_queries

__all__ = [
    "BANK_FOLDER",
    "BENCHMARKS",
    "DRIVER",
    "Books",
    "ServerFacts",
    "Told",
    "account_ranges",
    "checkpoint",
    "in_driver",
    "judge_books",
    "judge_told",
    "make_bank",
    "make_plain_ledger",
    "read_books",
    "read_facts",
    "read_told",
]

BENCHMARKS: Final = Path(__file__).parents[1]
BANK_FOLDER: Final = BENCHMARKS.parent / "examples" / "bank"
"""Where the bank's own package is; not importable from here, where `bank` is this package."""
SEED_SECONDS: Final = 120
DRIVER: Final = "asyncpg"
"""What the SQLAlchemy peer speaks to Postgres with."""
CURRENCIES: Final = ("EUR", "GBP", "JPY", "KWD", "USD")
QUERIES: Final = load_queries("benchmarks.bank", "books.sql")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the figures depend on, as the server itself tells it."""

    version: str
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    shared_buffers: str = ""

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash."""
        return (self.fsync, self.synchronous_commit, self.full_page_writes) == ("on", "on", "on")


@dataclass(frozen=True, slots=True)
class Books:
    """What is in a variant's books. Opening balances are not counted as transfers."""

    transfers: int
    distinct_references: int
    total: int
    """Sum of all balances: zero in books that balance."""
    wrong_accounts: int
    """Accounts whose balance is not the sum of their entries."""


def judge_books(name: str, books: Books, acknowledged: int, *, distinct: bool) -> list[str]:
    """What is wrong with the books of `name`; nothing, if all is well.

    Args:
        name: the variant's.
        books: its books after the load.
        acknowledged: transfers that its clients were told of.
        distinct: whether each of them had a reference of its own.
    """
    faults: list[str] = []
    if books.total:
        faults.append(f"{name}: the books do not balance, the sum of all balances is {books.total}")
    if books.wrong_accounts:
        faults.append(f"{name}: {books.wrong_accounts} balances are not the sums of their entries")
    if books.transfers != acknowledged:
        faults.append(f"{name}: {acknowledged} transfers were acknowledged, and {books.transfers} are in the books")
    if distinct and books.distinct_references != books.transfers:
        faults.append(f"{name}: {books.transfers - books.distinct_references} transfers are in the books twice")
    return faults


@dataclass(frozen=True, slots=True)
class Told:
    """What the bank has for its transfers beside the books, in numbers of transfers."""

    events: int
    announced: int
    """Transfers with an event."""
    advised: int
    waiting: int
    """Transfers for which a job is still to write the advice."""
    replies: int


def judge_told(name: str, told: Told, acknowledged: int) -> list[str]:
    """What of the acknowledged transfers of `name` was lost, or is there twice; nothing, if all is well."""
    faults: list[str] = []
    if (told.events, told.announced) != (acknowledged, acknowledged):
        faults.append(
            f"{name}: {acknowledged} transfers were acknowledged; {told.events} events name {told.announced} of them"
        )
    if told.advised + told.waiting != acknowledged:
        faults.append(
            f"{name}: of {acknowledged} transfers {told.advised} have their advice, and {told.waiting} a job for it"
        )
    if told.replies != acknowledged:
        faults.append(f"{name}: {acknowledged} transfers were acknowledged, and {told.replies} replies are kept")
    return faults


def make_bank(url: str, *, accounts: int) -> None:
    """Give an empty database the bank's own schema, and fill it.

    Raises:
        MeasurementError: one of the bank's own commands failed.
    """
    environment = {**os.environ, "DATABASE_URL": url}
    _run([_beside_python("workhorse"), "migrate", "bank.app:service"], BANK_FOLDER, environment)
    _run([sys.executable, "-m", "bank.seed", "--accounts", str(accounts)], BANK_FOLDER, environment)
    _refresh(url)


def make_plain_ledger(url: str, *, accounts: int) -> None:
    """Give an empty database the tables of the SQLAlchemy peer, and fill it alike.

    Raises:
        MeasurementError: the peer's own command failed.
    """
    environment = {**os.environ, "DATABASE_URL": in_driver(url, DRIVER)}
    # In a process of its own, as the bank's: this one has no need of SQLAlchemy.
    _run([sys.executable, "-m", "benchmarks.peers.sqlalchemy_bank"], BENCHMARKS, environment)
    with psycopg.connect(url) as connection:
        for name in ("open_treasuries", "open_customers", "fund_transfers", "fund_entries", "fund_balances"):
            connection.execute(_sql(name), {"currencies": list(CURRENCIES), "accounts": accounts})
    _refresh(url)


def account_ranges(url: str, schema: str) -> tuple[AccountRange, ...]:
    """The customers' accounts by currency, as ranges of ids.

    Raises:
        MeasurementError: the ids of a currency are not evenly spaced, so that no range names them all.
    """
    ranges: list[AccountRange] = []
    for currency, first, last, count in _rows(url, schema, "ranges"):
        step = (last - first) // max(1, count - 1)
        if count < 2 or first + step * (count - 1) != last:
            raise MeasurementError(f"the ids of the {count} accounts in {currency} are not evenly spaced")
        ranges.append(AccountRange(currency, first, step, count))
    return tuple(ranges)


def read_books(url: str, schema: str) -> Books:
    """Add up the books from the journal."""
    ((transfers, distinct),) = _rows(url, schema, "journal")
    ((total, wrong),) = _rows(url, schema, "balances")
    return Books(transfers, distinct, int(total), wrong)


def read_told(url: str) -> Told:
    """Count what the bank has for its transfers beside the books. Only while no job is running."""
    ((events, announced, advised, waiting, replies),) = _rows(url, "bank", "told")
    return Told(events, announced, advised, waiting, replies)


def read_facts(url: str) -> ServerFacts:
    """Ask the server what the figures depend on."""
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
    with psycopg.connect(url) as connection:
        return ServerFacts(*(_setting(connection, name) for name in names))


async def checkpoint(url: str) -> None:
    """Write everything to disk, so that no variant pays for what the one before it left."""

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    await asyncio.to_thread(write)


def in_driver(url: str, driver: str) -> str:
    """The URL as SQLAlchemy wants it, with the driver in its scheme."""
    parts = urlsplit(url)
    return urlunsplit((f"postgresql+{driver}", parts.netloc, parts.path, parts.query, ""))


def _refresh(url: str) -> None:
    """Leave no dead rows of the filling behind, and tell the planner what is there."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _setting(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _rows(url: str, schema: str, query: str) -> Sequence[tuple[Any, ...]]:
    with psycopg.connect(url, options=f"-c search_path={schema}") as connection:
        return connection.execute(_sql(query)).fetchall()


def _sql(name: str) -> bytes:
    # As bytes, because psycopg types its text queries as literals, and these come from a file.
    return QUERIES[name].encode()


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SEED_SECONDS, check=False
    )
    if done.returncode != 0:
        raise MeasurementError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
