"""What an API key looks like, so that people, programs and scanners recognise one.

    wh_4mT9kQ2xBv7a_0Yt...43 characters...Zq1x8PdR
    |  |            |                       |
    |  |            secret, 256 bits        CRC-32 of all before it, 6 characters
    |  public part, 12 characters
    brand

Public part, secret and checksum are base62, so that a double click selects the whole key, and it needs no quoting in
a URL, a shell or a header. The form is that of GitHub's tokens, for the same reasons: a scanner finds a key that was
committed by its form and checksum, with hardly a false alarm, and a typing error is told without asking a store. The
checksum is no secret and keeps nobody out.
"""

import re
from hashlib import sha256
from secrets import choice
from typing import Final, NamedTuple
from zlib import crc32

from workhorse.errors import SettingsError

__all__ = ["KeyText", "NewText"]

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 43
"""62**43 is a little more than 2**256."""
CHECKSUM_CHARACTERS: Final = 6
"""62**6 is a little more than 2**32."""

_BRAND: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
MAX_BRAND: Final = 20


class NewText(NamedTuple):
    """A key that was just made."""

    text: str
    """The whole key. It is shown to its owner once, and kept nowhere."""
    prefix: str
    """Its public beginning, such as `wh_4mT9kQ2xBv7a`."""
    digest: bytes
    """SHA-256 of the whole key."""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<NewText {self.prefix}>"


class KeyText:
    """The keys of one brand.

    Args:
        brand: what they begin with: at most 20 lower-case letters, digits and single underscores, such as `acme_live`.

    Raises:
        SettingsError: the brand is of another form.
    """

    __slots__ = ("_brand", "_form")

    def __init__(self, brand: str = "wh") -> None:
        if not _BRAND.fullmatch(brand) or len(brand) > MAX_BRAND:
            raise SettingsError(
                f"API keys cannot begin with {brand!r}; take at most {MAX_BRAND} lower-case letters, digits and single"
                " underscores, such as acme_live"
            )
        self._brand = brand
        pattern = f"({brand}_[0-9A-Za-z]{{{PUBLIC_CHARACTERS}}})_[0-9A-Za-z]{{{SECRET_CHARACTERS}}}"
        self._form = re.compile(f"({pattern})([0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})".encode())

    def new(self) -> NewText:
        """Make a key, of the operating system's randomness."""
        prefix = f"{self._brand}_{_random(PUBLIC_CHARACTERS)}"
        body = f"{prefix}_{_random(SECRET_CHARACTERS)}"
        text = body + checksum(body.encode())
        return NewText(text, prefix, sha256(text.encode()).digest())

    def prefix_of(self, key: bytes) -> str | None:
        """The public part of a key; None if it is of another form, or its checksum is wrong. Nothing is looked up."""
        match = self._form.fullmatch(key)
        if match is None or match[3].decode() != checksum(match[1]):
            return None
        return match[2].decode()


def checksum(body: bytes) -> str:
    """CRC-32 (ISO 3309, as in zlib) in base62, the most significant digit first."""
    number = crc32(body)
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


def _random(characters: int) -> str:
    return "".join(choice(BASE62) for _ in range(characters))
