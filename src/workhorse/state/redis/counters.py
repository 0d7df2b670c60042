"""Rate limits counted in Redis or Valkey: one script, run by the server in one step, by the server's clock.

A counter is a string that holds its theoretical arrival time (see `state.gcra`), and expires when it is full again:
so there is nothing to clean up. The script answers with the times on which it decided, and what they mean is worked
out here.

What the promise rests on:

- One primary. Replication is asynchronous, so a failover forgets what the replica had not heard of, usually the last
  milliseconds: as many requests may be admitted once more. A restart without persistence forgets everything: then
  each counter is full, and up to one capacity per key is admitted again.
- The server's clock is a wall clock. Set back, it makes callers wait longer; set forward, it fills counters early.
- Memory. Counters live at most until they are full again, but whoever makes up keys makes counters. With
  `maxmemory-policy noeviction` a full server refuses, and so do we; `volatile-ttl` evicts those that are full
  soonest, as `MemoryCounters` does; the other policies evict counters that matter.
- Not Redis Cluster: the counters of one request have to lie on one server.
"""

from collections.abc import Sequence
from typing import Final

from workhorse.contracts import Exactness, Grant
from workhorse.rate import Quota
from workhorse.state.gcra import check_take, settle
from workhorse.state.redis.connection import Client, Script, ask

__all__ = ["RedisCounters"]

# KEYS: the counters. ARGV: for each the microseconds that the request moves it on (the charge), then for each how far
# ahead it may lie (the depth). Returns the time and each counter's TAT before. All numbers stay below 2^53, where Lua's
# are exact; `%.0f` because Lua writes large ones with an exponent.
TAKE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = redis.call('MGET', unpack(KEYS))
local reply, ends, charged, admitted = {now}, {}, false, true
for i = 1, #KEYS do
  local tat = tonumber(found[i] or 0)
  local charge = tonumber(ARGV[i])
  reply[i + 1] = tat
  ends[i] = math.max(tat, now) + charge
  admitted = admitted and ends[i] - now <= tonumber(ARGV[#KEYS + i])
  charged = charged or charge > 0
end
if admitted and charged then
  for i, key in ipairs(KEYS) do
    local life = math.ceil((ends[i] - now) / 1000)
    redis.call('SET', key, string.format('%.0f', ends[i]), 'PX', string.format('%.0f', life))
  end
end
return reply
""")


class RedisCounters:
    """A `contracts.CounterStore` that all processes with the same server share.

    A take whose connection broke is sent once more, and may then have been taken twice: a caller is refused early,
    never admitted too often.

    Args:
        client: from `open_redis`; closing it is its owner's.
        prefix: put before every key, so that several services can share a server.
        timeout_seconds: longest wait for one answer, everything included.
    """

    def __init__(self, client: Client, *, prefix: str = "workhorse:counter:", timeout_seconds: float = 1.0) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout = timeout_seconds

    @property
    def exactness(self) -> Exactness:
        """Over all processes."""
        return Exactness.SHARED

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none, in one round trip.

        Raises:
            StoreUnavailable: the server did not answer in time.
            ValueError: see `gcra.check_take`.
        """
        check_take(quotas, cost)
        charges = [cost * quota.interval_us for quota in quotas]
        depths = [quota.capacity * quota.interval_us for quota in quotas]
        names = [self._name(quota.key) for quota in quotas]
        now_us, *tats_us = await TAKE.run(self._client, names, charges + depths, timeout_seconds=self._timeout)
        return settle(tats_us, now_us, quotas, cost)[1]

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        if keys:
            await ask(self._client, "UNLINK", *map(self._name, keys), timeout_seconds=self._timeout)

    def _name(self, key: str) -> bytes:
        # A key may hold what a client sent, half a surrogate pair included.
        return (self._prefix + key).encode("utf-8", "surrogatepass")
