"""What the bank knows of people, and what becomes of it when one of them asks.

A customer is named by the number of an account, `account/7`. The law keeps a bank from forgetting what it has booked,
so an erasure takes standing orders that were ended long ago at most, and its receipt says what stays and why. The
journal names no person: its events go by numbers of accounts and transfers.
"""

from datetime import timedelta
from typing import Final

from bank.accounts import Account, Entry
from bank.advices import Advice
from bank.standing_orders import StandingOrder
from bank.transfers import Transfer
from workhorse.privacy import PERSONAL, Blank, Keep, Place, Privacy, Retention

__all__ = ["PRIVACY"]

BOOKED: Final = Keep("books are kept for ten years (section 147 AO), and who paid whom for five (section 8 GwG)")


def _of_account(table: str, column: str) -> Place:
    return Place(table, person="account", column=column, erase=BOOKED)


PRIVACY: Final = Privacy(
    models=[Account, Entry, Advice, StandingOrder, Transfer],
    places=[
        _of_account("bank.accounts", "id"),
        # An event about a transfer is about both of its accounts.
        Place("bank.transfers", person="account", column="debtor", erase=BOOKED, journal="{id}"),
        Place("bank.transfers", person="account", column="creditor", erase=BOOKED, journal="{id}"),
        _of_account("bank.advices", "account"),
        _of_account("bank.standing_orders", "debtor"),
        _of_account("bank.standing_orders", "creditor"),
    ],
    may={"accounts:read": {PERSONAL}, "transfers:read": {PERSONAL}},
    retention=[
        Retention(
            "bank.advices",
            by="written_at",
            older_than=timedelta(days=5 * 365),
            erase=Blank({"payer": "", "payer_iban": ""}),
            because="who paid whom is kept for five years (section 8 GwG)",
        )
    ],
)
