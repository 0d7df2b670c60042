"""Everybody is told of a transfer once: other systems by an event, the creditor by an advice, whichever way it came."""

import asyncio
import contextlib

import psycopg
import pytest

from bank import advices, books, payments, transfers
from bank.advices import AdviceAudit
from bank.pain001 import parse
from bank.problems import AdviceNotFound
from bank.transfers import TransferOrder
from tests.bank.ledgers import Connection, funded, post
from tests.bank.paymentfiles import File, Payment, Transaction
from tests.bank.units import unit_on
from tests.bank.workers import bank_on, told, work_off
from workhorse.units import Unit, Work


def audited(url: str) -> AdviceAudit:
    async def ask() -> AdviceAudit:
        async with unit_on(url) as work:
            return (await books.audit(work)).advices

    return asyncio.run(ask())


def order(debtor: int, creditor: int, amount: int) -> TransferOrder:
    return TransferOrder(debtor=debtor, creditor=creditor, currency="EUR", amount=amount, reference="rent")


def test_each_posted_transfer_of_a_batch_gets_its_advice_and_a_refused_one_gets_none(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    orders = [order(debtor, creditor, amount) for amount in (60, 101, 40)]
    told(bank_database, lambda work: transfers.post.function(work, orders))
    rows = ledger.execute(
        "SELECT advice.account, transfer.amount FROM bank.advices AS advice"
        " JOIN bank.transfers AS transfer ON transfer.id = advice.transfer ORDER BY transfer.id"
    ).fetchall()
    assert rows == [(creditor, 60), (creditor, 40)]
    assert ledger.execute("SELECT count(*) FROM workhorse.finished_jobs").fetchone() == (1,)


def test_a_reversal_is_announced_and_advised_to_whom_it_pays(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    transfer = post(ledger, debtor, creditor, 30).transfer
    assert transfer is not None
    reversal = told(bank_database, lambda work: transfers.reverse(work, transfer))
    assert ledger.execute("SELECT transfer, account FROM bank.advices").fetchall() == [(reversal.id, debtor)]
    events = ledger.execute("SELECT type, subject, data ->> 'amount' FROM workhorse.events").fetchall()
    assert events == [("transfer.posted", str(reversal.id), "30")]


def test_a_payment_file_of_thousands_is_advised_in_jobs_of_a_bounded_size(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 10_000, 0)
    wishes = [Transaction(end_to_end_id=f"E-{n}", amount="0.01", creditor=str(creditor)) for n in range(2_500)]
    file = parse(File(payments=[Payment(transactions=wishes, debtor=str(debtor))]).xml())
    told(bank_database, lambda work: payments.take_in(work, file))
    assert audited(bank_database) == AdviceAudit(transfers=2_500, announced=2_500, advised=2_500, waiting=0)
    assert ledger.execute("SELECT count(*) FROM workhorse.finished_jobs").fetchone() == (3,)


def test_nobody_is_told_of_what_was_rolled_back(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)

    async def fail() -> None:
        async with bank_on(bank_database) as database:
            with contextlib.suppress(ZeroDivisionError):
                async with Unit(database) as work:
                    await transfers.post.function(work, [order(debtor, creditor, 1)])
                    raise ZeroDivisionError
            await work_off(database)

    asyncio.run(fail())
    assert ledger.execute("SELECT count(*) FROM bank.advices").fetchone() == (0,)
    assert ledger.execute("SELECT count(*) FROM workhorse.events").fetchone() == (0,)


def test_a_second_advice_of_a_transfer_cannot_be_written_nor_the_first_be_changed(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    told(bank_database, lambda work: transfers.post.function(work, [order(debtor, creditor, 1)]))
    with pytest.raises(psycopg.errors.UniqueViolation, match="advices_pkey"):
        ledger.execute("INSERT INTO bank.advices SELECT * FROM bank.advices")
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="as it was written"):
        ledger.execute("UPDATE bank.advices SET payer = 'somebody else'")


def test_the_audit_finds_a_transfer_of_which_nobody_was_told(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    assert audited(bank_database) == AdviceAudit(transfers=0, announced=0, advised=0, waiting=0)
    post(ledger, debtor, creditor, 1)  # past the app
    assert audited(bank_database) == AdviceAudit(transfers=1, announced=0, advised=0, waiting=0)


def test_the_audit_counts_the_jobs_that_wait_and_does_not_take_a_doubled_event_for_one(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    transfer = post(ledger, debtor, creditor, 1).transfer
    assert transfer is not None
    posting = advices.Posting(transfer, debtor, creditor, "EUR", 1)

    async def announce_twice() -> None:
        async with unit_on(bank_database) as work:
            await advices.announce(work, posting)
            await advices.announce(work, posting)
            await advices.advise([transfer])

    asyncio.run(announce_twice())
    assert audited(bank_database) == AdviceAudit(transfers=1, announced=0, advised=0, waiting=1)


def test_an_advice_is_not_found_before_it_is_written(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)

    async def look() -> None:
        async with bank_on(bank_database) as database:
            async with Unit(database) as work:
                (posted,) = await transfers.post.function(work, [order(debtor, creditor, 25)])
                assert isinstance(posted, transfers.Transfer)
            with pytest.raises(AdviceNotFound, match=str(posted.id)):
                await find(database, posted.id)
            await work_off(database)
            advice = await find(database, posted.id)
            assert (advice.account, advice.payer, advice.amount, advice.reference) == (creditor, "somebody", 25, "rent")

    async def find(database: object, transfer: int) -> advices.Advice:
        async with Unit(database) as work:  # type: ignore[arg-type]
            return await advices.find(work, transfer)

    asyncio.run(look())


def test_what_was_posted_before_there_were_advices_is_not_asked_for(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    transfer = post(ledger, debtor, creditor, 1).transfer
    ledger.execute("UPDATE bank.unadvised SET up_to = %s", (transfer,))

    async def nothing(_: Work) -> None:
        """The worker has nothing to do either."""

    told(bank_database, nothing)
    assert audited(bank_database).transfers == 0
