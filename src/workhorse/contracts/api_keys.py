"""Keys of programs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = ["ApiKeyRecord", "ApiKeyStore"]


class ApiKeyRecord(NamedTuple):
    """One API key as a store keeps it. Times are in seconds since 1970, kept to the microsecond."""

    prefix: str
    """The public beginning of the key, by which it is found."""
    digest: bytes
    """SHA-256 of the whole key, whose secret part has 256 bits of chance and so needs no slow hash."""
    subject: str
    name: str
    """What the owner calls it."""
    scopes: tuple[str, ...]
    tenant: str
    created: float
    expires: float | None
    revoked: float | None
    used: float | None
    """When it was last used, as exactly as `note_use` is called."""


class ApiKeyStore(Protocol):
    """API keys. Every method raises StoreUnavailable if the store does not answer in time.

    Texts hold no NUL and no half of a surrogate pair.
    """

    async def insert(self, key: ApiKeyRecord) -> bool:
        """Keep a new key. False if another key has the prefix: then nothing is kept."""
        ...

    async def find(self, prefix: str) -> ApiKeyRecord | None:
        """The key, expired and revoked ones too."""
        ...

    async def list(self, subject: str) -> Sequence[ApiKeyRecord]:
        """The subject's keys, those not revoked first, of each the newest first; at most 1,000."""
        ...

    async def rotate(self, prefix: str, fresh: ApiKeyRecord, *, ends: float, now: float) -> bool:
        """Keep `fresh`, and let the key `prefix` end at `ends` if it would not end earlier: both, or neither.

        False if that key is unknown or had ended: then nothing is kept.
        """
        ...

    async def revoke(self, prefix: str, *, at: float) -> bool:
        """End it. False if it is unknown or had ended."""
        ...

    async def revoke_all(self, subject: str, *, at: float) -> int:
        """End the subject's keys. Returns how many had not ended."""
        ...

    async def note_use(self, uses: Mapping[str, float]) -> None:
        """Note when keys were last used; an older time never replaces a newer. At most 1,000 at once."""
        ...
