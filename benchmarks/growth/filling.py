"""A bank whose tables have grown: so many events, kept replies and finished jobs beside a few thousand accounts.

Half of the events are of this month, where new ones go, and a quarter each of the two months before; so with the jobs
and days. The replies are of four days. Nothing is invented about where a row would be: the partitions are the code's
own, and so are the indexes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg

from benchmarks.bank.databases import account_ranges, make_bank
from benchmarks.load.messages import AccountRange
from workhorse.sql import load_queries

__all__ = ["Grown", "bytes_needed", "counted", "make_grown", "run_query", "scope_of", "shares"]

QUERIES: Final = load_queries("benchmarks.growth", "fill.sql")
BYTES_A_ROW: Final = 1_500
"""An event, a reply and a finished job together, with their indexes; rounded up, for what is written on the way."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A database whose tables hold so many rows each."""

    rows: int
    url: str
    accounts: tuple[AccountRange, ...]
    bytes: int


def shares(rows: int) -> tuple[int, int, int]:
    """How many of the rows are of this month or day, and of the two before it."""
    quarter = rows // 4
    return rows - 2 * quarter, quarter, quarter


def bytes_needed(sizes: list[int]) -> int:
    """Disk for databases of these sizes."""
    return sum(sizes) * BYTES_A_ROW


def scope_of(number: int) -> UUID:
    """The scope of the reply of this number, counted from 1."""
    return UUID(hashlib.md5(f"reply {number}".encode(), usedforsecurity=False).hexdigest())


def make_grown(url: str, *, rows: int, accounts: int) -> Grown:
    """Give an empty database the bank's schema, and grow its tables.

    Raises:
        MeasurementError: one of the bank's own commands failed.
    """
    make_bank(url, accounts=accounts)
    with psycopg.connect(url, autocommit=True) as connection:
        # Of this session only: what is filled is lost with its database anyway.
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '256MB'")
        for name in ("months", "days"):
            connection.execute(_sql(name))
        # The oldest first.
        for ago, share in reversed(list(enumerate(shares(rows)))):
            connection.execute(_sql("events"), {"rows": share, "months_ago": ago})
            connection.execute(_sql("finished_jobs"), {"rows": share, "days_ago": ago})
        connection.execute(_sql("replies"), {"rows": rows})
        connection.execute("VACUUM ANALYZE")
        ((size,),) = connection.execute(_sql("bytes")).fetchall()
    return Grown(rows, url, account_ranges(url, "bank"), size)


def counted(url: str) -> tuple[int, int, int]:
    """How many events, replies and finished jobs there are."""
    with psycopg.connect(url) as connection:
        ((events, replies, jobs),) = connection.execute(_sql("counted")).fetchall()
    return events, replies, jobs


def run_query(url: str, name: str, params: Mapping[str, Any]) -> int:
    """Run one of the queries of fill.sql, and return how many rows it touched."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(_sql(name), params).rowcount


def _sql(name: str) -> bytes:
    # As bytes, because psycopg types its text queries as literals, and these come from a file.
    return QUERIES[name].encode()
