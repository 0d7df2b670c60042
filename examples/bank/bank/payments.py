"""Payment files: a whole pain.001 in one transaction and three statements, however many transfers it holds.

A file that is taken in stands as taken in: transactions that the ledger refuses are reported beside those that it
posted, and do not stop them. The accounts of the file are locked in the order of their ids by the one statement that
posts, so that two files, or a file and a transfer, never wait for each other. Events and jobs follow in large sets.
"""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel

from bank.advices import Posting, advise, announce
from bank.pain001 import AccountName, PaymentFile
from bank.problems import DuplicateMessage
from bank.transfers import REFUSALS
from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["PaymentReport", "Refusal", "TransactionReport", "take_in"]

QUERIES: Final = load_queries("bank", "sql/queries.sql")

# Ids that no account has. Two, so that an unknown debtor and an unknown creditor are not the same account.
UNKNOWN_DEBTOR: Final = 0
UNKNOWN_CREDITOR: Final = -1


class Refusal(BaseModel):
    """Why a transaction was not posted, in the words of the problem that the transfer alone would have met."""

    type: str
    title: str


class TransactionReport(BaseModel):
    """What became of one transaction: either a transfer or a problem."""

    end_to_end_id: str
    status: Literal["posted", "refused"]
    transfer: int | None = None
    problem: Refusal | None = None


class PaymentReport(BaseModel):
    """What became of a file: each of its transactions, in their order."""

    message_id: str
    posted: int
    refused: int
    transactions: list[TransactionReport]


async def take_in(work: Work, file: PaymentFile) -> PaymentReport:
    """Post all transactions of a file.

    Raises:
        DuplicateMessage: the initiating party has sent this message before.
    """
    accepted = await work.execute(
        QUERIES["accept_payment_file"],
        {
            "initiating_party": file.initiating_party,
            "message_id": file.message_id,
            "transactions": len(file.transactions),
        },
    )
    if await accepted.fetchone() is None:
        work.keep()  # a retried key replays this refusal
        raise DuplicateMessage(message_id=file.message_id)
    names = {name for transfer in file.transactions for name in (transfer.debtor, transfer.creditor)}
    known = await work.execute(
        QUERIES["accounts_by_iban"], {"ibans": sorted(name.value for name in names if name.is_iban)}
    )
    ibans: dict[str, int] = dict(await known.fetchall())
    debtors = [_account(transfer.debtor, ibans, UNKNOWN_DEBTOR) for transfer in file.transactions]
    creditors = [_account(transfer.creditor, ibans, UNKNOWN_CREDITOR) for transfer in file.transactions]
    cursor = await work.execute(
        QUERIES["post_transfers"],
        {
            "debtors": debtors,
            "creditors": creditors,
            "currencies": [transfer.currency for transfer in file.transactions],
            "amounts": [transfer.amount for transfer in file.transactions],
            "references": [transfer.remittance or transfer.end_to_end_id for transfer in file.transactions],
        },
    )
    results = await cursor.fetchall()
    postings = [
        Posting(posted, debtor, creditor, transfer.currency, transfer.amount)
        for transfer, debtor, creditor, (outcome, posted) in zip(
            file.transactions, debtors, creditors, results, strict=True
        )
        if outcome == "posted"
    ]
    for posting in postings:
        await announce(work, posting)
    await advise([posting.transfer for posting in postings])
    reports = [
        _report(transfer.end_to_end_id, *result) for transfer, result in zip(file.transactions, results, strict=True)
    ]
    return PaymentReport(
        message_id=file.message_id,
        posted=len(postings),
        refused=len(reports) - len(postings),
        transactions=reports,
    )


def _account(name: AccountName, ibans: Mapping[str, int], unknown: int) -> int:
    """The id of an account by its IBAN, or by its number, which is this bank's other identification."""
    if name.is_iban:
        return ibans.get(name.value, unknown)
    # Eighteen digits always fit a bigint, and more than ten are no account's.
    return int(name.value) if name.value.isascii() and name.value.isdigit() and len(name.value) <= 18 else unknown


def _report(end_to_end_id: str, outcome: str, transfer: int | None) -> TransactionReport:
    if outcome == "posted":
        return TransactionReport(end_to_end_id=end_to_end_id, status="posted", transfer=transfer)
    refusal = REFUSALS[outcome]
    return TransactionReport(
        end_to_end_id=end_to_end_id, status="refused", problem=Refusal(type=refusal.type, title=refusal.title)
    )
