"""Leases in Redis or Valkey: each call is one script, which the server runs in one step, by its own clock.

A lease is a hash with its holder and token, which expires. Its last token is beside it, for a week after its last use.
A new token is the larger of the last one plus one, and the time in microseconds: so tokens go on growing where the last
one was lost, as long as the clock that takes over is not behind by more than the lease was away.

What the promise rests on, and what it does not reach:

- **Not durable.** Replication is asynchronous. A failover may forget that a lease was taken in the last moments, and
  give it to a second holder while the first still believes in it. The second one's token is larger if the new
  primary's clock is not behind. So whoever writes must hand over the token, and whoever is written to must refuse
  smaller ones; without that, a lease here saves work and promises nothing. For money use the leases in Postgres.
- A restart without persistence is the same: everybody may take everything again.
- Memory. Under a `maxmemory-policy` that evicts, a lease may be evicted.
- Redis Cluster: the two keys of a lease have one hash slot.
"""

from hashlib import blake2b
from typing import Final

from workhorse.contracts import LeaseAnswer, LeaseGuarantee
from workhorse.state.redis.connection import Client, Script

__all__ = ["RedisLeases"]

# KEYS: the lease, its last token. ARGV: holder, milliseconds. Returns the token or 0, and the milliseconds left.
ACQUIRE: Final = Script("""
local found = redis.call('HMGET', KEYS[1], 'holder', 'token')
if found[1] then
  return {found[1] == ARGV[1] and tonumber(found[2]) or 0, redis.call('PTTL', KEYS[1])}
end
local time = redis.call('TIME')
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, time[1] * 1000000 + time[2])
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text, 'PX', math.max(604800000, ARGV[2] * 2))
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', text)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {token, tonumber(ARGV[2])}
""")

# KEYS: the lease. ARGV: holder, milliseconds.
RENEW: Final = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

# KEYS: the lease. ARGV: holder.
RELEASE: Final = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")


class RedisLeases:
    """A `contracts.LeaseStore` that all processes with the same server share.

    Args:
        client: from `open_redis`; closing it is its owner's.
        prefix: put before every key, so that several services can share a server.
        timeout_seconds: longest wait for one answer, everything included.
    """

    def __init__(self, client: Client, *, prefix: str = "workhorse:", timeout_seconds: float = 1.0) -> None:
        self._client = client
        self._prefix = prefix + "lease:"
        self._timeout = timeout_seconds

    @property
    def guarantees(self) -> LeaseGuarantee:
        """Shared and fenced, while the server keeps its data."""
        return LeaseGuarantee.SHARED | LeaseGuarantee.FENCED

    async def acquire(self, name: str, holder: bytes, *, seconds: float) -> LeaseAnswer:
        """Take the lease if nobody has it."""
        lease = self._key(name)
        given = (holder, milliseconds(seconds))
        token, left_ms = await ACQUIRE.run(self._client, [lease, lease + ":last"], given, timeout_seconds=self._timeout)
        return LeaseAnswer(token, left_ms / 1000)

    async def renew(self, name: str, holder: bytes, *, seconds: float) -> bool:
        """Let it end `seconds` from now."""
        given = (holder, milliseconds(seconds))
        return bool(await RENEW.run(self._client, [self._key(name)], given, timeout_seconds=self._timeout))

    async def release(self, name: str, holder: bytes) -> bool:
        """End it. A second run, after a lost connection, finds nothing."""
        return bool(await RELEASE.run(self._client, [self._key(name)], (holder,), timeout_seconds=self._timeout))

    async def purge(self) -> int:
        """Nothing: the server forgets by itself."""
        return 0

    def _key(self, name: str) -> str:
        # The braces give both keys of a lease one hash slot (Redis Cluster specification, hash tags).
        return f"{self._prefix}{{{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}}}"


def milliseconds(seconds: float) -> int:
    """At least 1."""
    return max(1, int(seconds * 1000))
