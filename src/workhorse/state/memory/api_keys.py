"""API keys in this process, for tests and for a service of one process whose keys are made at its start."""

from collections.abc import Mapping, Sequence
from typing import Final

from workhorse.contracts import ApiKeyRecord
from workhorse.errors import StoreUnavailable

__all__ = ["MemoryApiKeys"]

MAX_LISTED: Final = 1_000


class MemoryApiKeys:
    """A `contracts.ApiKeyStore` of one process, which forgets all keys at its end. Used from one thread.

    Args:
        max_keys: keys kept at most; a further one is refused by StoreUnavailable. One takes about 700 bytes.
    """

    def __init__(self, *, max_keys: int = 100_000) -> None:
        self._max_keys = max_keys
        self._keys: dict[str, ApiKeyRecord] = {}

    async def insert(self, key: ApiKeyRecord) -> bool:
        """Keep a new key. False if another key has the prefix.

        Raises:
            StoreUnavailable: there are `max_keys`.
        """
        kept = self._keys.get(key.prefix)
        if kept is not None:
            return kept.digest == key.digest
        if len(self._keys) >= self._max_keys:
            raise StoreUnavailable("Nothing was done: there are too many API keys.")
        self._keys[key.prefix] = key
        return True

    async def find(self, prefix: str) -> ApiKeyRecord | None:
        """The key, expired and revoked ones too."""
        return self._keys.get(prefix)

    async def list(self, subject: str) -> Sequence[ApiKeyRecord]:
        """The subject's keys, those not revoked first, of each the newest first."""
        keys = [key for key in self._keys.values() if key.subject == subject]
        keys.sort(key=lambda key: (key.revoked is not None, -key.created, key.prefix))
        return keys[:MAX_LISTED]

    async def rotate(self, prefix: str, fresh: ApiKeyRecord, *, ends: float, now: float) -> bool:
        """Keep `fresh`, and let the key end at `ends` if it would not end earlier.

        Raises:
            StoreUnavailable: there are `max_keys`.
        """
        key = self._keys.get(prefix)
        if key is None or ended(key, now) or not await self.insert(fresh):
            return False
        self._keys[prefix] = key._replace(expires=ends if key.expires is None else min(key.expires, ends))
        return True

    async def revoke(self, prefix: str, *, at: float) -> bool:
        """End it. False if it is unknown or had ended."""
        key = self._keys.get(prefix)
        if key is None or (ended(key, at) and key.revoked != at):
            return False
        self._keys[prefix] = key._replace(revoked=at)
        return True

    async def revoke_all(self, subject: str, *, at: float) -> int:
        """End the subject's keys. Returns how many had not ended."""
        prefixes = [key.prefix for key in self._keys.values() if key.subject == subject and not ended(key, at)]
        for prefix in prefixes:
            self._keys[prefix] = self._keys[prefix]._replace(revoked=at)
        return len(prefixes)

    async def note_use(self, uses: Mapping[str, float]) -> None:
        """Note when keys were last used; an older time never replaces a newer."""
        for prefix, at in uses.items():
            key = self._keys.get(prefix)
            if key is not None and (key.used is None or key.used < at):
                self._keys[prefix] = key._replace(used=at)


def ended(key: ApiKeyRecord, now: float) -> bool:
    """Whether the key is good for nothing any more."""
    return key.revoked is not None or (key.expires is not None and key.expires <= now)
