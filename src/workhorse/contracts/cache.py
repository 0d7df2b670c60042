"""A store of what can be made again: bytes under keys, until a time, until deleted, until a tag of theirs is deleted.

The hard part of a cache is not keeping, it is forgetting. Three things are easy to get wrong, and stand in the contract
because only the store can get them right:

- **Claim and fill.** Who misses claims the making of a key; `fill` keeps what was made only while the claim stands.
  `delete` ends the claim. So what was read before a deletion is never kept after it (the lease of Nishtala et al.,
  *Scaling Memcache at Facebook*, NSDI 2013), and of many that miss at once one makes it.
- **Tags.** An entry carries the versions that its tags had *before* its value was made. Deleting a tag changes its
  version: every entry of it is gone at once, however many they are.
- **Hold.** Between a change in a database and its commit, others read the old row. While a key or tag is held, nothing
  is kept under it; so what is read in that span cannot outlive it, even if whoever holds dies before it can delete.

Keys and tags are any text: a store that many share takes digests of them, so no name shows in its own logs.
"""

from collections.abc import Mapping, Sequence
from enum import Flag, auto
from typing import Any, NamedTuple, Protocol, runtime_checkable

__all__ = [
    "CacheClaim",
    "CacheClaiming",
    "CacheEntry",
    "CacheGuarantee",
    "CacheHit",
    "CacheStore",
    "TransactionalCache",
]


class CacheGuarantee(Flag):
    """What a store of cached values can promise. A wish that is none of its promises is refused at start-up."""

    SHARED = auto()
    """All processes see the same entries, and a deletion reaches all of them."""
    FENCED = auto()
    """A value whose making began before a deletion of its key or tags is never kept after it."""
    TAGS = auto()
    """A tag's entries are deleted at once, in time that does not grow with their number."""
    TRANSACTIONAL = auto()
    """A deletion can commit with the app's own rows, or not at all."""
    RESTARTS = auto()
    """Entries outlive a clean restart of this process. None outlive a deletion by it."""


class CacheEntry(NamedTuple):
    """What is to be kept."""

    key: str
    data: bytes
    seconds: float
    """For how long; above 0."""
    tags: Sequence[str] = ()
    """At most 16."""


class CacheHit(NamedTuple):
    """What was found."""

    data: bytes
    left_seconds: float
    """Until the store forgets it, by the store's clock; above 0."""


class CacheClaim(NamedTuple):
    """The right to make a key's value. It ends by `fill`, `abandon`, a deletion of the key, or its time."""

    token: bytes
    stamps: Mapping[str, bytes]
    """The versions of the tags as the making began, in the store's own words."""


class CacheClaiming(NamedTuple):
    """The answer to `claim`."""

    claim: CacheClaim | None
    """None: somebody else has it, or the key or a tag is held."""
    hit: CacheHit | None
    """What is kept under the key at that moment."""
    held: bool = False
    """Whether a hold is the reason. It is not worth waiting for: nothing will be kept until it ends."""


class CacheStore(Protocol):
    """A store of cached values. Every method raises StoreUnavailable if the store does not answer in time.

    At most 1,000 keys and tags at once. A method may be run twice by a store that lost a connection.
    """

    @property
    def guarantees(self) -> CacheGuarantee:
        """What it promises."""
        ...

    async def get(self, keys: Sequence[str]) -> Sequence[CacheHit | None]:
        """What is kept under each key. Never what was deleted, or a tag of which was, before the call."""
        ...

    async def set(self, entries: Sequence[CacheEntry]) -> None:
        """Keep each, whatever was there, and end the claims to their keys. What is held is not kept.

        A tag's version is that of now: for values that are the newest as the call begins.
        """
        ...

    async def delete(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes = b"") -> None:
        """Forget the keys and all entries of the tags, and end the claims to them; and the holds under `token`."""
        ...

    async def hold(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes, seconds: float) -> None:
        """Delete, and keep nothing under them until `delete` with the same token, or for `seconds`.

        A later hold replaces an earlier one.
        """
        ...

    async def claim(self, key: str, tags: Sequence[str], *, token: bytes, seconds: float) -> CacheClaiming:
        """Claim the making of a key for `seconds`. The token is 16 bytes, new for each making."""
        ...

    async def fill(self, entry: CacheEntry, claim: CacheClaim) -> bool:
        """Keep what was made, if the claim stands; its tags are those that were claimed. False: it did not stand."""
        ...

    async def abandon(self, key: str, claim: CacheClaim) -> None:
        """Let others make it."""
        ...

    async def purge(self) -> int:
        """Forget some entries that are over; 0 when there are none left. A store that forgets by itself returns 0."""
        ...


class Executes(Protocol):
    """What runs a statement in an open transaction: a unit, or a `contracts.Transaction`."""

    async def execute(self, sql: str, params: Sequence[object] = ...) -> Any:
        """Run one statement with `%s` placeholders."""
        ...


@runtime_checkable
class TransactionalCache(Protocol):
    """A store in the app's own database."""

    async def delete_within(self, work: Executes, keys: Sequence[str], *, tags: Sequence[str] = ()) -> None:
        """Delete as `CacheStore.delete` does, at the moment at which the transaction commits.

        Nothing is kept under the keys and tags from now until then. Raises the driver's error.
        """
        ...
