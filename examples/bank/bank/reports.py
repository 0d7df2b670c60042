"""The end of the day: a job of several steps, which a crash interrupts and does not repeat.

    totals ──▶ proof of the books ──▶ page 1 ──▶ page 2 ──▶ … ──▶ published

Each step commits by itself together with its result, so a report over millions of transfers holds no transaction for
its whole length, and after a crash goes on behind the last page that stands. A day has one report, by a unique key of
the job and a key of the table; it is seen by nobody before its last step.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import msgspec
from pydantic import BaseModel

from bank import books
from bank.problems import PageNotFound, ReportNotFound
from workhorse.jobs import Retries, Schedule, job, step
from workhorse.journal import EventType
from workhorse.sql import load_queries
from workhorse.units import Work, unit

__all__ = [
    "CLOSING",
    "DAY_CLOSED",
    "DayTotal",
    "Page",
    "Proof",
    "Report",
    "close_days",
    "find",
    "find_page",
    "order_report",
    "report_day",
]

QUERIES: Final = load_queries("bank", "sql/reports.sql")
# Transfers on a page of the file: some two megabytes. A job has at most a thousand steps.
PAGE_TRANSFERS: Final = 10_000
MOST_PAGES: Final = 990
# After a long silence: the rest follows on the next days.
MOST_DAYS: Final = 100
# No request lasts so long (see the deadlines in app.py): what was posted on the day has committed by then.
SETTLED: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class DayTotal:
    """What was moved of one currency on the day, in minor units; `reversals` are among the transfers."""

    currency: str
    transfers: int
    volume: int
    reversals: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The books when the report was made, from the whole journal: `wrong` accounts differ from their entries."""

    balanced: bool
    transfers: int
    wrong: int


DAY_CLOSED: Final = EventType("day.closed", Proof)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the file: `last` is its last transfer."""

    last: int
    lines: int


class Report(BaseModel):
    """The report of a day. Its file has `lines` entries on `pages` pages, numbered from 1."""

    day: date
    totals: list[DayTotal]
    proof: Proof
    pages: int
    lines: int
    made_at: datetime


@job(retries=Retries(attempts=20), deadline_seconds=3600)
async def report_day(day: date) -> None:
    """Make the report of a day that is over."""
    if not await step("begin", _begin, day):
        return
    totals = await step("totals", _add_up, day)
    proof = await step("proof", _prove)
    pages: list[Page] = []
    while len(pages) < MOST_PAGES:
        number, after = len(pages) + 1, pages[-1].last if pages else 0
        page = await step(f"page {number}", _write_page, day, number, after)
        if page is None:
            break
        pages.append(page)
    else:
        raise OverflowError(f"{day} has over {MOST_PAGES * PAGE_TRANSFERS} transfers: raise PAGE_TRANSFERS")
    await step("publish", _publish, day, totals, proof, pages)


async def _begin(day: date) -> bool:
    work = await unit()
    cursor = await work.execute(QUERIES["is_reported"], {"day": day})
    ((reported,),) = await cursor.fetchall()
    if reported:
        return False
    # What a job left that somebody cancelled.
    await work.execute(QUERIES["forget_pages"], {"day": day})
    return True


async def _add_up(day: date) -> list[DayTotal]:
    cursor = await (await unit()).execute(QUERIES["totals"], {"day": day})
    return [DayTotal(*row) for row in await cursor.fetchall()]


async def _prove() -> Proof:
    audit = await books.audit(await unit())
    return Proof(audit.balanced, audit.transfers, sum(currency.wrong for currency in audit.currencies))


async def _write_page(day: date, page: int, after: int) -> Page | None:
    values = {"day": day, "page": page, "after": after, "most": PAGE_TRANSFERS}
    cursor = await (await unit()).execute(QUERIES["write_page"], values)
    row = await cursor.fetchone()
    return None if row is None else Page(*row)


async def _publish(day: date, totals: list[DayTotal], proof: Proof, pages: list[Page]) -> None:
    work = await unit()
    values = {
        "day": day,
        "totals": msgspec.json.encode(totals).decode(),
        "proof": msgspec.json.encode(proof).decode(),
        "pages": len(pages),
        "lines": sum(page.lines for page in pages),
    }
    await work.execute(QUERIES["publish"], values)
    await work.emit(DAY_CLOSED, subject=day.isoformat(), data=proof)


@job
async def close_days() -> None:
    """Have each day reported that is over and has no report."""
    work = await unit()
    cursor = await work.execute(QUERIES["unreported_days"], {"most": MOST_DAYS})
    for (day,) in await cursor.fetchall():
        await order_report(day)


async def order_report(day: date) -> None:
    """Have a day reported, unless somebody has ordered that already and it is not done."""
    await report_day.options(unique=day.isoformat()).enqueue(day)


CLOSING: Final = Schedule("close days", close_days.options(delay=SETTLED), every=timedelta(days=1))
"""At five past midnight UTC. A night on which no worker lived is made up for: the job looks at all days."""


async def find(work: Work, day: date) -> Report:
    """Look the report of a day up.

    Raises:
        ReportNotFound: there is none, or none yet.
    """
    cursor = await work.execute(QUERIES["find_report"], {"day": day})
    row = await cursor.fetchone()
    if row is None:
        raise ReportNotFound(f"The report of {day} is made after the day is over, if anything was moved until then.")
    return Report(**dict(zip(Report.model_fields, row, strict=True)))


async def find_page(work: Work, day: date, page: int) -> str:
    """Read one page of the file of a day, as CSV.

    Raises:
        PageNotFound: there is none.
    """
    cursor = await work.execute(QUERIES["find_page"], {"day": day, "page": page})
    row = await cursor.fetchone()
    if row is None:
        raise PageNotFound(f"The file of {day} has no page {page}, or there is no report of that day yet.")
    content: str = row[0]
    return content
