"""What the peers are sent and what they answer: field by field, and limit by limit, as in the bank's own API."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["LARGEST", "Currency", "Transfer", "TransferOrder"]

LARGEST: Final = 2**53 - 1
"""The largest amount and balance, in minor units."""

Currency = Literal["EUR", "GBP", "JPY", "KWD", "USD"]
Identifier = Annotated[int, Field(ge=1, le=2**63 - 1)]


class TransferOrder(BaseModel):
    """The wish to move `amount` minor units from the debtor's account to the creditor's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    debtor: Identifier
    creditor: Identifier
    currency: Currency
    amount: Annotated[int, Field(ge=1, le=LARGEST)]
    reference: Annotated[str, StringConstraints(max_length=140, pattern=r"^\P{Cc}*$")] = ""


class Transfer(BaseModel):
    """A posted transfer."""

    id: int
    debtor: int
    creditor: int
    currency: Currency
    amount: int
    reference: str
    reverses: int | None
    posted_at: datetime
