"""Advices: what the world and the creditor are told of a transfer, each exactly once.

Whoever posts a transfer says so twice in the posting's own transaction: an event for other systems (`announce`), and a
job for the creditor's advice (`advise`). Both travel with the commit, so neither is lost, and neither tells of a
transfer that was rolled back. The job then writes the advice, and that and the job's own end are one commit again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, NamedTuple, TypedDict

from pydantic import BaseModel

from bank.money import Currency
from bank.problems import AdviceNotFound
from workhorse.jobs import Retries, job
from workhorse.journal import EventType
from workhorse.privacy import INTERNAL, PERSONAL
from workhorse.sql import load_queries
from workhorse.units import Work, unit

__all__ = ["POSTED", "Advice", "AdviceAudit", "Posting", "advise", "announce", "audit", "find", "write_advices"]

QUERIES: Final = load_queries("bank", "sql/advices.sql")
# Of one job. Its arguments have room for twice as many ids of the largest kind.
AT_ONCE: Final = 1_000


class Posted(TypedDict):
    """What the event of a transfer says. Accounts go by their numbers: the journal names no person."""

    transfer: int
    debtor: int
    creditor: int
    currency: str
    amount: int


POSTED: Final = EventType("transfer.posted", Posted)


class Posting(NamedTuple):
    """A posted transfer, as far as others are told of it."""

    transfer: int
    debtor: int
    creditor: int
    currency: str
    amount: int

    def as_event(self) -> Posted:
        """What the journal says of it."""
        return Posted(
            transfer=self.transfer,
            debtor=self.debtor,
            creditor=self.creditor,
            currency=self.currency,
            amount=self.amount,
        )


class Advice(BaseModel):
    """What the creditor was told. `amount` is in minor units; `payer` is the debtor's owner as of then."""

    transfer: Annotated[int, INTERNAL]
    account: Annotated[int, INTERNAL]
    payer: Annotated[str, PERSONAL]
    payer_iban: Annotated[str, PERSONAL]
    currency: Annotated[Currency, INTERNAL]
    amount: Annotated[int, INTERNAL]
    reference: Annotated[str, PERSONAL]
    written_at: Annotated[datetime, INTERNAL]


class AdviceAudit(BaseModel):
    """The proof that everybody was told. Once `waiting` is 0, the other three are the same number.

    The transfers are those that customers paid, `announced` those with exactly one event, `advised` those with their
    advice, and `waiting` the jobs that are still to write some.
    """

    transfers: int
    announced: int
    advised: int
    waiting: int


async def announce(work: Work, posting: Posting) -> None:
    """Tell other systems of a transfer."""
    await work.emit(POSTED, subject=str(posting.transfer), data=posting.as_event())


async def advise(transfers: Sequence[int]) -> None:
    """Have the advices of transfers written, once this unit has committed."""
    starts = range(0, len(transfers), AT_ONCE)
    await write_advices.enqueue_many(write_advices.call(list(transfers[start : start + AT_ONCE])) for start in starts)


@job(retries=Retries(attempts=10))
async def write_advices(transfers: list[int]) -> None:
    """Write the advices of transfers. One job a batch and not one a transfer: all are one statement."""
    work = await unit()
    await work.execute(QUERIES["write_advices"], {"transfers": transfers})


async def find(work: Work, transfer: int) -> Advice:
    """Look up the advice of a transfer.

    Raises:
        AdviceNotFound: there is none, or none yet.
    """
    cursor = await work.execute(QUERIES["find_advice"], {"transfer": transfer})
    row = await cursor.fetchone()
    if row is None:
        raise AdviceNotFound(f"No advice of a transfer {transfer} was written, or not yet.")
    return Advice(**dict(zip(Advice.model_fields, row, strict=True)))


async def audit(work: Work) -> AdviceAudit:
    """Count the events and advices against the journal."""
    cursor = await work.execute(QUERIES["audit_advices"])
    row = await cursor.fetchone()
    return AdviceAudit(**dict(zip(AdviceAudit.model_fields, row, strict=True)))
