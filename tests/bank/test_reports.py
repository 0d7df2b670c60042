"""The end of the day: one report, whole or not there, whatever interrupts its making."""

import asyncio
import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest

from bank import reports
from bank.problems import PageNotFound, ReportNotFound
from bank.reports import DayTotal, Proof, Report
from tests.bank.ledgers import Connection, funded, post
from tests.bank.units import unit_on
from tests.bank.workers import told

DAY = datetime.now(UTC).date() - timedelta(days=1)


def post_on(ledger: Connection, day: date, debtor: int, creditor: int, amount: int, reference: str = "") -> int:
    """Post a transfer in the last second of a day."""
    row = ledger.execute(
        "INSERT INTO bank.transfers (debtor, creditor, currency, amount, reference, posted_at)"
        " VALUES (%s, %s, 'EUR', %s, %s, (%s::date + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 second')"
        " RETURNING id",
        (debtor, creditor, amount, reference, day),
    ).fetchone()
    assert row is not None
    return int(row[0])


def close(url: str) -> None:
    """Do what the night does."""
    told(url, lambda _: reports.close_days.enqueue())


def report(url: str) -> None:
    """Have the day reported, whichever the first transfer was."""
    told(url, lambda _: reports.order_report(DAY))


def find(url: str, day: date = DAY) -> Report:
    async def ask() -> Report:
        async with unit_on(url) as work:
            return await reports.find(work, day)

    return asyncio.run(ask())


def lines(url: str, page: int, day: date = DAY) -> list[dict[str, str]]:
    async def ask() -> str:
        async with unit_on(url) as work:
            return await reports.find_page(work, day, page)

    return list(csv.DictReader(io.StringIO(asyncio.run(ask()), newline="")))


def test_a_day_is_reported_with_its_totals_its_proof_and_the_entries_of_that_day_only(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)  # today
    transfer = post_on(ledger, DAY, debtor, creditor, 30, 'for "rent", May')
    report(bank_database)
    found = find(bank_database)
    assert found.totals == [DayTotal(currency="EUR", transfers=1, volume=30, reversals=0)]
    assert found.proof == Proof(balanced=True, transfers=2, wrong=0)
    assert (found.pages, found.lines) == (1, 2)
    written = lines(bank_database, 1)
    assert [(line["account"], line["amount"]) for line in written] == [(str(debtor), "-30"), (str(creditor), "30")]
    assert {line["transfer"] for line in written} == {str(transfer)}
    assert {line["reference"] for line in written} == {'for "rent", May'}
    assert all(line["posted_at"].startswith(f"{DAY}T23:59:59") for line in written)


def test_a_reference_is_no_formula_for_the_program_that_opens_the_file(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    post_on(ledger, DAY, debtor, creditor, 1, "=1+1")
    report(bank_database)
    assert {line["reference"] for line in lines(bank_database, 1)} == {"'=1+1"}


def test_each_day_since_the_first_transfer_is_reported_once_however_often_it_is_asked_for(
    bank_database: str, ledger: Connection
) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    # The first transfer of a bank has the smallest id.
    ledger.execute("ALTER TABLE bank.transfers ALTER id RESTART WITH 1000")
    ledger.execute("ALTER TABLE bank.transfers DISABLE TRIGGER transfers_stay")
    ledger.execute("UPDATE bank.transfers SET posted_at = posted_at - interval '3 days'")
    post_on(ledger, DAY, debtor, creditor, 5)
    for _ in range(3):
        close(bank_database)
    days = ledger.execute("SELECT day, lines FROM bank.reports ORDER BY day").fetchall()
    assert days == [(DAY - timedelta(days=2), 2), (DAY - timedelta(days=1), 0), (DAY, 2)]
    done = ledger.execute("SELECT count(*) FROM workhorse.finished_jobs WHERE name = 'report_day'").fetchone()
    assert done == (3,)


def test_a_report_that_is_asked_for_twice_at_once_is_made_once(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    post_on(ledger, DAY, debtor, creditor, 5)

    async def twice(_: object) -> None:
        await reports.order_report(DAY)
        await reports.order_report(DAY)

    told(bank_database, twice)
    report(bank_database)
    assert ledger.execute("SELECT day, pages FROM bank.reports").fetchall() == [(DAY, 1)]
    assert ledger.execute("SELECT count(*) FROM workhorse.finished_jobs").fetchone() == (2,)


def test_a_report_that_failed_half_way_goes_on_behind_the_last_page_that_stands(
    bank_database: str, ledger: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAGE_TRANSFERS", 2)
    debtor, creditor = funded(ledger, 100, 0)
    for amount in range(1, 6):
        post_on(ledger, DAY, debtor, creditor, amount)
    # The third page fails once, as if the disk had been full.
    ledger.execute(
        "CREATE SEQUENCE tries; CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') = 1 THEN RAISE disk_full; END IF; RETURN new; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON bank.report_pages FOR EACH ROW WHEN (new.page = 3)"
        " EXECUTE FUNCTION fail_once()"
    )
    ledger.execute("CREATE TABLE written AS SELECT page FROM bank.report_pages")
    ledger.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO written VALUES (new.page); RETURN new; END $$;"
        "CREATE TRIGGER note AFTER INSERT ON bank.report_pages FOR EACH ROW EXECUTE FUNCTION note()"
    )
    report(bank_database)
    assert ledger.execute("SELECT page FROM written").fetchall() == [(1,), (2,), (3,)]
    assert ledger.execute("SELECT max(attempt) FROM workhorse.finished_jobs").fetchone() == (2,)
    found = find(bank_database)
    assert (found.pages, found.lines) == (3, 10)
    amounts = [line["amount"] for page in (1, 2, 3) for line in lines(bank_database, page)]
    assert amounts == ["-1", "1", "-2", "2", "-3", "3", "-4", "4", "-5", "5"]


def test_nothing_is_read_of_a_report_before_its_last_step(bank_database: str, ledger: Connection) -> None:
    ledger.execute("INSERT INTO bank.report_pages VALUES (%s, 1, 1, 'half')", (DAY,))
    with pytest.raises(PageNotFound, match="page 1"):
        lines(bank_database, 1)
    with pytest.raises(ReportNotFound, match=str(DAY)):
        find(bank_database)


def test_what_a_cancelled_report_left_does_not_stop_the_next(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    post_on(ledger, DAY, debtor, creditor, 5)
    ledger.execute("INSERT INTO bank.report_pages VALUES (%s, 1, 1, 'half')", (DAY,))
    report(bank_database)
    assert [line["amount"] for line in lines(bank_database, 1)] == ["-5", "5"]


def test_today_is_not_reported(bank_database: str, ledger: Connection) -> None:
    debtor, creditor = funded(ledger, 100, 0)
    post(ledger, debtor, creditor, 1)
    close(bank_database)
    assert ledger.execute("SELECT count(*) FROM bank.reports").fetchone() == (0,)
