"""Cached values in Redis or Valkey.

Under a key lie two strings: the entry, and its **mark**, the token of who makes it (`c` and the token) or of a hold on
it (`!` and the token). A tag is one string as well: its version, 8 random bytes that never come back, or a hold. A tag
that is missing has no entries: so deleting one, its eviction, and its end after `TAG_SECONDS` without a making all mean
that its entries are gone, and nothing that was once deleted is ever matched again.

What touches one key is one script, which the server runs in one step. Versions of tags are read by a command of their
own: after the entries, where entries are read, and before the making begins, where one is made. So the order is safe
without one step over both, and keys and tags may lie on different servers: a Redis Cluster will do.

What the promise rests on:

- One primary. Replication is asynchronous, so a failover forgets what the replica had not heard of, usually the last
  milliseconds, a deletion among it: the entry lives until its time is over. A restart with snapshots does the same with
  the deletions since the last one: cache with no persistence, or with `appendonly yes`.
- Memory. Let the server evict (`maxmemory-policy allkeys-lru`) if nothing else than caches is kept there.
- Time is the server's; only what is left of it travels.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from secrets import token_bytes
from typing import Any, Final

import msgspec

from workhorse.contracts import CacheClaim, CacheClaiming, CacheEntry, CacheGuarantee, CacheHit
from workhorse.state.redis.connection import Client, Script
from workhorse.state.redis.lease import milliseconds

__all__ = ["RedisCache"]

# How long a tag's version outlives the last making that asked for it, and so the longest life of an entry with tags.
TAG_SECONDS: Final = 30 * 86_400

# KEYS: entries. Returns for each what it holds and the milliseconds left.
GET: Final = Script("""
local reply = {}
for i, key in ipairs(KEYS) do
  local data = redis.call('GET', key)
  reply[2 * i - 1] = data
  reply[2 * i] = data and redis.call('PTTL', key) or 0
end
return reply
""")

# KEYS: entry and mark, for each. ARGV: data and milliseconds, for each.
SET: Final = Script("""
for i = 1, #KEYS, 2 do
  local mark = redis.call('GET', KEYS[i + 1])
  if mark and string.sub(mark, 1, 1) == '!' then
    redis.call('UNLINK', KEYS[i])
  else
    redis.call('SET', KEYS[i], ARGV[i], 'PX', ARGV[i + 1])
    if mark then redis.call('DEL', KEYS[i + 1]) end
  end
end
""")

# KEYS: marks and tags, then entries. ARGV: how many of the former, and the hold that may be ended.
DELETE: Final = Script("""
local marks = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  if i > marks then
    redis.call('UNLINK', key)
  else
    local mark = redis.call('GET', key)
    if mark and (string.sub(mark, 1, 1) ~= '!' or mark == ARGV[2]) then redis.call('DEL', key) end
  end
end
""")

# KEYS: marks and tags, then entries. ARGV: how many of the former, the hold, milliseconds.
HOLD: Final = Script("""
local marks = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  if i > marks then
    redis.call('UNLINK', key)
  else
    redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
  end
end
""")

# KEYS: entry and mark. ARGV: the claim, milliseconds. Returns whose mark it is now, the entry, and what is left of it.
CLAIM: Final = Script("""
local mark = redis.call('GET', KEYS[2])
if not mark or mark == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  mark = ARGV[1]
end
local data = redis.call('GET', KEYS[1])
return {mark, data, data and redis.call('PTTL', KEYS[1]) or 0}
""")

# KEYS: entry and mark. ARGV: the claim, data, milliseconds. Without data it only ends the claim.
FILL: Final = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
""")

# KEYS: tags. Returns their versions.
VERSIONS: Final = Script("return redis.call('MGET', unpack(KEYS))")

