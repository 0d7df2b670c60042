"""The books: what the bank holds and has moved, and the proof that it adds up.

`count` costs one pass over the accounts, because each account carries the count and sum of what it paid. Every open
page asks for it each second, so `read` has it made once a second for all of them, in all processes. `audit` goes
through the whole journal and trusts none of these figures; what it says is never cached.

Balances of single accounts are not cached. A transfer would have to delete two of them in its unit, on the way that
must be the fastest, to spare others a look-up by primary key, which costs as much as asking the cache.
"""

import time
from typing import Final

from pydantic import BaseModel

from bank.advices import AdviceAudit
from bank.advices import audit as audit_advices
from workhorse.caching import Cache, Caches, Codec
from workhorse.sql import load_queries
from workhorse.units import Work, unit

__all__ = ["Audit", "AuditedCurrency", "Books", "CurrencyBooks", "audit", "count", "open_cache", "read"]

QUERIES: Final = load_queries("bank", "sql/queries.sql")
# How old the figures on the page may be, in seconds; and if they cannot be made any more.
FRESH_SECONDS: Final = 1.0
STALE_SECONDS: Final = 10.0


class CurrencyBooks(BaseModel):
    """One currency. `total`, the sum of all balances, is zero in books that balance. Minor units."""

    currency: str
    accounts: int
    total: int
    volume: int


class Books(BaseModel):
    """The whole bank, as it was counted `at` a time in seconds since 1970."""

    at: float
    balanced: bool
    transfers: int
    currencies: list[CurrencyBooks]


class AuditedCurrency(CurrencyBooks):
    """One currency, proved: `wrong` accounts differ from the sum of their entries."""

    wrong: int


class Audit(BaseModel):
    """The proof over every account and every transfer. `balanced`: all totals are zero and no account is wrong."""

    balanced: bool
    transfers: int
    currencies: list[AuditedCurrency]
    advices: AdviceAudit


def open_cache(caches: Caches) -> Cache[Books]:
    """Where the books are kept for a second."""
    codec = Codec[Books](_encode, Books.model_validate_json)
    return caches.open("books", Books, ttl=FRESH_SECONDS, stale=STALE_SECONDS, codec=codec)


def _encode(books: Books) -> bytes:
    return books.model_dump_json().encode()


async def read(cache: Cache[Books]) -> Books:
    """The books of this second, or, while they are being made, of the one before."""
    return await cache.once("all", _make)


async def _make() -> Books:
    return await count(await unit())


async def count(work: Work) -> Books:
    """Sum the accounts up."""
    cursor = await work.execute(QUERIES["books"])
    rows = await cursor.fetchall()
    currencies = [
        CurrencyBooks(currency=currency, accounts=accounts, total=int(total), volume=int(volume))
        for currency, accounts, total, _, volume in rows
    ]
    return Books(
        at=time.time(),
        balanced=all(books.total == 0 for books in currencies),
        transfers=sum(int(row[3]) for row in rows),
        currencies=currencies,
    )


async def audit(work: Work) -> Audit:
    """Compare each account with the sum of its entries, and what was told with what was posted."""
    cursor = await work.execute(QUERIES["audit"])
    rows = await cursor.fetchall()
    currencies = [
        AuditedCurrency(currency=currency, accounts=accounts, total=int(total), volume=int(volume), wrong=wrong)
        for currency, accounts, total, _, volume, wrong in rows
    ]
    return Audit(
        balanced=all(books.total == 0 and books.wrong == 0 for books in currencies),
        transfers=sum(int(row[3]) for row in rows),
        currencies=currencies,
        advices=await audit_advices(work),
    )
