"""What the tests of the ledger have in common: opening accounts, posting, and the sum that must be zero."""

from typing import Any, NamedTuple

import psycopg

from bank.money import LARGEST

Connection = psycopg.Connection[tuple[Any, ...]]


class Order(NamedTuple):
    debtor: int
    creditor: int
    currency: str
    amount: int


class Posting(NamedTuple):
    outcome: str
    transfer: int | None


def open_account(ledger: Connection, currency: str = "EUR", *, floor: int = 0) -> int:
    """Open an account and return its id."""
    row = ledger.execute(
        "INSERT INTO bank.accounts (owner, currency, floor) VALUES ('somebody', %s, %s) RETURNING id", (currency, floor)
    ).fetchone()
    assert row is not None
    account: int = row[0]
    return account


def open_treasury(ledger: Connection, currency: str = "EUR") -> int:
    """Open the account that funds the others."""
    return open_account(ledger, currency, floor=-LARGEST)


def post(ledger: Connection, debtor: int, creditor: int, amount: int, currency: str = "EUR") -> Posting:
    """Post a transfer as the app does."""
    row = ledger.execute(
        "SELECT outcome, transfer FROM bank.post_transfer(%s, %s, %s, %s, '')", (debtor, creditor, currency, amount)
    ).fetchone()
    assert row is not None
    return Posting(*row)


def reverse(ledger: Connection, transfer: int) -> Posting:
    """Take a transfer back as the app does."""
    row = ledger.execute("SELECT outcome, transfer FROM bank.reverse_transfer(%s)", (transfer,)).fetchone()
    assert row is not None
    return Posting(*row)


def funded(ledger: Connection, *balances: int, currency: str = "EUR", treasury: int | None = None) -> list[int]:
    """Open one account for each balance, funded by the treasury, which is opened if there is none; return them."""
    if treasury is None:
        treasury = open_treasury(ledger, currency)
    accounts = [open_account(ledger, currency) for _ in balances]
    for account, balance in zip(accounts, balances, strict=True):
        if balance:
            assert post(ledger, treasury, account, balance, currency).outcome == "posted"
    return accounts


def balances(ledger: Connection) -> dict[int, int]:
    """Every account's balance."""
    return dict(ledger.execute("SELECT id, balance FROM bank.accounts").fetchall())


def faults_of_the_books(ledger: Connection) -> list[tuple[Any, ...]]:
    """Accounts that differ from their entries, and currencies that do not add up to zero. Empty in sound books."""
    accounts = ledger.execute(
        "SELECT account.id, account.balance FROM bank.accounts AS account"
        " LEFT JOIN bank.entries AS entry ON entry.account = account.id"
        " GROUP BY account.id HAVING account.balance <> coalesce(sum(entry.amount), 0)"
        " OR account.debits <> count(*) FILTER (WHERE entry.amount < 0)"
        " OR account.debited <> coalesce(-sum(entry.amount) FILTER (WHERE entry.amount < 0), 0)"
    ).fetchall()
    return (
        accounts
        + ledger.execute(
            "SELECT currency, sum(balance) FROM bank.accounts GROUP BY currency HAVING sum(balance) <> 0"
        ).fetchall()
    )
