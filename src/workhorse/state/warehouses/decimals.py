"""Exact numbers in an engine whose decimals have a fixed scale, told as Postgres would tell them.

A column of such an engine has so many digits, of which so many after the point. A number that does not fit is not
rounded: it is odd, and kept as text. The number's own scale is kept beside it, so that 0.10 is told as 0.10 again.
"""

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

__all__ = ["PLACES", "fits", "quotient", "scaled"]

DIGITS: Final = 38
PLACES: Final = 9
"""Digits after the point: those of the smallest currencies, and of a nanosecond."""

EXACT: Final = Context(prec=2_000, rounding=ROUND_HALF_UP)
BASE_DIGITS: Final = 4
SIGNIFICANT: Final = 16
MAX_SCALE: Final = 1_000


def fits(number: Decimal) -> bool:
    """Whether a number can be kept, and a billion of its size be added up."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= PLACES and number.adjusted() < DIGITS - PLACES - 9


def scaled(number: str | None, scale: int | None) -> Decimal | None:
    """A number with so many digits after the point as those had that it was made of."""
    if number is None:
        return None
    return Decimal(number).quantize(Decimal(1).scaleb(-(scale or 0)), context=EXACT)


def quotient(total: Decimal, count: int) -> Decimal:
    """`total / count`, with the digits that Postgres gives a quotient.

    That is at least sixteen significant ones, counted in groups of four (`select_div_scale` in its numeric.c), half
    rounded away from zero.
    """
    weight, first = _first_group(total)
    count_weight, count_first = _first_group(Decimal(count))
    groups = weight - count_weight - (first <= count_first)
    scale = min(max(SIGNIFICANT - groups * BASE_DIGITS, -int(total.as_tuple().exponent), 0), MAX_SCALE)
    return EXACT.divide(total, Decimal(count)).quantize(Decimal(1).scaleb(-scale), context=EXACT)


def _first_group(number: Decimal) -> tuple[int, int]:
    """The place of the first group of four digits that is not zero, counted from the point, and the group."""
    if not number:
        return 0, 0
    weight = number.adjusted() // BASE_DIGITS
    return weight, int(abs(number).scaleb(-weight * BASE_DIGITS, context=EXACT))
