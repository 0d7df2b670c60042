import time

import psycopg

from bank.money import EXPONENTS
from bank.seed import seed
from tests.bank.ledgers import Connection, faults_of_the_books


def quietly(line: str) -> None:
    """Say nothing."""


def test_the_books_balance_from_the_first_row(bank_database: str, ledger: Connection) -> None:
    said: list[str] = []
    assert seed(bank_database, accounts=23, opening_balance=500, report=said.append) == 23
    assert faults_of_the_books(ledger) == []
    rows = ledger.execute(
        "SELECT currency, count(*), min(balance), max(balance) FROM bank.accounts WHERE floor = 0 GROUP BY currency"
    ).fetchall()
    assert {currency for currency, *_ in rows} == set(EXPONENTS)
    assert all(number in {4, 5} and low == high == 500 for _, number, low, high in rows)
    treasuries = ledger.execute("SELECT currency, balance FROM bank.accounts WHERE floor < 0").fetchall()
    assert dict(treasuries) == {currency: -500 * number for currency, number, *_ in rows}
    assert said == ["treasuries: EUR, GBP, JPY, KWD, USD", "customers: 23 opened", "opening balances: 23 posted"]


def test_a_second_seed_adds_only_what_is_missing(bank_database: str, ledger: Connection) -> None:
    assert seed(bank_database, accounts=10, report=quietly) == 10
    assert seed(bank_database, accounts=10, report=quietly) == 0
    assert seed(bank_database, accounts=12, opening_balance=7, report=quietly) == 2
    assert ledger.execute("SELECT count(*) FROM bank.transfers").fetchone() == (12,)
    assert ledger.execute("SELECT count(*) FROM bank.accounts WHERE balance = 7").fetchone() == (2,)
    assert faults_of_the_books(ledger) == []


def test_a_seed_without_money_opens_empty_accounts(bank_database: str, ledger: Connection) -> None:
    assert seed(bank_database, accounts=5, opening_balance=0, report=quietly) == 5
    assert ledger.execute("SELECT count(*) FROM bank.transfers").fetchone() == (0,)


def test_ten_thousand_accounts_are_there_within_seconds(bank_database: str) -> None:
    before = time.monotonic()
    assert seed(bank_database, report=quietly) == 10_000
    assert time.monotonic() - before < 20
    with psycopg.connect(bank_database) as connection:
        assert faults_of_the_books(connection) == []
