"""The books: what the bank holds and has moved, and the proof that it adds up.

`read` costs one pass over the accounts, because each account carries the count and sum of what it paid: cheap enough
to be asked each second. `audit` goes through the whole journal and trusts none of these figures.
"""

from typing import Final

from pydantic import BaseModel

from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["Audit", "AuditedCurrency", "Books", "CurrencyBooks", "audit", "read"]

QUERIES: Final = load_queries("bank", "sql/queries.sql")


class CurrencyBooks(BaseModel):
    """One currency. `total`, the sum of all balances, is zero in books that balance. Minor units."""

    currency: str
    accounts: int
    total: int
    volume: int


class Books(BaseModel):
    """The whole bank."""

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


async def read(work: Work) -> Books:
    """Sum the accounts up."""
    cursor = await work.execute(QUERIES["books"])
    rows = await cursor.fetchall()
    currencies = [
        CurrencyBooks(currency=currency, accounts=accounts, total=int(total), volume=int(volume))
        for currency, accounts, total, _, volume in rows
    ]
    return Books(
        balanced=all(books.total == 0 for books in currencies),
        transfers=sum(int(row[3]) for row in rows),
        currencies=currencies,
    )


async def audit(work: Work) -> Audit:
    """Compare each account with the sum of its entries."""
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
    )
