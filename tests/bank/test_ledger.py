"""The rules that hold whoever writes: every test goes around the app, straight to the database."""

import threading

import psycopg
import pytest
from psycopg import errors

from bank.money import LARGEST
from tests.bank.ledgers import (
    Connection,
    Order,
    balances,
    faults_of_the_books,
    funded,
    open_account,
    open_treasury,
    post,
    reverse,
)

BY_CONSTRAINT = {
    "a transfer of nothing": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 3, 'EUR', 0)",
        "transfers_amount",
    ),
    "a transfer of less than nothing": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 3, 'EUR', -5)",
        "transfers_amount",
    ),
    "a transfer of more than JSON can say": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (1, 3, 'EUR', 9007199254740992)",
        "transfers_amount",
    ),
    "a transfer to itself": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 2, 'EUR', 5)",
        "transfers_two_accounts",
    ),
    "a transfer from nobody": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (99, 2, 'EUR', 5)",
        "transfers_debtor",
    ),
    "a transfer to nobody": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 99, 'EUR', 5)",
        "transfers_creditor",
    ),
    "a debtor of another currency": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 4, 'JPY', 5)",
        "transfers_debtor",
    ),
    "a creditor of another currency": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 4, 'EUR', 5)",
        "transfers_creditor",
    ),
    "an overdraft": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 3, 'EUR', 101)",
        "accounts_floor",
    ),
    "an overdraft by two transfers of one statement": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 3, 'EUR', 60), (2, 3, 'EUR', 60)",
        "accounts_floor",
    ),
    "a second treasury": (
        "INSERT INTO bank.accounts (owner, currency, floor) VALUES ('x', 'EUR', -1)",
        "accounts_treasury",
    ),
    "a currency that is no code": ("INSERT INTO bank.accounts (owner, currency) VALUES ('x', 'Euro')", "currency_code"),
    "an owner of 141 characters": (
        "INSERT INTO bank.accounts (owner, currency) VALUES (repeat('x', 141), 'EUR')",
        "line_length",
    ),
    "a floor above the balance": ("UPDATE bank.accounts SET floor = 101 WHERE id = 2", "accounts_floor"),
}

BY_TRIGGER = {
    "a balance set by hand": ("UPDATE bank.accounts SET balance = balance + 1 WHERE id = 2", "by transfers only"),
    "two balances set by hand, though their sum stays": (
        "UPDATE bank.accounts SET balance = CASE id WHEN 2 THEN 50 ELSE 50 END WHERE id IN (2, 3)",
        "by transfers only",
    ),
    "a balance set by an upsert": (
        (
            "INSERT INTO bank.accounts (id, owner, currency) OVERRIDING SYSTEM VALUE VALUES (2, 'x', 'EUR') "
            "ON CONFLICT (id) DO UPDATE SET balance = 7"
        ),
        "by transfers only",
    ),
    "a balance set by a merge": (
        (
            "MERGE INTO bank.accounts AS a USING (SELECT 2 AS id) AS s ON a.id = s.id"
            " WHEN MATCHED THEN UPDATE SET balance = 7"
        ),
        "by transfers only",
    ),
    "a count of debits set by hand": ("UPDATE bank.accounts SET debits = 0", "by transfers only"),
    "an account that opens with money": (
        "INSERT INTO bank.accounts (owner, currency, balance) VALUES ('x', 'EUR', 5)",
        "opened empty",
    ),
    "an account that changes its currency": ("UPDATE bank.accounts SET currency = 'JPY'", "keeps its number"),
    "an account that changes its IBAN": ("UPDATE bank.accounts SET iban = 'DE00'", "keeps its number"),
    "an account removed": ("DELETE FROM bank.accounts WHERE id = 3", "never removed"),
    "all accounts removed": ("TRUNCATE bank.accounts CASCADE", "never"),
    "a transfer changed": ("UPDATE bank.transfers SET amount = 1", "never changed"),
    "a transfer removed": ("DELETE FROM bank.transfers", "never changed"),
    "all transfers removed": ("TRUNCATE bank.transfers CASCADE", "never changed"),
    "a reversal of nothing": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount, reverses) VALUES (2, 1, 'EUR', 100, 99)",
        "does not mirror it",
    ),
    "a reversal of another amount": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount, reverses) VALUES (2, 1, 'EUR', 99, 1)",
        "does not mirror it",
    ),
    "a reversal in the same direction": (
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount, reverses) VALUES (1, 2, 'EUR', 100, 1)",
        "does not mirror it",
    ),
}


@pytest.fixture
def three(ledger: Connection) -> Connection:
    """A bank in which the treasury, account 1, paid 100 to account 2; account 3 is empty, and 4 is kept in yen."""
    assert funded(ledger, 100, 0) == [2, 3]
    assert open_account(ledger, "JPY") == 4
    return ledger


@pytest.mark.parametrize(("statement", "constraint"), BY_CONSTRAINT.values(), ids=list(BY_CONSTRAINT))
def test_a_constraint_refuses(three: Connection, statement: str, constraint: str) -> None:
    before = balances(three)
    with pytest.raises(errors.IntegrityError) as refusal:
        three.execute(statement.encode())
    assert refusal.value.diag.constraint_name == constraint
    assert balances(three) == before
    assert faults_of_the_books(three) == []


@pytest.mark.parametrize(("statement", "reason"), BY_TRIGGER.values(), ids=list(BY_TRIGGER))
def test_a_trigger_refuses(three: Connection, statement: str, reason: str) -> None:
    before = balances(three)
    with pytest.raises(errors.IntegrityError, match=reason):
        three.execute(statement.encode())
    assert balances(three) == before
    assert faults_of_the_books(three) == []


