"""Standing orders: money that moves by itself on the days that a customer chose.

Each minute a job pays what is due, all orders as one set. That no day is paid twice rests on a key of the table, not on
the job: it may be run late, twice, or by two workers at once. A payment that the ledger refuses is noted for its day
beside those that it posted, and is not tried again.
"""

from datetime import date, timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict

from bank.accounts import Identifier, Line
from bank.advices import Posting, advise, announce
from bank.days import Day
from bank.money import Currency, MinorUnits
from bank.problems import StandingOrderNotFound, StartsInThePast
from bank.transfers import REFUSALS
from workhorse.jobs import Schedule, job
from workhorse.privacy import INTERNAL, PERSONAL
from workhorse.sql import load_queries
from workhorse.units import Work, unit

__all__ = [
    "PAYING",
    "OrderForStanding",
    "Payment",
    "StandingOrder",
    "end",
    "find",
    "open_order",
    "pay",
    "pay_standing_orders",
]

QUERIES: Final = load_queries("bank", "sql/standing_orders.sql")
# Orders that are paid in one transaction, whose accounts are locked meanwhile.
AT_ONCE: Final = 1_000

Rhythm = Literal["day", "week", "month"]


class OrderForStanding(BaseModel):
    """The wish to pay `amount` minor units again and again.

    It is paid on the day `starts` and then on each day, on that day of each week, or on that day of each month. Where a
    month is too short, its last day takes the place.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    debtor: Identifier
    creditor: Identifier
    currency: Currency
    amount: MinorUnits
    reference: Line = ""
    every: Rhythm
    starts: Day


class Payment(BaseModel):
    """What became of a standing order on a day: a transfer, or the type of the problem that stood against it."""

    due: date
    transfer: int | None
    problem: str | None


class StandingOrder(BaseModel):
    """A standing order. `due` is its next day, null when it was ended; `payments` are its latest, newest first."""

    id: Annotated[int, INTERNAL]
    debtor: Annotated[int, INTERNAL]
    creditor: Annotated[int, INTERNAL]
    currency: Annotated[Currency, INTERNAL]
    amount: Annotated[int, INTERNAL]
    reference: Annotated[str, PERSONAL]
    every: Annotated[Rhythm, INTERNAL]
    starts: Annotated[date, INTERNAL]
    due: Annotated[date | None, INTERNAL]
    payments: Annotated[list[Payment], INTERNAL]


async def open_order(work: Work, order: OrderForStanding) -> StandingOrder:
    """Take a standing order.

    Raises:
        Problem: an account is unknown or of another currency, or the first day is over.
    """
    cursor = await work.execute(QUERIES["open_standing_order"], order.model_dump())
    ((outcome, opened),) = await cursor.fetchall()
    if outcome != "opened":
        work.keep()  # a retried key replays this refusal
        if outcome == "starts_in_the_past":
            raise StartsInThePast(starts=order.starts)
        raise REFUSALS[outcome](debtor=order.debtor, creditor=order.creditor)
    return await find(work, opened)


async def find(work: Work, standing_order: int) -> StandingOrder:
    """Look a standing order up.

    Raises:
        StandingOrderNotFound: there is none with this id.
    """
    cursor = await work.execute(QUERIES["find_standing_order"], {"standing_order": standing_order})
    row = await cursor.fetchone()
    if row is None:
        raise StandingOrderNotFound(f"No standing order has the id {standing_order}.")
    latest = await work.execute(QUERIES["latest_payments"], {"standing_order": standing_order})
    payments = [
        Payment(due=due, transfer=transfer, problem=None if outcome == "posted" else REFUSALS[outcome].type)
        for due, outcome, transfer in await latest.fetchall()
    ]
    return _standing_order(row, payments)


def _standing_order(
    row: tuple[int, int, int, Currency, int, str, Rhythm, date, date | None], payments: list[Payment]
) -> StandingOrder:
    identifier, debtor, creditor, currency, amount, reference, every, starts, due = row
    return StandingOrder(
        id=identifier,
        debtor=debtor,
        creditor=creditor,
        currency=currency,
        amount=amount,
        reference=reference,
        every=every,
        starts=starts,
        due=due,
        payments=payments,
    )


async def end(work: Work, standing_order: int) -> StandingOrder:
    """End a standing order. What it paid stays.

    Raises:
        StandingOrderNotFound: there is none with this id.
    """
    await work.execute(QUERIES["end_standing_order"], {"standing_order": standing_order})
    return await find(work, standing_order)


async def pay(work: Work, today: date) -> int:
    """Pay standing orders that are due by `today`, each for the oldest of its days, and return how many there were."""
    cursor = await work.execute(QUERIES["pay_standing_orders"], {"today": today, "most": AT_ONCE})
    rows = await cursor.fetchall()
    posted = [Posting(*row) for outcome, *row in rows if outcome == "posted"]
    for posting in posted:
        await announce(work, posting)
    await advise([posting.transfer for posting in posted])
    return len(rows)


@job
async def pay_standing_orders() -> None:
    """Pay some of what is due, and have the rest paid by a job like this one."""
    work = await unit()
    cursor = await work.execute(QUERIES["today"])
    ((today,),) = await cursor.fetchall()
    if await pay(work, today):
        await pay_standing_orders.enqueue()


PAYING: Final = Schedule("pay standing orders", pay_standing_orders, every=timedelta(minutes=1))
"""When they are paid. Minutes that nobody lived through are made up for by one: it pays what has become due."""
