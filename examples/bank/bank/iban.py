"""International bank account numbers, ISO 13616.

An IBAN is a country, two check digits, and a number whose form the country decides. Moved to the end and with each
letter read as a number (A is 10, Z is 35), country and check digits leave the remainder 1 when the whole is divided
by 97 (ISO 7064, MOD 97-10): so every single wrong digit and every swap of two neighbouring digits is noticed.
"""

import re
from typing import Final

__all__ = ["check_digits", "why_not_iban"]

# The registry gives each country its own length, from 15 (Norway) to 34 at most.
_FORM: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


def why_not_iban(text: str) -> str | None:
    """Say what is wrong with `text` as an IBAN in its electronic form (no spaces), or None if it is one."""
    if _FORM.fullmatch(text) is None:
        return (
            "an IBAN is two letters, two check digits, and 11 to 30 letters or digits, in capitals and without spaces"
        )
    if text[2:4] != check_digits(text[:2], text[4:]):
        return f"the check digits {text[2:4]} do not fit the rest of the number; one of its characters is wrong"
    return None


def check_digits(country: str, number: str) -> str:
    """Return the two check digits, `02` to `98`, for a national account number in capitals and digits."""
    return f"{98 - _as_number(number + country + '00') % 97:02d}"


def _as_number(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text))