def test_the_owner_of_an_account_may_change_its_name(three: Connection) -> None:
    assert three.execute("UPDATE bank.accounts SET owner = 'new' WHERE id = 2").rowcount == 1


def test_one_statement_of_many_transfers_moves_the_net_of_each_account(three: Connection) -> None:
    three.execute(
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount)"
        " VALUES (2, 3, 'EUR', 90), (3, 2, 'EUR', 85), (2, 3, 'EUR', 20), (1, 3, 'EUR', 7)"
    )
    assert balances(three) == {1: -107, 2: 75, 3: 32, 4: 0}
    assert faults_of_the_books(three) == []


def test_a_raw_insert_of_one_transfer_moves_the_balances_too(three: Connection) -> None:
    three.execute("INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (2, 3, 'EUR', 30)")
    assert balances(three) == {1: -100, 2: 70, 3: 30, 4: 0}
    assert faults_of_the_books(three) == []


def test_an_insert_of_no_transfer_moves_nothing(three: Connection) -> None:
    three.execute("INSERT INTO bank.transfers (debtor, creditor, currency, amount) SELECT 2, 3, 'EUR', 1 WHERE false")
    assert faults_of_the_books(three) == []


@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        (Order(2, 3, "EUR", 100), "posted"),
        (Order(2, 3, "EUR", 101), "insufficient_funds"),
        (Order(2, 2, "EUR", 1), "same_account"),
        (Order(98, 98, "EUR", 1), "same_account"),
        (Order(98, 99, "EUR", 1), "unknown_debtor"),
        (Order(98, 2, "EUR", 1), "unknown_debtor"),
        (Order(2, 98, "EUR", 1), "unknown_creditor"),
        (Order(2, 4, "EUR", 1), "currency_mismatch"),
        (Order(2, 4, "JPY", 1), "currency_mismatch"),
        (Order(2, 3, "USD", 1), "currency_mismatch"),
        (Order(1, 3, "EUR", LARGEST + 1), "overflow"),
        (Order(1, 3, "EUR", 2**63 - 1), "overflow"),
        (Order(1, 3, "EUR", LARGEST - 100), "posted"),
        (Order(1, 3, "EUR", LARGEST), "insufficient_funds"),
        (Order(1, 2, "EUR", LARGEST - 100), "posted"),
        (Order(1, 2, "EUR", LARGEST - 99), "insufficient_funds"),
    ],
)
def test_a_transfer_has_one_outcome(three: Connection, order: Order, outcome: str) -> None:
    before = balances(three)
    posting = post(three, order.debtor, order.creditor, order.amount, order.currency)
    assert posting.outcome == outcome
    assert (posting.transfer is not None) == (outcome == "posted")
    assert (balances(three) != before) == (outcome == "posted")
    assert faults_of_the_books(three) == []


def test_a_creditor_who_would_pass_the_ceiling_is_not_paid(three: Connection) -> None:
    assert post(three, 1, 3, LARGEST - 100).outcome == "posted"
    assert post(three, 3, 2, LARGEST - 100).outcome == "posted"
    assert post(three, 2, 3, LARGEST).outcome == "posted"
    # Only one account can hold as much as there is; so the ceiling is met where the treasury itself may go deeper.
    three.execute("UPDATE bank.accounts SET floor = %s WHERE id = 1", (-2 * LARGEST,))
    assert post(three, 1, 3, 1).outcome == "overflow"
    with pytest.raises(errors.CheckViolation) as refusal:
        three.execute("INSERT INTO bank.transfers (debtor, creditor, currency, amount) VALUES (1, 3, 'EUR', 1)")
    assert refusal.value.diag.constraint_name == "accounts_ceiling"


def test_balance_updates_touch_no_index(three: Connection) -> None:
    three.execute("SELECT pg_stat_force_next_flush()")
    for amount in range(1, 40):
        assert post(three, 1, 3, amount).outcome == "posted"
    three.execute("SELECT pg_stat_force_next_flush()")
    row = three.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'accounts'"
    ).fetchone()
    assert row is not None
    # Now and then a page is full of versions that another session may still see; with an index in the way, always.
    assert row[1] >= 0.9 * row[0] > 0


def test_transfers_between_two_hot_accounts_in_both_directions_lose_nothing(bank_database: str) -> None:
    with psycopg.connect(bank_database, autocommit=True) as ledger:
        first, second = funded(ledger, 500, 500)
    problems: list[BaseException] = []
    posted = [0] * 4

    def work(number: int) -> None:
        try:
            with psycopg.connect(bank_database, autocommit=True) as connection:
                ends = (first, second) if number % 2 else (second, first)
                for amount in range(1, 101):
                    posted[number] += post(connection, *ends, amount).outcome == "posted"
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert problems == []
    assert all(posted)
    with psycopg.connect(bank_database, autocommit=True) as ledger:
        after = balances(ledger)
        assert after[first] + after[second] == 1000
        assert ledger.execute("SELECT count(*) FROM bank.transfers").fetchone() == (2 + sum(posted),)
        assert faults_of_the_books(ledger) == []


def test_a_transfer_is_reversed_once_though_two_try_at_once(bank_database: str) -> None:
    with psycopg.connect(bank_database, autocommit=True) as ledger:
        treasury = open_treasury(ledger)
        account = open_account(ledger)
        transfer = post(ledger, treasury, account, 100).transfer
        assert transfer is not None
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def attempt() -> None:
        with psycopg.connect(bank_database, autocommit=True) as connection:
            barrier.wait(timeout=30)
            outcomes.append(reverse(connection, transfer).outcome)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["already_reversed"] * 3 + ["posted"]
    with psycopg.connect(bank_database, autocommit=True) as ledger:
        assert set(balances(ledger).values()) == {0}
        assert faults_of_the_books(ledger) == []
