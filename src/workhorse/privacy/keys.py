"""What wraps the keys of subjects: a key that is never in the database.

In production that is a key management service, which wraps and unwraps a key in one call and never gives its own away.
On a developer's machine it is a key of 32 bytes from a setting.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Protocol

from workhorse.errors import SettingsError
from workhorse.privacy.sealing import KEY_BYTES, CannotOpen, open_sealed, seal

__all__ = ["KeyWrapper", "LocalKeys"]

FIELD: Final = "workhorse subject key"


class KeyWrapper(Protocol):
    """Wraps keys by one that it keeps."""

    @property
    def current(self) -> str:
        """The id of the key that wraps from now on."""
        ...

    async def wrap(self, key: bytes, subject: str) -> bytes:
        """Wrap a subject's key with the current one. What comes out opens for the same subject only."""
        ...

    async def unwrap(self, wrapped: bytes, by: str, subject: str) -> bytes:
        """Unwrap it, with the key of that id.

        Raises:
            CannotOpen: that key is not there, or this was wrapped for another subject, or changed.
        """
        ...


class LocalKeys:
    """Wrapping keys that this process itself holds.

    Args:
        keys: of 32 random bytes each; the first one wraps, all unwrap. To rotate, put a new one first, have
            `SubjectKeys.rewrap` wrap all anew, then take the old one out.
        dangerously_in_production: take them in production, too, where a dump of the database and this process'
            environment together open everything. A key service keeps the two apart.

    Raises:
        SettingsError: there is none, or one has another length or is there twice.
    """

    def __init__(self, keys: Sequence[bytes], *, dangerously_in_production: bool = False) -> None:
        self.dangerously_in_production: Final = dangerously_in_production
        if any(len(key) != KEY_BYTES for key in keys):
            raise SettingsError(f"a wrapping key has {KEY_BYTES} random bytes, as `secrets.token_bytes(32)` makes them")
        self._keys = {sha256(b"workhorse wrapping key\0" + key).hexdigest()[:16]: key for key in keys}
        if not keys or len(self._keys) != len(keys):
            raise SettingsError("there is no wrapping key, or one of them is there twice")
        self._current = next(iter(self._keys))

    @property
    def current(self) -> str:
        """The id of the first key."""
        return self._current

    async def wrap(self, key: bytes, subject: str) -> bytes:
        """Wrap a subject's key."""
        return seal(self._keys[self._current], key, subject=subject, field=FIELD)

    async def unwrap(self, wrapped: bytes, by: str, subject: str) -> bytes:
        """Unwrap it.

        Raises:
            CannotOpen: the key is not there, or this was wrapped for another subject, or changed.
        """
        if by not in self._keys:
            raise CannotOpen(f"the key {by!r} that wrapped this one is not configured any more")
        return open_sealed(self._keys[by], wrapped, subject=subject, field=FIELD)
