"""Accounts: opened empty, looked up, and read as a statement."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bank.money import Currency
from bank.problems import AccountNotFound
from workhorse.privacy import INTERNAL, PERSONAL
from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["Account", "AccountOrder", "Entry", "Identifier", "Line", "Statement", "find", "open_account", "statement"]

QUERIES: Final = load_queries("bank", "sql/queries.sql")
# Above every id: the first page of a statement has no entry to come before.
NEWEST: Final = 2**63 - 1

Identifier = Annotated[int, Field(ge=1, le=2**63 - 1)]
# One line of text. Postgres has no place for NUL, and a statement none for line breaks. The control characters are
# written out, because not every reader of the API's document knows their class.
Line = Annotated[str, StringConstraints(max_length=140, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class AccountOrder(BaseModel):
    """The wish to open an account."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    owner: Annotated[Line, Field(min_length=1)]
    currency: Currency


class Account(BaseModel):
    """An account. `balance` and `floor`, the lowest balance allowed, are in minor units."""

    id: Annotated[int, INTERNAL]
    iban: Annotated[str, PERSONAL]
    owner: Annotated[str, PERSONAL]
    currency: Annotated[Currency, INTERNAL]
    balance: Annotated[int, INTERNAL]
    floor: Annotated[int, INTERNAL]


class Entry(BaseModel):
    """One line of a statement: `amount` is negative when paid; `balance` is the one right after it. Minor units."""

    transfer: Annotated[int, INTERNAL]
    counterparty: Annotated[int, INTERNAL]
    amount: Annotated[int, INTERNAL]
    balance: Annotated[int, INTERNAL]
    reference: Annotated[str, PERSONAL]
    posted_at: Annotated[datetime, INTERNAL]


class Statement(BaseModel):
    """Entries, newest first. `next`, where it is not null, is the `before` of the following page."""

    account: Account
    entries: list[Entry]
    next: int | None


async def open_account(work: Work, order: AccountOrder) -> Account:
    """Open an empty account."""
    cursor = await work.execute(QUERIES["open_account"], {"owner": order.owner, "currency": order.currency})
    (row,) = await cursor.fetchall()
    return _account(row)


async def find(work: Work, account: int) -> Account:
    """Look an account up.

    Raises:
        AccountNotFound: there is none with this id.
    """
    cursor = await work.execute(QUERIES["find_account"], {"account": account})
    row = await cursor.fetchone()
    if row is None:
        raise AccountNotFound(f"No account has the id {account}.")
    return _account(row)


async def statement(work: Work, account: int, *, limit: int, before: int | None) -> Statement:
    """Read `limit` entries, newest first, from those older than the transfer `before`.

    Raises:
        AccountNotFound: there is none with this id.
    """
    cursor = await work.execute(
        QUERIES["statement"],
        # One more than asked for: its presence says that there is a next page.
        {"account": account, "before": before if before is not None else NEWEST, "limit": limit + 1},
    )
    rows = await cursor.fetchall()
    if not rows:
        raise AccountNotFound(f"No account has the id {account}.")
    entries = [_entry(row[6:]) for row in rows[:limit] if row[6] is not None]
    return Statement(
        account=_account(rows[0][:6]), entries=entries, next=entries[-1].transfer if len(rows) > limit else None
    )


def _account(row: tuple[int, str, str, Currency, int, int]) -> Account:
    identifier, iban, owner, currency, balance, floor = row
    return Account(id=identifier, iban=iban, owner=owner, currency=currency, balance=balance, floor=floor)


def _entry(row: tuple[int, int, int, int, str, datetime]) -> Entry:
    transfer, counterparty, amount, balance, reference, posted_at = row
    return Entry(
        transfer=transfer,
        counterparty=counterparty,
        amount=amount,
        balance=balance,
        reference=reference,
        posted_at=posted_at,
    )
