"""Money is a whole number of minor units (cents, yen, fils), from the wire to the row. No float comes near it.

How many decimals a currency has is its exponent in ISO 4217: 2 for the euro, 0 for the yen, 3 for Kuwait's dinar.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeGuard

from pydantic import Field

__all__ = [
    "EXPONENTS",
    "LARGEST",
    "Currency",
    "MinorUnits",
    "MoneyError",
    "format_amount",
    "is_currency",
    "parse_amount",
]

Currency = Literal["EUR", "GBP", "JPY", "KWD", "USD"]

EXPONENTS: Final[Mapping[Currency, int]] = MappingProxyType({"EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3, "USD": 2})
LARGEST: Final = 2**53 - 1
"""The largest amount and balance, in minor units: what every JSON parser keeps exact (RFC 8259, section 6)."""

MinorUnits = Annotated[int, Field(ge=1, le=LARGEST, description="A whole number of minor units, such as cents.")]

# Digits are written out: \d would take those of other scripts too.
_DECIMAL: Final = re.compile(r"(?P<whole>[0-9]{1,18})(?:\.(?P<fraction>[0-9]{1,17}))?")


class MoneyError(ValueError):
    """A text is not an amount of the currency. The message is for whoever wrote the text."""


def is_currency(code: str) -> TypeGuard[Currency]:
    """Whether this bank keeps accounts in the currency with the ISO 4217 code `code`."""
    return code in EXPONENTS


def parse_amount(text: str, currency: Currency) -> int:
    """Read a decimal such as `12.50` as minor units, exactly.

    Raises:
        MoneyError: it is no decimal, has more decimals than the currency, is zero, or is above `LARGEST`.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise MoneyError(f"{text[:40]!r} is not an amount; write digits, and decimals after a point")
    exponent = EXPONENTS[currency]
    fraction = match["fraction"] or ""
    if len(fraction) > exponent:
        raise MoneyError(f"{text} has {len(fraction)} decimals; {currency} has {exponent}")
    amount = int(match["whole"] + fraction.ljust(exponent, "0"))
    if amount == 0:
        raise MoneyError("the amount is zero")
    if amount > LARGEST:
        raise MoneyError(f"{text} is above the largest amount, {format_amount(LARGEST, currency)} {currency}")
    return amount


def format_amount(amount: int, currency: Currency) -> str:
    """Write minor units as a decimal with all decimals of the currency: 1250 of EUR is `12.50`."""
    exponent = EXPONENTS[currency]
    digits = str(abs(amount)).rjust(exponent + 1, "0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else f"{sign}{digits}"
