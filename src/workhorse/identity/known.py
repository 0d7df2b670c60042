"""Remembers what was proven, for as many as fit.

Two generations: what is asked for moves to the younger one, and when that is full, the older one is forgotten whole.
It keeps what is in use as an LRU cache would, without touching anything when something is found.

The key is the SHA-256 of the credentials and not the credentials themselves. That costs 0.4 us more (0.8 against 0.4
us for 900 bytes, which a dict would have to hash anyway), and in return the memory of a process, its core dump and its
debugger hold no cache full of tokens that open a bank, and an entry costs 32 bytes rather than up to 8 KiB.
"""

from hashlib import sha256
from typing import Generic, TypeVar

__all__ = ["Known"]

Entry = TypeVar("Entry")


class Known(Generic[Entry]):
    """At most twice `capacity` entries, by the digest of what they were proven by.

    Args:
        capacity: how many entries a generation holds, at least 1.
        max_bytes: longer keys are never known, so that they are not even hashed.
    """

    __slots__ = ("_capacity", "_max_bytes", "_older", "_younger")

    def __init__(self, *, capacity: int, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._younger: dict[bytes, Entry] = {}
        self._older: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._younger.keys() | self._older.keys())

    def find(self, secret: bytes) -> Entry | None:
        """What is known by `secret`. It may be out of date: that is the caller's to see."""
        if len(secret) > self._max_bytes:
            return None
        digest = sha256(secret).digest()
        entry = self._younger.get(digest)
        if entry is None:
            entry = self._older.pop(digest, None)
            if entry is not None:
                self._keep(digest, entry)
        return entry

    def keep(self, secret: bytes, entry: Entry) -> None:
        """Remember `entry`, and forget what was known by `secret` before."""
        self._keep(sha256(secret).digest(), entry)

    def clear(self) -> None:
        """Forget everything."""
        self._younger, self._older = {}, {}

    def _keep(self, digest: bytes, entry: Entry) -> None:
        if len(self._younger) >= self._capacity:
            self._older, self._younger = self._younger, {}
        self._younger[digest] = entry
