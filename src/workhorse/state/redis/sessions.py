"""Sessions kept in Redis or Valkey: each call is one command or one script, which the server runs in one step.

A session is a hash under the digest of its secret, and the sessions of a subject are a sorted set, by the time at which
each ends whatever is done with it. The server forgets both by itself. Whoever is dead in the set, because the session
idled out, goes when it is listed, and with the next login after its end. A script finds a session's set in the hash,
and a subject's hashes in its set, so that neither is ever changed without the other. And a session that its subject's
set does not name is none: whoever ends all of a subject's sessions overlooks none, even where the server has evicted
the set.

What the promise rests on:

- One primary. A failover forgets what the replica had not heard of, usually the last milliseconds: a login (who then
  logs in again), but also a logout. Let `min-replicas-to-write` or a database hold what must not come back.
- Persistence. Without it a restart ends all sessions. With snapshots only, a crash brings back those that were ended
  since the last one: use `appendonly yes`.
- Memory. Under a `maxmemory-policy` that evicts, sessions end early. With `noeviction` a full server refuses logins.
- The server's clock decides when memory is freed, a minute after the end. Whether a session has ended, the caller's
  clock decides.
- Not Redis Cluster: a session and its subject's set have to lie on one server.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, Final

from workhorse.contracts import SessionRecord
from workhorse.state.redis.connection import Client, Script

__all__ = ["RedisSessions"]

# What the scripts share. `put` keeps a session: `given` holds its set's key, its name in there, when the server may
# forget it and when it ends at last (milliseconds), and then its fields and values.
SHARED: Final = """
local function put(key, given)
  local index, member, forget, expires = given[1], given[2], given[3], given[4]
  redis.call('HSET', key, 'index', index, 'member', member, unpack(given, 5))
  redis.call('PEXPIREAT', key, forget)
  redis.call('ZADD', index, expires, member)
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  redis.call('PEXPIREAT', index, string.format('%.0f', last[2] + 60000))
end
local function drop(key)
  local place = redis.call('HMGET', key, 'index', 'member')
  if place[1] then redis.call('ZREM', place[1], place[2]) end
  return redis.call('DEL', key)
end
"""

# KEYS: the session, and perhaps the one that it replaces. ARGV: the time in milliseconds, then as `put` takes it.
INSERT: Final = Script(
    SHARED
    + """
local now = table.remove(ARGV, 1)
redis.call('ZREMRANGEBYSCORE', ARGV[1], '-inf', now)
put(KEYS[1], ARGV)
if KEYS[2] then drop(KEYS[2]) end
"""
)

# KEYS: the session. ARGV: the fields. Returns their values, if its subject's set names it.
FIND: Final = Script("""
local place = redis.call('HMGET', KEYS[1], 'index', 'member')
if not place[1] or not redis.call('ZSCORE', place[1], place[2]) then return nil end
return redis.call('HMGET', KEYS[1], unpack(ARGV))
""")

# KEYS: the session. ARGV: when it was used, in seconds.
TOUCH: Final = Script("""
local found = redis.call('HMGET', KEYS[1], 'seen', 'expires', 'idle_seconds')
if not found[1] or tonumber(ARGV[1]) >= math.min(tonumber(found[2]), found[1] + found[3]) then return end
if tonumber(found[1]) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'seen', ARGV[1])
  local ends = math.min(tonumber(found[2]), ARGV[1] + found[3])
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.ceil(ends * 1000) + 60000))
end
""")

# KEYS: the session. ARGV: the data, the version that they are to replace, the next one, and a name of this write. A
# second run finds its own name there. The data do not tell: two who add one to the same number write the same.
WRITE: Final = Script("""
local found = redis.call('HMGET', KEYS[1], 'version', 'written_by')
if found[1] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'data', ARGV[1], 'version', ARGV[3], 'written_by', ARGV[4])
  return 1
end
return found[2] == ARGV[4] and 1 or 0
""")

# KEYS: the session, and what is to replace it. ARGV: the version to replace, the time in seconds, then as `put` takes
# it. A second run finds the new one, whose key was never used before.
ROTATE: Final = Script(
    SHARED
    + """
local version, now = table.remove(ARGV, 1), tonumber(table.remove(ARGV, 1))
local found = redis.call('HMGET', KEYS[1], 'version', 'seen', 'expires', 'idle_seconds')
if found[1] ~= version then return redis.call('EXISTS', KEYS[2]) end
if now >= math.min(tonumber(found[3]), found[2] + found[4]) then return 0 end
put(KEYS[2], ARGV)
drop(KEYS[1])
return 1
"""
)

# KEYS: the session.
DELETE: Final = Script(SHARED + "return drop(KEYS[1])")

# KEYS: the subject's set. ARGV: what the keys of sessions begin with, and the public id of which all (1) or all others
# (0) are to end. Returns how many it were.
DELETE_NAMED: Final = Script("""
local count = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local public_id, digest = string.match(member, '^(.*):(%x+)$')
  if (public_id == ARGV[2]) == (ARGV[3] == '1') then
    count = count + redis.call('DEL', ARGV[1] .. digest)
    redis.call('ZREM', KEYS[1], member)
  end
