"""Transfers: posted, looked up, and taken back. The decision and the posting are one call of one SQL function.

Posting is what this bank lives by, so it is batched: all transfers that wait are decided and posted as one set, in one
transaction, and each customer gets an answer of their own. The advices are one job for the whole set, and the event is
each customer's own, written where their request goes on (`post_one`): both are rows of the set's one commit.

The bank's refusals are results like any other: a client that retries a refused transfer with the same
Idempotency-Key must read the same refusal, although the debtor may have been paid meanwhile. So a refusal that was
decided by looking at the data is kept (`Kept`, `work.keep()`), where the default would be to forget it with the
rollback.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict

from bank.accounts import Identifier, Line
from bank.advices import Posting, advise, announce
from bank.money import Currency, MinorUnits
from bank.problems import (
    AlreadyReversed,
    CreditorCannotRepay,
    CurrencyMismatch,
    InsufficientFunds,
    IsReversal,
    Overflow,
    SameAccount,
    TransferNotFound,
    UnknownCreditor,
    UnknownDebtor,
)
from workhorse.batches import Kept, batched
from workhorse.errors import Problem
from workhorse.privacy import INTERNAL, PERSONAL
from workhorse.sql import load_queries
from workhorse.units import Work, unit

__all__ = ["REFUSALS", "REVERSAL_REFUSALS", "Transfer", "TransferOrder", "find", "post", "post_one", "reverse"]

QUERIES: Final = load_queries("bank", "sql/queries.sql")

REFUSALS: Final[Mapping[str, type[Problem]]] = MappingProxyType(
    {
        "unknown_debtor": UnknownDebtor,
        "unknown_creditor": UnknownCreditor,
        "same_account": SameAccount,
        "currency_mismatch": CurrencyMismatch,
        "insufficient_funds": InsufficientFunds,
        "overflow": Overflow,
    }
)
"""What each outcome of bank.post_transfer but `posted` is to the client."""

REVERSAL_REFUSALS: Final[Mapping[str, type[Problem]]] = MappingProxyType(
    {
        "unknown_transfer": TransferNotFound,
        "is_reversal": IsReversal,
        "already_reversed": AlreadyReversed,
        "insufficient_funds": CreditorCannotRepay,
        "overflow": Overflow,
    }
)
"""The same of bank.reverse_transfer."""


class TransferOrder(BaseModel):
    """The wish to move `amount` minor units from the debtor's account to the creditor's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    debtor: Identifier
    creditor: Identifier
    currency: Currency
    amount: MinorUnits
    reference: Line = ""


class Transfer(BaseModel):
    """A posted transfer. `reverses` is the id of the transfer that it takes back, if it does."""

    id: Annotated[int, INTERNAL]
    debtor: Annotated[int, INTERNAL]
    creditor: Annotated[int, INTERNAL]
    currency: Annotated[Currency, INTERNAL]
    amount: Annotated[int, INTERNAL]
    reference: Annotated[str, PERSONAL]
    reverses: Annotated[int | None, INTERNAL]
    posted_at: Annotated[datetime, INTERNAL]


@batched
async def post(work: Work, orders: Sequence[TransferOrder]) -> Sequence[Transfer | Kept]:
    """Post transfers: all that wait, as one set. A refusal is kept, so that a retried key reads it again."""
    cursor = await work.execute(
        QUERIES["post_batch"],
        {
            "debtors": [order.debtor for order in orders],
            "creditors": [order.creditor for order in orders],
            "currencies": [order.currency for order in orders],
            "amounts": [order.amount for order in orders],
            "references": [order.reference for order in orders],
        },
    )
    results = await cursor.fetchall()
    await advise([transfer for outcome, transfer, _ in results if outcome == "posted"])
    return [_outcome(order, *result) for order, result in zip(orders, results, strict=True)]


async def post_one(order: TransferOrder) -> Transfer:
    """Post a transfer together with all others that wait.

    Raises:
        Problem: one of `REFUSALS`.
    """
    transfer = await post(order)
    await _announce(await unit(), transfer)
    return transfer


async def _announce(work: Work, transfer: Transfer) -> None:
    posting = Posting(transfer.id, transfer.debtor, transfer.creditor, transfer.currency, transfer.amount)
    await announce(work, posting)


def _outcome(order: TransferOrder, outcome: str, transfer: int, posted_at: datetime) -> Transfer | Kept:
    if outcome != "posted":
        return Kept(REFUSALS[outcome](debtor=order.debtor, creditor=order.creditor))
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


async def reverse(work: Work, transfer: int) -> Transfer:
    """Take a transfer back by a transfer of the same amount the other way.

    Raises:
        Problem: one of `REVERSAL_REFUSALS`.
    """
    cursor = await work.execute(QUERIES["reverse_transfer"], {"transfer": transfer})
    ((outcome, *posted),) = await cursor.fetchall()
    if outcome != "posted":
        work.keep()  # a retried key replays this refusal
        raise REVERSAL_REFUSALS[outcome](transfer=transfer)
    reversal = _transfer(tuple(posted))
    await _announce(work, reversal)
    await advise([reversal.id])
    return reversal


async def find(work: Work, transfer: int) -> Transfer:
    """Look a transfer up.

    Raises:
        TransferNotFound: there is none with this id.
    """
    cursor = await work.execute(QUERIES["find_transfer"], {"transfer": transfer})
    row = await cursor.fetchone()
    if row is None:
        raise TransferNotFound(f"No transfer has the id {transfer}.")
    return _transfer(row)


def _transfer(row: tuple[int, int, int, Currency, int, str, int | None, datetime]) -> Transfer:
    identifier, debtor, creditor, currency, amount, reference, reverses, posted_at = row
    return Transfer(
        id=identifier,
        debtor=debtor,
        creditor=creditor,
        currency=currency,
        amount=amount,
        reference=reference,
        reverses=reverses,
        posted_at=posted_at,
    )
