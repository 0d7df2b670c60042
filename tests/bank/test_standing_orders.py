"""Standing orders: each is paid once on each of its days, in whatever way and however often that is tried."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import psycopg
import pytest
from pydantic import ValidationError

from bank import standing_orders
from bank.problems import (
    CurrencyMismatch,
    InsufficientFunds,
    SameAccount,
    StandingOrderNotFound,
    StartsInThePast,
    UnknownCreditor,
    UnknownDebtor,
)
from bank.standing_orders import OrderForStanding, StandingOrder
from tests.bank.ledgers import Connection, balances, faults_of_the_books, funded, open_account
from tests.bank.units import unit_on
from tests.bank.workers import bank_on, told, work_off
from workhorse.errors import Problem
from workhorse.units import Unit


def today() -> date:
    return datetime.now(UTC).date()


def give(
    url: str,
    debtor: int,
    creditor: int,
    *,
    amount: int = 10,
    starts: date | None = None,
    every: str = "day",
    currency: str = "EUR",
) -> StandingOrder:
    order = OrderForStanding.model_validate(
        {
            "debtor": debtor,
            "creditor": creditor,
            "currency": currency,
            "amount": amount,
            "reference": "rent",
            "every": every,
            "starts": (starts or today()).isoformat(),
        }
    )

    async def ask() -> StandingOrder:
        async with unit_on(url) as work:
            return await standing_orders.open_order(work, order)

    return asyncio.run(ask())


def pay(url: str, day: date) -> int:
    async def paid() -> int:
        async with unit_on(url) as work:
            return await standing_orders.pay(work, day)

    return asyncio.run(paid())


def read(url: str, order: int) -> StandingOrder:
    async def found() -> StandingOrder:
        async with unit_on(url) as work:
            return await standing_orders.find(work, order)

    return asyncio.run(found())


def test_an_order_is_paid_once_on_each_of_its_days(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    order = give(bank_database, debtor, creditor)
    assert [pay(bank_database, today()) for _ in range(3)] == [1, 0, 0]
    tomorrow = today() + timedelta(days=1)
    assert [pay(bank_database, tomorrow) for _ in range(2)] == [1, 0]
    found = read(bank_database, order.id)
    assert [(payment.due, payment.problem) for payment in found.payments] == [(tomorrow, None), (today(), None)]
    assert found.due == today() + timedelta(days=2)
    assert balances(ledger)[creditor] == 20
    assert faults_of_the_books(ledger) == []


def test_days_that_nobody_lived_through_are_made_up_for_one_by_one(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    give(bank_database, debtor, creditor)
    later = today() + timedelta(days=3)
    assert [pay(bank_database, later) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert balances(ledger)[creditor] == 40


def test_many_that_pay_at_once_pay_each_order_once(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 1_000, 0)
    for _ in range(20):
        give(bank_database, debtor, creditor)

    async def rush() -> list[int]:
        async with bank_on(bank_database) as database:

            async def once() -> int:
                async with Unit(database) as work:
                    return await standing_orders.pay(work, today())

            return await asyncio.gather(*(once() for _ in range(8)))

    assert sum(asyncio.run(rush())) == 20
    assert balances(ledger)[creditor] == 200


def test_a_day_that_was_paid_cannot_be_noted_again(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    give(bank_database, debtor, creditor)
    pay(bank_database, today())
    # As a bug would: the order is due again on the day that was paid.
    ledger.execute("UPDATE bank.standing_orders SET due = starts, turns = 0")
    with pytest.raises(psycopg.errors.UniqueViolation, match="standing_payments_pkey"):
        pay(bank_database, today())
    assert balances(ledger)[creditor] == 10


def test_a_payment_that_is_refused_is_noted_with_its_problem_and_stops_no_other(
    bank_database: str, ledger: Connection
) -> None:
    rich, poor, creditor = funded(ledger, 100, 5, 0)
    refused = give(bank_database, poor, creditor)
    posted = give(bank_database, rich, creditor)
    assert pay(bank_database, today()) == 2
    (payment,) = read(bank_database, refused.id).payments
    assert (payment.transfer, payment.problem) == (None, InsufficientFunds.type)
    (payment,) = read(bank_database, posted.id).payments
    assert payment.transfer is not None
    assert (balances(ledger)[creditor], pay(bank_database, today())) == (10, 0)


@pytest.mark.parametrize(
    ("every", "turns", "day"),
    [("day", 30, "2027-03-02"), ("week", 5, "2027-03-07"), ("month", 1, "2027-02-28"), ("month", 2, "2027-03-31"),
     ("month", 13, "2028-02-29")],
)  # fmt: skip
def test_the_days_of_an_order_follow_from_its_start(
    ledger: Connection, every: Literal["day", "week", "month"], turns: int, day: str
) -> None:
    row = ledger.execute("SELECT bank.day_of('2027-01-31', %s::text::bank.rhythm, %s)", (every, turns)).fetchone()
    assert row == (date.fromisoformat(day),)


def test_an_order_that_was_ended_is_paid_no_more_and_keeps_its_past(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    order = give(bank_database, debtor, creditor)
    pay(bank_database, today())

    async def end() -> StandingOrder:
        async with unit_on(bank_database) as work:
            return await standing_orders.end(work, order.id)

    ended = asyncio.run(end())
    assert (ended.due, len(ended.payments)) == (None, 1)
    assert pay(bank_database, today() + timedelta(days=9)) == 0


def test_an_order_that_cannot_be_paid_is_not_taken(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    dollars = open_account(ledger, "USD")
    refused: list[type[Problem]] = []
    for payer, payee, starts in (
        (999, creditor, today()), (debtor, 999, today()), (debtor, debtor, today()), (debtor, dollars, today()),
        (debtor, creditor, today() - timedelta(days=1)),
    ):  # fmt: skip
        with pytest.raises(Problem) as caught:
            give(bank_database, payer, payee, starts=starts)
        refused.append(caught.type)
    assert refused == [UnknownDebtor, UnknownCreditor, SameAccount, CurrencyMismatch, StartsInThePast]
    with pytest.raises(StandingOrderNotFound, match="1"):
        read(bank_database, 1)


@pytest.mark.parametrize("starts", [0, 4_102_444_800, "tomorrow", "2030-02-30", None])
def test_a_start_that_is_no_day_is_refused(starts: object) -> None:
    with pytest.raises(ValidationError):
        OrderForStanding.model_validate(
            {"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1, "every": "day", "starts": starts}
        )


def test_the_job_pays_all_that_is_due_and_the_creditors_are_advised(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    for _ in range(3):
        give(bank_database, debtor, creditor)
    told(bank_database, lambda _: standing_orders.pay_standing_orders.enqueue())
    assert balances(ledger)[creditor] == 30
    assert ledger.execute("SELECT count(*) FROM bank.advices WHERE account = %s", (creditor,)).fetchone() == (3,)
    assert ledger.execute("SELECT count(*) FROM workhorse.events WHERE type = 'transfer.posted'").fetchone() == (3,)


def test_nothing_is_left_for_the_job_once_all_is_paid(bank_database: str, ledger: Connection) -> None:
    async def twice() -> None:
        async with bank_on(bank_database) as database:
            for _ in range(2):
                await standing_orders.pay_standing_orders.enqueue_alone(database)
                await work_off(database)

    asyncio.run(twice())
    assert ledger.execute("SELECT outcome::text FROM workhorse.finished_jobs").fetchall() == [("done",), ("done",)]