end
return count
""")

# KEYS: the subject's set. ARGV: what the keys of sessions begin with, the time in seconds, how many are wanted at most,
# and the fields. Returns their values, session by session, the last used first; and clears the set of the dead.
LIST: Final = Script("""
local alive = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. string.match(member, ':(%x+)$')
  local found = redis.call('HMGET', key, 'seen', 'expires', 'idle_seconds')
  if not found[1] then
    redis.call('ZREM', KEYS[1], member)
  elseif tonumber(ARGV[2]) < math.min(tonumber(found[2]), found[1] + found[3]) then
    alive[#alive + 1] = {tonumber(found[1]), member, key}
  end
end
table.sort(alive, function(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] < b[2]) end)
local reply = {}
for i = 1, math.min(#alive, tonumber(ARGV[3])) do
  reply[i] = redis.call('HMGET', alive[i][3], unpack(ARGV, 4))
end
return reply
""")

FIELDS: Final = SessionRecord._fields[1:]
"""The digest is in the key."""
LISTED: Final = 100
# How long after a session's end the server forgets it, for clocks that differ.
SLACK_MS: Final = 60_000


class RedisSessions:
    """A `contracts.SessionStore` that all processes with the same server share.

    Args:
        client: from `open_redis`; closing it is its owner's.
        prefix: put before every key, so that several services can share a server.
        timeout_seconds: longest wait for one answer, everything included.
    """

    def __init__(self, client: Client, *, prefix: str = "workhorse:", timeout_seconds: float = 1.0) -> None:
        self._client = client
        self._sessions = prefix + "session:"
        self._subjects = prefix + "sessions-of:"
        self._timeout = timeout_seconds

    async def insert(self, session: SessionRecord, *, replaces: bytes | None = None) -> None:
        """Keep a new session, and end the one that it replaces."""
        keys = [self._key(digest) for digest in (session.digest, replaces) if digest is not None]
        await self._run(INSERT, keys, _milliseconds(session.created), *_given(self._index(session.subject), session))

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        """The session, unless it has ended."""
        values = await self._run(FIND, [self._key(digest)], *FIELDS)
        if values is None:
            return None
        session = _record(digest, values)
        return session if now < session.ends else None

    async def touch(self, digest: bytes, *, seen: float) -> None:
        """Note that it was used."""
        await self._run(TOUCH, [self._key(digest)], repr(seen))

    async def write(self, digest: bytes, *, data: bytes, version: int) -> bool:
        """Replace the data of one version."""
        return bool(await self._run(WRITE, [self._key(digest)], data, version, version + 1, token_bytes(16)))

    async def rotate(self, digest: bytes, fresh: SessionRecord) -> bool:
        """Replace the session by `fresh`."""
        keys = [self._key(digest), self._key(fresh.digest)]
        replaced = (fresh.version - 1, repr(fresh.seen))
        return bool(await self._run(ROTATE, keys, *replaced, *_given(self._index(fresh.subject), fresh)))

    async def delete(self, digest: bytes) -> bool:
        """End a session."""
        return bool(await self._run(DELETE, [self._key(digest)]))

    async def delete_one(self, subject: str, public_id: str) -> bool:
        """End the subject's session of this name."""
        return bool(await self._run(DELETE_NAMED, [self._index(subject)], self._sessions, public_id, 1))

    async def delete_all(self, subject: str, *, keep: str | None = None) -> int:
        """End the subject's sessions, but for one."""
        return int(await self._run(DELETE_NAMED, [self._index(subject)], self._sessions, keep or "", 0))

    async def list(self, subject: str, *, now: float) -> Sequence[SessionRecord]:
        """The subject's sessions that are alive, the last used first."""
        fields = ("digest", *FIELDS)
        found = await self._run(LIST, [self._index(subject)], self._sessions, repr(now), LISTED, *fields)
        return [_record(values[0], values[1:]) for values in found]

    async def purge(self, *, now: float) -> int:
        """Nothing: the server forgets by itself."""
        del now
        return 0

    async def _run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        return await script.run(self._client, keys, arguments, timeout_seconds=self._timeout)

    def _key(self, digest: bytes) -> str:
        return self._sessions + digest.hex()

    def _index(self, subject: str) -> str:
        # A digest, because a subject may be a name or an address, and names of keys show in the server's own logs.
        return self._subjects + blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def _given(index: str, session: SessionRecord) -> list[str | bytes | int]:
    """A session as `put` takes it."""
    given: list[str | bytes | int] = [
        index,
        f"{session.public_id}:{session.digest.hex()}",
        _milliseconds(session.ends) + SLACK_MS,
        _milliseconds(session.expires),
    ]
    values: Sequence[str | bytes | int | float] = session
    for field, value in zip(SessionRecord._fields, values, strict=True):
        given += [field, repr(value) if isinstance(value, float) else value]
    return given


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _record(digest: bytes, values: Sequence[bytes]) -> SessionRecord:
    public_id, subject, created, seen, expires, idle_seconds, grants, data, version = values
    return SessionRecord(
        digest=digest,
        public_id=public_id.decode(),
        subject=subject.decode(),
        created=float(created),
        seen=float(seen),
        expires=float(expires),
        idle_seconds=int(idle_seconds),
        grants=grants,
        data=data,
        version=int(version),
    )
