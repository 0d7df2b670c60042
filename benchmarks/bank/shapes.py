"""The bank in two other shapes: what its fast way and its batches are worth is the difference to these.

They are served from the bank's own folder, as the bank is, and do the same for each transfer: the books, the event, the
advice's job and the reply that is kept.

    workhorse run benchmarks.bank.shapes:through_fastapi
    workhorse run benchmarks.bank.shapes:one_by_one
"""

from dataclasses import replace
from typing import Final

from fastapi import FastAPI

from bank import advices
from bank.advices import Posting
from bank.app import BANK_MIGRATIONS, POLICIES, api
from bank.transfers import REFUSALS, Transfer, TransferOrder
from workhorse import Service, unit
from workhorse.identity import Bearer

__all__ = ["one_by_one", "through_fastapi"]

POST: Final = "SELECT outcome, transfer, at FROM bank.post_transfer(%s, %s, %s, %s, %s)"

through_fastapi: Final = Service(
    api,
    identity=Bearer(),
    policies=[replace(policy, fast=False) for policy in POLICIES],
    migrations=[BANK_MIGRATIONS],
    jobs=[advices.write_advices],
)
"""All on, batched too, but each request goes through FastAPI's routing, dependencies and response."""

unbatched: Final = FastAPI(openapi_url=None)


@unbatched.post("/transfers", status_code=201)
async def post_transfer(order: TransferOrder) -> Transfer:
    """Move money, in a transaction of this request alone."""
    work = await unit()
    cursor = await work.execute(POST, (order.debtor, order.creditor, order.currency, order.amount, order.reference))
    ((outcome, transfer, posted_at),) = await cursor.fetchall()
    if outcome != "posted":
        work.keep()  # a retried key replays this refusal
        raise REFUSALS[outcome](debtor=order.debtor, creditor=order.creditor)
    await advices.announce(work, Posting(transfer, order.debtor, order.creditor, order.currency, order.amount))
    await advices.advise([transfer])
    return Transfer(
        id=transfer,
        debtor=order.debtor,
        creditor=order.creditor,
        currency=order.currency,
        amount=order.amount,
        reference=order.reference,
        reverses=None,
        posted_at=posted_at,
    )


one_by_one: Final = Service(
    unbatched,
    identity=Bearer(),
    policies=[replace(policy, batched=False) for policy in POLICIES if policy.pattern == "POST /transfers"],
    migrations=[BANK_MIGRATIONS],
    jobs=[advices.write_advices],
)
"""All on, and fast, but each transfer is a transaction of its own, with an advice's job of its own."""
