"""Cached values in this process's own memory, the longest unused of which go when there is no more room.

Nothing here awaits between a look and the change that follows from it, so each method is one step on the event loop.
Versions of tags come from one count that only goes up. So a tag may be forgotten as well: it comes back with a version
that no entry has, and its entries are gone, never back.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from workhorse.contracts import CacheClaim, CacheClaiming, CacheEntry, CacheGuarantee, CacheHit
from workhorse.errors import SettingsError

__all__ = ["MemoryCache"]

# What an entry takes beside its key and data, roughly: the dict's slot, the tuple, the strings' heads.
OVERHEAD_BYTES: Final = 300
# Claims, holds and tags that are known; of each, those that were not touched the longest go first.
MAX_MARKS: Final = 65_536
# How many entries one purge looks at.
PURGED_AT_ONCE: Final = 1_000

V = TypeVar("V")


class Kept(NamedTuple):
    """One entry."""

    data: bytes
    ends: float
    stamps: tuple[tuple[str, bytes], ...]
    size: int


class Mark(NamedTuple):
    """A claim or hold, and whose."""

    token: bytes
    ends: float
    hold: bool


class MemoryCache:
    """A `contracts.CacheStore` of one process. It is used from one thread, that of the event loop.

    Args:
        max_bytes: of keys and data together, with what they take in memory, roughly.
        clock: seconds on a clock that never goes back.

    Raises:
        SettingsError: `max_bytes` is below 64 KiB.
    """

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = monotonic) -> None:
        if max_bytes < 64 * 1024:
            raise SettingsError(f"max_bytes={max_bytes} is too little memory for a cache; give it 65536 at least")
        self._bound = max_bytes
        self._clock = clock
        self._bytes = 0
        self._entries: OrderedDict[str, Kept] = OrderedDict()
        self._marks: OrderedDict[str, Mark] = OrderedDict()
        self._tags: OrderedDict[str, bytes] = OrderedDict()
        self._tag_holds: OrderedDict[str, Mark] = OrderedDict()
        self._count = 0

    @property
    def guarantees(self) -> CacheGuarantee:
        """In one process."""
        return CacheGuarantee.FENCED | CacheGuarantee.TAGS

    @property
    def size_bytes(self) -> int:
        """What is kept, roughly; some of it may be over."""
        return self._bytes

    def __len__(self) -> int:
        """How many entries are kept; some may be over."""
        return len(self._entries)

    async def get(self, keys: Sequence[str]) -> Sequence[CacheHit | None]:
        """What is kept under each key."""
        return [self.find(key) for key in keys]

    def find(self, key: str) -> CacheHit | None:
        """What is kept under a key, without a coroutine."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        left_seconds = kept.ends - self._clock()
        if left_seconds <= 0 or any(self._tags.get(tag) != version for tag, version in kept.stamps):
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return CacheHit(kept.data, left_seconds)

    async def set(self, entries: Sequence[CacheEntry]) -> None:
        """Keep each, unless it is held."""
        for entry in entries:
            self.put(entry)

    def put(self, entry: CacheEntry) -> None:
        """Keep one, without a coroutine."""
        held = self._live(self._marks, entry.key)
        if (held is not None and held.hold) or any(self._live(self._tag_holds, tag) for tag in entry.tags):
            self.drop(entry.key)
            return
        self._marks.pop(entry.key, None)
        self._keep(entry, tuple((tag, self._version(tag)) for tag in entry.tags))

    async def delete(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes = b"") -> None:
        """Forget the keys and all entries of the tags."""
        for key in keys:
            self.drop(key)
            release(self._marks, key, token)
        for tag in tags:
            self._tags.pop(tag, None)
            release(self._tag_holds, tag, token)

    def clear(self) -> None:
        """Forget everything."""
        self._bytes = 0
        for kept in (self._entries, self._marks, self._tags, self._tag_holds):
            kept.clear()

    async def hold(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes, seconds: float) -> None:
        """Delete, and keep nothing under them until `delete` with the same token, or for `seconds`."""
        mark = Mark(token, self._clock() + seconds, hold=True)
        for key in keys:
            self.drop(key)
            bounded(self._marks, key, mark)
        for tag in tags:
            self._tags.pop(tag, None)
            bounded(self._tag_holds, tag, mark)

    async def claim(self, key: str, tags: Sequence[str], *, token: bytes, seconds: float) -> CacheClaiming:
        """Claim the making of a key."""
        hit = self.find(key)
        if any(self._live(self._tag_holds, tag) for tag in tags):
            return CacheClaiming(None, hit, held=True)
        mark = self._live(self._marks, key)
        if mark is not None and mark.token != token:
            return CacheClaiming(None, hit, held=mark.hold)
        bounded(self._marks, key, Mark(token, self._clock() + seconds, hold=False))
        return CacheClaiming(CacheClaim(token, {tag: self._version(tag) for tag in tags}), hit)

    async def fill(self, entry: CacheEntry, claim: CacheClaim) -> bool:
        """Keep what was made, if the claim stands."""
        mark = self._live(self._marks, entry.key)
        if mark is None or mark.hold or mark.token != claim.token:
            return False
        del self._marks[entry.key]
        self._keep(entry, tuple(claim.stamps.items()))
        return True

    async def abandon(self, key: str, claim: CacheClaim) -> None:
        """Let others make it."""
        mark = self._marks.get(key)
        if mark is not None and not mark.hold and mark.token == claim.token:
            del self._marks[key]

    async def purge(self) -> int:
        """Forget those that are over, of the entries that were not used the longest."""
        now = self._clock()
        looked_at = (key for key, _ in zip(self._entries, range(PURGED_AT_ONCE), strict=False))
        over = [key for key in looked_at if self._entries[key].ends <= now]
        for key in over:
            self.drop(key)
        return len(over)

    def _version(self, tag: str) -> bytes:
        version = self._tags.get(tag)
        if version is None:
            self._count += 1
            version = self._count.to_bytes(8, "big")
        bounded(self._tags, tag, version)
        return version

    def _live(self, marks: OrderedDict[str, Mark], name: str) -> Mark | None:
        mark = marks.get(name)
        if mark is not None and mark.ends <= self._clock():
            del marks[name]
            return None
        return mark

    def _keep(self, entry: CacheEntry, stamps: tuple[tuple[str, bytes], ...]) -> None:
        self.drop(entry.key)
        size = len(entry.data) + len(entry.key) + OVERHEAD_BYTES
        if size > self._bound:
            return
        self._make_room(size)
        self._entries[entry.key] = Kept(entry.data, self._clock() + entry.seconds, stamps, size)
        self._bytes += size

    def _make_room(self, size: int) -> None:
        while self._bytes + size > self._bound:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= dropped.size

    def drop(self, key: str) -> None:
        """Forget an entry, and leave claims to it alone."""
        kept = self._entries.pop(key, None)
        if kept is not None:
            self._bytes -= kept.size


def release(marks: OrderedDict[str, Mark], name: str, token: bytes) -> None:
    """End a claim, or a hold under `token`."""
    mark = marks.get(name)
    if mark is not None and (not mark.hold or mark.token == token):
        del marks[name]


def bounded(kept: OrderedDict[str, V], name: str, value: V, *, most: int = MAX_MARKS) -> None:
    """Note `value` as the newest, and drop the oldest beyond `most`."""
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)
