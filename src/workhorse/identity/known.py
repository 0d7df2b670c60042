"""Remembers what was proven, for as many as fit.

Two generations: what is asked for moves to the younger one, and when that is full, the older one is forgotten whole.
It keeps what is in use as an LRU cache would, without touching anything when something is found.

No entry holds what it was proven by, so that the memory of a process, its core dump and its debugger hold no cache full
of tokens that open a bank. It has the credentials without their last 128 bytes, and of these a BLAKE2b digest, which is
the key. Those bytes are 768 bits of a token's signature, which nobody can work out from the rest; short credentials are
digested whole. What is found is compared byte by byte in front of them, so that nobody is known by a token that has
another's end. To digest all of a token would take three times the instructions, by SHA-256 seven times where the
processor has none of its own for it (decision 0016).
"""

from hashlib import blake2b
from typing import Final, Generic, TypeVar

__all__ = ["Known"]

Entry = TypeVar("Entry")

DIGESTED: Final = 128
"""Bytes at the end that are kept as a digest only: one block of BLAKE2b."""


class Known(Generic[Entry]):
    """At most twice `capacity` entries, by what they were proven by.

    Args:
        capacity: how many entries a generation holds, at least 1.
        max_bytes: longer keys are never known, so that they are not even hashed.
    """

    __slots__ = ("_capacity", "_max_bytes", "_older", "_younger")

    def __init__(self, *, capacity: int, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        # By the digest: what stands in front of the digested bytes, the length of it all, and the entry.
        self._younger: dict[bytes, tuple[bytes, int, Entry]] = {}
        self._older: dict[bytes, tuple[bytes, int, Entry]] = {}

    def __len__(self) -> int:
        return len(self._younger.keys() | self._older.keys())

    def find(self, secret: bytes) -> Entry | None:
        """What is known by `secret`. It may be out of date: that is the caller's to see."""
        length = len(secret)
        if length > self._max_bytes:
            return None
        digest = blake2b(secret[-DIGESTED:]).digest()
        known = self._younger.get(digest)
        if known is not None:
            return known[2] if known[1] == length and secret.startswith(known[0]) else None
        known = self._older.get(digest)
        if known is None or known[1] != length or not secret.startswith(known[0]):
            return None
        del self._older[digest]
        self._keep(digest, known)
        return known[2]

    def keep(self, secret: bytes, entry: Entry) -> None:
        """Remember `entry`, and forget what was known by `secret` before."""
        self._keep(blake2b(secret[-DIGESTED:]).digest(), (secret[:-DIGESTED], len(secret), entry))

    def clear(self) -> None:
        """Forget everything."""
        self._younger, self._older = {}, {}

    def _keep(self, digest: bytes, known: tuple[bytes, int, Entry]) -> None:
        if len(self._younger) >= self._capacity:
            self._older, self._younger = self._younger, {}
        self._younger[digest] = known