# KEYS: tags. ARGV: milliseconds, and a fresh version for each. Returns their versions, made now if they were missing.
STAMP: Final = Script("""
local versions = {}
for i, key in ipairs(KEYS) do
  local version = redis.call('GET', key)
  if not version then
    version = ARGV[i + 1]
    redis.call('SET', key, version, 'PX', ARGV[1])
  elseif string.sub(version, 1, 1) ~= '!' then
    redis.call('PEXPIRE', key, ARGV[1])
  end
  versions[i] = version
end
return versions
""")


class Bound(msgspec.Struct, array_like=True, gc=False):
    """An entry as the server has it."""

    data: bytes
    stamps: dict[str, bytes]


ENCODE: Final = msgspec.msgpack.Encoder().encode
DECODE: Final = msgspec.msgpack.Decoder(Bound).decode


class RedisCache:
    """A `contracts.CacheStore` that all processes with the same server share.

    Args:
        client: from `open_redis`; closing it is its owner's.
        prefix: put before every key, so that several services can share a server.
        timeout_seconds: longest wait for one answer, everything included; a method waits for two at most.
    """

    def __init__(self, client: Client, *, prefix: str = "workhorse:", timeout_seconds: float = 0.25) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout = timeout_seconds

    @property
    def guarantees(self) -> CacheGuarantee:
        """Shared, fenced and with tags, as far as a failover forgets nothing."""
        return CacheGuarantee.SHARED | CacheGuarantee.FENCED | CacheGuarantee.TAGS | CacheGuarantee.RESTARTS

    async def get(self, keys: Sequence[str]) -> Sequence[CacheHit | None]:
        """What is kept under each key: one round trip, and one more if something that has tags is found."""
        if not keys:
            return []
        replies = await self._spread(GET, [[self._entry(key)] for key in keys])
        found = [_bound(data, left) for data, left in zip(replies[::2], replies[1::2], strict=True)]
        return await self._checked(found)

    async def set(self, entries: Sequence[CacheEntry]) -> None:
        """Keep each, unless it is held: one round trip, and one before it for those with tags."""
        versions = await self._stamp({tag for entry in entries for tag in entry.tags})
        groups: list[list[str]] = []
        given: list[list[bytes | int]] = []
        held: list[str] = []
        for entry in entries:
            stamps = {tag: versions[tag] for tag in entry.tags}
            if any(map(_is_hold, stamps.values())):
                held.append(entry.key)
                continue
            groups.append([self._entry(entry.key), self._mark(entry.key)])
            given.append([ENCODE(Bound(entry.data, stamps)), _life(entry)])
        if groups:
            await self._spread(SET, groups, given)
        if held:
            await self.delete(held)

    async def delete(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes = b"") -> None:
        """Forget the keys and all entries of the tags: one round trip."""
        await self._end(DELETE, keys, tags, b"!" + token)

    async def hold(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes, seconds: float) -> None:
        """Delete, and keep nothing under them: one round trip."""
        await self._end(HOLD, keys, tags, b"!" + token, milliseconds(seconds))

    async def claim(self, key: str, tags: Sequence[str], *, token: bytes, seconds: float) -> CacheClaiming:
        """Claim the making of a key: one round trip, and one before it if there are tags."""
        stamps = await self._stamp(tags)
        mine = b"c" + token
        arguments = (mine, milliseconds(seconds))
        mark, data, left = await self._run(CLAIM, [self._entry(key), self._mark(key)], arguments)
        (hit,) = await self._checked([_bound(data, left)], stamps)
        held = _is_hold(mark) or any(map(_is_hold, stamps.values()))
        claim = CacheClaim(token, stamps)
        if mark != mine:
            return CacheClaiming(None, hit, held=held)
        if held:
            await self.abandon(key, claim)
            return CacheClaiming(None, hit, held=True)
        return CacheClaiming(claim, hit)

    async def fill(self, entry: CacheEntry, claim: CacheClaim) -> bool:
        """Keep what was made, if the claim stands: one round trip. A second run says False."""
        data = ENCODE(Bound(entry.data, dict(claim.stamps)))
        arguments = (b"c" + claim.token, data, _life(entry))
        return bool(await self._run(FILL, [self._entry(entry.key), self._mark(entry.key)], arguments))

    async def abandon(self, key: str, claim: CacheClaim) -> None:
        """Let others make it."""
        await self._run(FILL, [self._entry(key), self._mark(key)], (b"c" + claim.token,))

    async def purge(self) -> int:
        """Nothing: the server forgets by itself."""
        return 0

    async def _end(self, script: Script, keys: Sequence[str], tags: Sequence[str], hold: bytes, *more: int) -> None:
        marks = [*map(self._mark, keys), *map(self._tag, tags)]
        entries = [*map(self._entry, keys)]
        if not marks:
            return
        if not self._client.cluster:
            await self._run(script, [*marks, *entries], (len(marks), hold, *more))
            return
        groups = [[self._mark(key), self._entry(key)] for key in keys] + [[self._tag(tag)] for tag in tags]
        await asyncio.gather(*(self._run(script, group, (1, hold, *more)) for group in groups))

    async def _checked(
        self, found: Sequence[tuple[Bound, float] | None], known: Mapping[str, bytes] | None = None
    ) -> list[CacheHit | None]:
        """Leave out the entries of which a tag has another version by now."""
        versions = dict(known or {})
        asked = sorted({tag for one in found if one is not None for tag in one[0].stamps} - versions.keys())
        if asked:
            answers = await self._spread(VERSIONS, [[self._tag(tag)] for tag in asked])
            versions |= zip(asked, answers, strict=True)
        return [
            CacheHit(one[0].data, one[1])
            if one is not None and all(versions[tag] == version for tag, version in one[0].stamps.items())
            else None
            for one in found
        ]

    async def _stamp(self, tags: Iterable[str]) -> dict[str, bytes]:
        asked = sorted(set(tags))
        if not asked:
            return {}
        # The first byte tells a version from a hold.
        fresh = [[b"v" + token_bytes(8)] for _ in asked]
        versions = await self._spread(STAMP, [[self._tag(tag)] for tag in asked], fresh, TAG_SECONDS * 1000)
        return dict(zip(asked, versions, strict=True))

    async def _spread(
        self,
        script: Script,
        groups: Sequence[Sequence[str]],
        given: Sequence[Sequence[bytes | int]] = (),
        *first: int,
    ) -> list[Any]:
        """Run a script that answers for each group of keys: once for all, or in a cluster once for each."""
        if not self._client.cluster:
            return list(await self._run(script, [*chain(*groups)], (*first, *chain(*given))) or ())
        arguments = given or [()] * len(groups)
        answers = await asyncio.gather(
            *(self._run(script, keys, (*first, *more)) for keys, more in zip(groups, arguments, strict=True))
        )
        return [*chain(*(answer or () for answer in answers))]

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int] = ()) -> Any:
        return await script.run(self._client, keys, arguments, timeout_seconds=self._timeout)

    # The braces give the entry and the mark of a key one hash slot (Redis Cluster specification, hash tags).
    def _entry(self, key: str) -> str:
        return f"{self._prefix}cache:{{{digest(key)}}}"

    def _mark(self, key: str) -> str:
        return f"{self._prefix}cache:{{{digest(key)}}}:mark"

    def _tag(self, tag: str) -> str:
        return f"{self._prefix}cache-tag:{{{digest(tag)}}}"


def digest(name: str) -> str:
    """A key or tag as the server sees it: of one size, and silent on whom it is about."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _bound(data: bytes | None, left_ms: int) -> tuple[Bound, float] | None:
    if data is None:
        return None
    try:
        # A time of 0 or below 0 is that of an entry that ends as it is read.
        return DECODE(data), max(left_ms, 1) / 1000
    except msgspec.MsgspecError:
        return None  # not ours, or of another version


def _is_hold(mark: bytes) -> bool:
    return mark.startswith(b"!")


def _life(entry: CacheEntry) -> int:
    return milliseconds(min(entry.seconds, TAG_SECONDS))
