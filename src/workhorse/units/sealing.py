"""Kept replies, encrypted at rest.

A reply may hold what the database should not show to everybody who reads it or its backups. With a key configured,
headers and body are sealed by AES-256-GCM. Each reply has a key of its own, HMAC-SHA-256 of the configured key and the
claim's scope: so the bound on random nonces under one key (NIST SP 800-38D, section 8.3: 2^32) is out of reach however
many replies there are. The scope and the name of the field are associated data: a ciphertext that is moved to another
key's row, or from headers to body, does not open.

The row names the key by an id of 4 bytes, the beginning of its SHA-256. To rotate, put a new key first and leave the
old ones behind it until the replies that they sealed are forgotten.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_bytes
from typing import TYPE_CHECKING, Final
from uuid import UUID

from workhorse.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import aead

__all__ = ["CannotOpen", "Seal", "key_id_of"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class CannotOpen(Exception):
    """A sealed reply does not open: its key is not configured any more, or the row was changed."""


def key_id_of(key: bytes) -> bytes:
    """How rows name a key."""
    return sha256(b"workhorse reply key\0" + key).digest()[:4]


class Seal:
    """Seals with the first key, and opens with any.

    Args:
        keys: of 32 random bytes each.

    Raises:
        SettingsError: a key has another length, two have one id, or `cryptography` is not installed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if len(key) != KEY_BYTES:
                raise SettingsError(
                    f"a key for kept replies has {len(key)} bytes; make one of {KEY_BYTES} random ones,"
                    " as `secrets.token_bytes(32)` does"
                )
        self._keys = {key_id_of(key): key for key in keys}
        if not keys or len(self._keys) != len(keys):
            raise SettingsError("the keys for kept replies are none, or one of them is there twice")
        try:
            # Here, because an app without a key needs no cryptography.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(
                "a key for kept replies needs the package cryptography: pip install 'workhorse[encryption]'"
            ) from error
        self._cipher: type[aead.AESGCM] = AESGCM
        self.key_id = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"<Seal {self.key_id.hex()}>"

    def seal(self, scope: UUID, field: bytes, content: bytes) -> bytes:
        """Encrypt one field of the reply of `scope`."""
        nonce = token_bytes(NONCE_BYTES)
        return nonce + self._of(self.key_id, scope).encrypt(nonce, content, scope.bytes + field)

    def open(self, key_id: bytes, scope: UUID, field: bytes, sealed: bytes) -> bytes:
        """Decrypt one field.

        Raises:
            CannotOpen: the key is unknown, or the content is not what was sealed here.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

        if key_id not in self._keys:
            raise CannotOpen(f"the key {key_id.hex()} is not configured any more; put it behind the present one")
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._of(key_id, scope).decrypt(nonce, content, scope.bytes + field)
        except (InvalidTag, ValueError) as error:
            raise CannotOpen(f"the reply of {scope} is not what was sealed for it") from error

    def _of(self, key_id: bytes, scope: UUID) -> "aead.AESGCM":
        return self._cipher(hmac.digest(self._keys[key_id], b"workhorse kept reply\0" + scope.bytes, sha256))
