"""Card numbers found in text, and masked: what has the length, the first digits and the check digit of one.

A number of a payment card (ISO/IEC 7812-1) has 13 to 19 digits, which people write in groups; those of card schemes
begin with 3 to 6, or with 2221 to 2720; the last digit is a check on the others (Luhn). Of other numbers of that length
and beginning one in ten passes as well: better that they are masked than that a card is kept (PCI DSS 4.0.1, 3.4.1
allows the first six and the last four digits to be seen).
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["CardNumber", "find_cards", "holds_card", "mask_cards"]

LEAST_DIGITS: Final = 13
MOST_DIGITS: Final = 19
BIN_DIGITS: Final = 6
LAST_DIGITS: Final = 4

# Possessive, so that a long run of digits is looked at once. Letters beside it make it part of an id in hexadecimal.
_RUN: Final = re.compile(r"(?<![0-9A-Za-z])[2-6](?:[ -]?[0-9]){12,18}+(?![0-9A-Za-z])")
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class CardNumber:
    """Where in a text a card's number stands, and what of it may be shown."""

    start: int
    end: int
    masked: str
    """With the first six and the last four digits."""


def find_cards(text: str) -> list[CardNumber]:
    """The card numbers in a text, in order."""
    found: list[CardNumber] = []
    for run in _RUN.finditer(text):
        digits = run[0].replace(" ", "").replace("-", "")
        if _is_card(digits):
            hidden = "*" * (len(digits) - BIN_DIGITS - LAST_DIGITS)
            masked = digits[:BIN_DIGITS] + hidden + digits[-LAST_DIGITS:]
            found.append(CardNumber(run.start(), run.end(), masked))
    return found


def holds_card(text: str) -> bool:
    """Whether a text holds a card's number."""
    return any(_is_card(run[0].replace(" ", "").replace("-", "")) for run in _RUN.finditer(text))


def mask_cards(text: str) -> str:
    """The text with every card's number masked."""
    parts: list[str] = []
    end = 0
    for card in find_cards(text):
        parts += (text[end : card.start], card.masked)
        end = card.end
    return "".join((*parts, text[end:])) if parts else text


def _is_card(digits: str) -> bool:
    if digits[0] == "2" and not "2221" <= digits[:4] <= "2720":
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0
