"""What clients want of the bank. The reference of each is its Idempotency-Key too."""

import json
from dataclasses import dataclass
from typing import Final

__all__ = ["Mandate", "Order", "Reversal", "Wish"]

POSTED: Final = (201, "")
FUNDS: Final = (409, "urn:bank:problem:insufficient-funds")
SPENT: Final = (409, "urn:bank:problem:creditor-cannot-repay")
REVERSED: Final = (409, "urn:bank:problem:already-reversed")
# The order was made before midnight, and came after it.
TOO_LATE: Final = (422, "urn:bank:problem:starts-in-the-past")


@dataclass(frozen=True, slots=True)
class Order:
    """A transfer: the batched route."""

    reference: str
    debtor: int
    creditor: int
    currency: str
    amount: int
    made_at: float
    """By the monotonic clock, in seconds."""

    path = "/transfers"
    answers = frozenset({POSTED, FUNDS})

    def body(self) -> bytes | None:
        """What is sent."""
        order = {
            "debtor": self.debtor,
            "creditor": self.creditor,
            "currency": self.currency,
            "amount": self.amount,
            "reference": self.reference,
        }
        return json.dumps(order).encode()


@dataclass(frozen=True, slots=True)
class Reversal:
    """The wish to take a transfer back: a unit of its own."""

    reference: str
    transfer: int
    of: Order
    made_at: float

    answers = frozenset({POSTED, SPENT, REVERSED})

    @property
    def path(self) -> str:
        """Where it is sent to."""
        return f"/transfers/{self.transfer}/reversal"

    def body(self) -> bytes | None:
        """Nothing is sent."""
        return None


@dataclass(frozen=True, slots=True)
class Mandate:
    """A standing order, which is paid on the day of its beginning."""

    reference: str
    debtor: int
    creditor: int
    currency: str
    amount: int
    starts: str
    every: str
    made_at: float

    path = "/standing-orders"
    answers = frozenset({POSTED, TOO_LATE})

    def body(self) -> bytes | None:
        """What is sent."""
        order = {
            "debtor": self.debtor,
            "creditor": self.creditor,
            "currency": self.currency,
            "amount": self.amount,
            "reference": self.reference,
            "every": self.every,
            "starts": self.starts,
        }
        return json.dumps(order).encode()


Wish = Order | Reversal | Mandate
