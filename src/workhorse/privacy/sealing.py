"""One field encrypted: AES-256-GCM (NIST SP 800-38D), bound to its subject and its field.

A sealed field is one byte of version, 12 of a random nonce, and the ciphertext with its tag of 16. Subject and field
are associated data: what is moved to another person's row, or to another column, does not open. A key is one subject's,
so the bound on random nonces under one key (2^32) is out of reach.

A sealed field cannot be searched. A blind index beside it can be, for equality: a keyed hash of the text. It tells who
has the same value as somebody else, and whoever has its key can try values: keep one only for what must be searched,
and never for what has few values, such as a diagnosis.
"""

import hmac
import unicodedata
from hashlib import sha256
from secrets import token_bytes
from typing import Final

from workhorse.errors import SettingsError, WorkhorseError

__all__ = ["KEY_BYTES", "BlindIndex", "CannotOpen", "open_sealed", "seal"]

VERSION: Final = b"\x01"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
INDEX_BYTES: Final = 16


class CannotOpen(WorkhorseError):
    """It is not what was sealed under this key for this subject and field."""


def seal(key: bytes, plain: bytes, *, subject: str, field: str) -> bytes:
    """Encrypt one field."""
    # Only here: `cryptography` is an extra.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    nonce = token_bytes(NONCE_BYTES)
    return VERSION + nonce + AESGCM(key).encrypt(nonce, plain, _bound_to(subject, field))


def open_sealed(key: bytes, sealed: bytes, *, subject: str, field: str) -> bytes:
    """Decrypt it.

    Raises:
        CannotOpen: it was changed, cut off, or sealed under another key, or for another subject or field.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    if len(sealed) < len(VERSION) + NONCE_BYTES + TAG_BYTES or sealed[:1] != VERSION:
        raise CannotOpen(f"the field {field!r} of a subject is no sealed field of version {VERSION[0]}")
    nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, text, _bound_to(subject, field))
    except InvalidTag:
        raise CannotOpen(
            f"the field {field!r} of a subject does not open: it was changed, or sealed for another subject or field"
        ) from None


class BlindIndex:
    """Finds sealed fields by the text that they hold (HMAC-SHA-256, cut to 16 bytes).

    Args:
        key: of 32 random bytes, another one than those that wrap.

    Raises:
        SettingsError: it has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(f"the key of a blind index has {KEY_BYTES} random bytes, and this one has {len(key)}")
        self._key = key

    def of(self, field: str, text: str) -> bytes:
        """The index of a text. Case and the spelling of accents make no difference (Unicode's NFKC, case folded)."""
        name = field.encode()
        plain = unicodedata.normalize("NFKC", text).casefold().strip().encode()
        return hmac.new(self._key, len(name).to_bytes(4, "big") + name + plain, sha256).digest()[:INDEX_BYTES]


def _bound_to(subject: str, field: str) -> bytes:
    name = subject.encode()
    return b"workhorse field\0" + len(name).to_bytes(4, "big") + name + field.encode()
