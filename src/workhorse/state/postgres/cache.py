"""Cached values in Postgres, for services that have no other server: each call is one statement in one round trip.

The tables are unlogged, so a write waits for no disk. What this store has before all others is `delete_within`: the
deletion is part of the app's own transaction, so it happens at the moment of the commit, or not at all. From the
statement on until then, its row locks keep others from filling what it deletes: their claims and fills give up after
50 ms, and their values are used and not kept.

What the promise rests on:

- A crash of the server empties the tables; a replica never has them. Ask the primary.
- The server's clock is a wall clock. Set back, entries live longer by as much.
- The size of the table is what is written within the time to live; `purge` has to be called now and then.
- Under a stricter isolation than READ COMMITTED, a unit that deletes what others change at the same time fails with a
  serialization failure, and is run again.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from workhorse.contracts import CacheClaim, CacheClaiming, CacheEntry, CacheGuarantee, CacheHit, Database
from workhorse.contracts.cache import Executes
from workhorse.sql import load_queries
from workhorse.state.postgres.statements import Statements

__all__ = ["PostgresCache"]

START: Final = str(UUID(int=0))
# How long a tag's version is remembered. What has it then is made again.
TAG_SECONDS: Final = 30 * 86_400


class PostgresCache:
    """A `contracts.CacheStore` that all processes with the same database share, and a `TransactionalCache`.

    Args:
        database: where migration 0006 has been applied. It should be the primary: a replica has no such table.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, *, timeout_seconds: float = 1.0) -> None:
        self._queries = load_queries("workhorse.state.postgres", "sql/cache.sql")
        self._statements = Statements(database, self._queries, timeout_seconds=timeout_seconds)
        self._purged = START
        self._purged_tags = START

    @property
    def guarantees(self) -> CacheGuarantee:
        """All."""
        return ~CacheGuarantee(0)

    async def get(self, keys: Sequence[str]) -> Sequence[CacheHit | None]:
        """What is kept under each key."""
        digests = [digest(key) for key in keys]
        rows = await self._statements.run("get", array(digests)) if digests else ()
        found = {key: CacheHit(data, left) for key, data, left in rows}
        return [found.get(key) for key in digests]

    async def set(self, entries: Sequence[CacheEntry]) -> None:
        """Keep each, unless it is held. Of a key that is there twice, the last one."""
        given = {
            digest(entry.key): {
                "key": digest(entry.key),
                "data": entry.data.hex(),
                "seconds": entry.seconds,
                "tags": sorted({digest(tag) for tag in entry.tags}),
            }
            for entry in entries
        }
        if given:
            await self._statements.run("set", json.dumps(list(given.values())))

    async def delete(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes = b"") -> None:
        """Forget the keys and all entries of the tags."""
        if keys or tags:
            holder = str(UUID(bytes=token)) if token else START
            await self._statements.run("delete", digests(keys), digests(tags), holder)

    async def hold(self, keys: Sequence[str], *, tags: Sequence[str] = (), token: bytes, seconds: float) -> None:
        """Delete, and keep nothing under them until `delete` with the same token, or for `seconds`."""
        if keys or tags:
            holder = str(UUID(bytes=token))
            await self._statements.run("hold", digests(keys), digests(tags), holder, repr(seconds))

    async def delete_within(self, work: Executes, keys: Sequence[str], *, tags: Sequence[str] = ()) -> None:
        """Delete when the transaction commits. Two that do it with the same keys run one after the other."""
        if keys or tags:
            await work.execute(self._queries["delete_within"], (digests(keys), digests(tags)))

    async def claim(self, key: str, tags: Sequence[str], *, token: bytes, seconds: float) -> CacheClaiming:
        """Claim the making of a key."""
        named = {digest(tag): tag for tag in tags}
        ordered = sorted(named)
        given = (digest(key), array(ordered), str(UUID(bytes=token)), repr(seconds))
        ((granted, held, versions, data, left),) = await self._statements.run("claim", *given)
        hit = CacheHit(data, left) if data is not None and left > 0 else None
        if not granted:
            return CacheClaiming(None, hit, held=bool(held))
        stamps = {named[tag]: str(version).encode() for tag, version in zip(ordered, versions, strict=True)}
        return CacheClaiming(CacheClaim(token, stamps), hit)

    async def fill(self, entry: CacheEntry, claim: CacheClaim) -> bool:
        """Keep what was made, if the claim stands. A second run, after a lost connection, says False."""
        ((kept,),) = await self._statements.run(
            "fill",
            digest(entry.key),
            str(UUID(bytes=claim.token)),
            entry.data,
            repr(entry.seconds),
            array(map(digest, claim.stamps)),
            array(version.decode() for version in claim.stamps.values()),
        )
        return bool(kept)

    async def abandon(self, key: str, claim: CacheClaim) -> None:
        """Let others make it."""
        await self._statements.run("abandon", digest(key), str(UUID(bytes=claim.token)))

    async def purge(self) -> int:
        """Delete what is over, of 5,000 entries and 5,000 tags that are looked at. Returns how many it deleted.

        Each call goes on where the last one ended, and after the last entry begins anew.
        """
        ((entries, last),), ((tags, last_tag),) = await asyncio.gather(
            self._statements.run("purge", self._purged),
            self._statements.run("purge_tags", self._purged_tags, repr(float(TAG_SECONDS))),
        )
        self._purged, self._purged_tags = last or START, last_tag or START
        return int(entries) + int(tags)


def digest(name: str) -> str:
    """A key or tag as the table has it: of one size, free of NULs, and silent on whom it is about."""
    return str(UUID(bytes=blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()))


def digests(names: Iterable[str]) -> str:
    """The names as an array, each once, in the order in which rows are locked."""
    return array(sorted({digest(name) for name in names}))


def array(values: Iterable[Any]) -> str:
    """An array of numbers or UUIDs as Postgres reads it, which needs no quotes in there."""
    return "{" + ",".join(map(str, values)) + "}"
