"""What is between the routes and the SQL: accounts, transfers, payment files and books, each in a unit of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import ValidationError

from bank import accounts, books, payments, transfers
from bank.accounts import AccountOrder
from bank.pain001 import parse
from bank.problems import (
    AccountNotFound,
    AlreadyReversed,
    CreditorCannotRepay,
    DuplicateMessage,
    InsufficientFunds,
    IsReversal,
    TransferNotFound,
)
from bank.transfers import REFUSALS, Transfer, TransferOrder
from tests.bank.ledgers import Connection, balances, faults_of_the_books, funded, open_account, post
from tests.bank.paymentfiles import File, Payment, Transaction
from tests.bank.units import unit_on
from workhorse import Work
from workhorse.batches import Kept
from workhorse.errors import Problem

Result = TypeVar("Result")


def in_a_unit(url: str, story: Callable[[Work], Awaitable[Result]]) -> Result:
    """Tell a story in a unit of its own, as a route does. A problem that is to be kept commits all the same."""

    async def tell() -> Result:
        async with unit_on(url) as work:
            try:
                return await story(work)
            except Problem as error:
                problem = error
        assert work.keeps == (problem.status in {409, 422})
        raise problem

    return asyncio.run(tell())


def transfer_order(debtor: int, creditor: int, amount: int) -> TransferOrder:
    return TransferOrder(debtor=debtor, creditor=creditor, currency="EUR", amount=amount, reference="rent")


def test_an_account_is_opened_empty_and_found_again(bank_database: str) -> None:
    order = AccountOrder(owner="Ada", currency="JPY")
    opened = in_a_unit(bank_database, lambda work: accounts.open_account(work, order))
    assert (opened.owner, opened.currency, opened.balance, opened.floor) == ("Ada", "JPY", 0, 0)
    assert in_a_unit(bank_database, lambda work: accounts.find(work, opened.id)) == opened


def test_an_unknown_account_or_transfer_is_not_found(bank_database: str) -> None:
    with pytest.raises(AccountNotFound, match="77"):
        in_a_unit(bank_database, lambda work: accounts.find(work, 77))
    with pytest.raises(AccountNotFound, match="77"):
        in_a_unit(bank_database, lambda work: accounts.statement(work, 77, limit=5, before=None))
    with pytest.raises(TransferNotFound, match="77"):
        in_a_unit(bank_database, lambda work: transfers.find(work, 77))


@pytest.mark.parametrize(
    "body",
    [
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1.0}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": "1"}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": true}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 0}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 9007199254740992}',
        '{"debtor": 9223372036854775808, "creditor": 2, "currency": "EUR", "amount": 1}',
        '{"debtor": 0, "creditor": 2, "currency": "EUR", "amount": 1}',
        '{"debtor": 1, "creditor": 2, "currency": "eur", "amount": 1}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1, "fee": 1}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1, "reference": "a\\u0000b"}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1, "reference": "a\\nb"}',
        '{"debtor": 1, "creditor": 2, "currency": "EUR"}',
    ],
)
def test_an_order_that_is_not_exactly_one_is_refused(body: str) -> None:
    with pytest.raises(ValidationError):
        TransferOrder.model_validate_json(body)


def test_a_transfer_is_posted_and_found_again(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    order = transfer_order(debtor, creditor, 30)
    (posted,) = in_a_unit(bank_database, lambda work: transfers.post.function(work, [order]))
    assert isinstance(posted, Transfer)
    assert (posted.debtor, posted.creditor, posted.amount, posted.reference) == (debtor, creditor, 30, "rent")
    assert in_a_unit(bank_database, lambda work: transfers.find(work, posted.id)) == posted
    assert balances(ledger)[creditor] == 30


def test_a_refused_transfer_is_a_problem_that_is_kept_and_its_neighbours_are_posted(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    orders = [transfer_order(debtor, creditor, amount) for amount in (60, 101, 40, 1)]
    outcomes = in_a_unit(bank_database, lambda work: transfers.post.function(work, orders))
    assert [type(outcome) for outcome in outcomes] == [Transfer, Kept, Transfer, Kept]
    assert all(isinstance(outcome.problem, InsufficientFunds) for outcome in outcomes if isinstance(outcome, Kept))
    assert balances(ledger)[creditor] == 100


def test_every_outcome_of_the_ledger_has_a_problem_of_its_own() -> None:
    assert len(set(REFUSALS.values())) == len(REFUSALS)
    assert len({problem.type for problem in REFUSALS.values()}) == len(REFUSALS)


def test_a_reversal_takes_a_transfer_back_once(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    transfer = post(ledger, debtor, creditor, 30).transfer
    assert transfer is not None
    reversal = in_a_unit(bank_database, lambda work: transfers.reverse(work, transfer))
    assert (reversal.debtor, reversal.creditor, reversal.amount) == (creditor, debtor, 30)
    assert reversal.reverses == transfer
    assert in_a_unit(bank_database, lambda work: transfers.find(work, reversal.id)) == reversal
    assert balances(ledger)[debtor] == 100
    with pytest.raises(AlreadyReversed):
        in_a_unit(bank_database, lambda work: transfers.reverse(work, transfer))
    with pytest.raises(IsReversal):
        in_a_unit(bank_database, lambda work: transfers.reverse(work, reversal.id))


def test_a_creditor_who_spent_the_money_cannot_repay(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    transfer = post(ledger, debtor, creditor, 30).transfer
    assert transfer is not None
    post(ledger, creditor, debtor, 1)
    with pytest.raises(CreditorCannotRepay):
        in_a_unit(bank_database, lambda work: transfers.reverse(work, transfer))


def test_a_statement_runs_page_by_page_with_the_balance_after_each_entry(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 500)
    for amount in (1, 2, 3, 4):
        post(ledger, debtor, creditor, amount)
        post(ledger, creditor, debtor, 10 * amount)
    running: list[tuple[int, int]] = []
    before: int | None = None
    for _ in range(5):
        read = partial(accounts.statement, account=creditor, limit=2, before=before)
        page = in_a_unit(bank_database, read)
        assert page.account.balance == 500 + 10 - 100
        running += [(entry.amount, entry.balance) for entry in page.entries]
        before = page.next
        if before is None:
            break
    assert before is None
    assert [amount for amount, _ in running] == [-40, 4, -30, 3, -20, 2, -10, 1, 500]
    for (amount, balance), (_, previous) in zip(running, [*running[1:], (0, 0)], strict=True):
        assert balance == previous + amount


def test_the_statement_of_a_new_account_is_empty(bank_database: str, ledger: Connection) -> None:
    account = open_account(ledger)
    page = in_a_unit(bank_database, lambda work: accounts.statement(work, account, limit=50, before=None))
    assert (page.account.id, page.entries, page.next) == (account, [], None)


def test_a_payment_file_posts_what_it_can_and_reports_the_rest(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 10_000, 0)
    (iban,) = ledger.execute("SELECT iban FROM bank.accounts WHERE id = %s", (debtor,)).fetchone() or ("",)
    wishes = [
        Transaction(end_to_end_id="fits", amount="60.00", creditor=str(creditor), remittance="thanks"),
        Transaction(end_to_end_id="too much", amount="50.00", creditor=str(creditor)),
        Transaction(end_to_end_id="elsewhere", amount="1.00"),
        Transaction(end_to_end_id="dollars", amount="1.00", currency="USD", creditor=str(creditor)),
        Transaction(end_to_end_id="itself", amount="1.00", creditor=str(debtor)),
        Transaction(end_to_end_id="just fits", amount="40.00", creditor=str(creditor)),
    ]
    file = parse(
        File(payments=[Payment(transactions=wishes, debtor=iban), Payment(transactions=[Transaction()])]).xml()
    )
    report = in_a_unit(bank_database, lambda work: payments.take_in(work, file))
    assert (report.posted, report.refused) == (2, 5)
    assert [
        (one.end_to_end_id, one.problem and one.problem.type.rpartition(":")[2]) for one in report.transactions
    ] == [
        ("fits", None),
        ("too much", "insufficient-funds"),
        ("elsewhere", "unknown-creditor"),
        ("dollars", "currency-mismatch"),
        ("itself", "same-account"),
        ("just fits", None),
        ("E2E-1", "unknown-debtor"),
    ]
    assert balances(ledger)[creditor] == 10_000
    references = ledger.execute("SELECT reference FROM bank.transfers WHERE creditor = %s ORDER BY id", (creditor,))
    assert references.fetchall() == [("thanks",), ("just fits",)]
    assert faults_of_the_books(ledger) == []


def test_a_message_is_taken_in_once_for_each_party(bank_database: str, ledger: Connection) -> None:
    file = parse(File().xml())
    in_a_unit(bank_database, lambda work: payments.take_in(work, file))
    with pytest.raises(DuplicateMessage):
        in_a_unit(bank_database, lambda work: payments.take_in(work, file))
    other = replace(file, initiating_party="Somebody else")
    assert in_a_unit(bank_database, lambda work: payments.take_in(work, other)).refused == 1


def test_the_sample_file_is_taken_in(bank_database: str, ledger: Connection, samples: Path) -> None:
    file = parse((samples / "valid_03.xml").read_bytes())
    report = in_a_unit(bank_database, lambda work: payments.take_in(work, file))
    assert (report.message_id, report.posted, report.refused) == ("PAYROLL-2026-01", 0, 3)


def test_the_books_add_up_what_was_moved(bank_database: str, ledger: Connection) -> None:
    first, second = funded(ledger, 100, 0)
    funded(ledger, 7, currency="JPY")
    post(ledger, first, second, 30)
    read = in_a_unit(bank_database, books.count)
    assert read.model_dump(exclude={"at"}) == {
        "balanced": True,
        "transfers": 3,
        "currencies": [
            {"currency": "EUR", "accounts": 3, "total": 0, "volume": 130},
            {"currency": "JPY", "accounts": 2, "total": 0, "volume": 7},
        ],
    }
    audited = in_a_unit(bank_database, books.audit)
    assert audited.balanced
    assert (audited.transfers, [one.volume for one in audited.currencies]) == (3, [130, 7])


def test_an_audit_finds_what_was_done_behind_the_back_of_the_triggers(bank_database: str, ledger: Connection) -> None:
    first, second = funded(ledger, 100, 0)
    ledger.execute("ALTER TABLE bank.accounts DISABLE TRIGGER USER")
    ledger.execute("UPDATE bank.accounts SET balance = 50 WHERE id IN (%s, %s)", (first, second))
    # The sum is as before, so only the comparison with the entries can tell.
    assert in_a_unit(bank_database, books.count).balanced
    audited = in_a_unit(bank_database, books.audit)
    assert not audited.balanced
    assert [one.wrong for one in audited.currencies] == [2]
    ledger.execute("UPDATE bank.accounts SET balance = 51 WHERE id = %s", (first,))
    assert not in_a_unit(bank_database, books.count).balanced


def test_an_empty_bank_is_balanced(bank_database: str) -> None:
    counted = in_a_unit(bank_database, books.count)
    assert (counted.balanced, counted.transfers, counted.currencies) == (True, 0, [])
