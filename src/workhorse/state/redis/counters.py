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

Takes that come while others are under way share the next round trip, and are decided there one after the other. With
many callers at once this is most of what a rate limit costs a process.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import Final, NamedTuple

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

# The same for several takes, one after the other, in one step. ARGV: how many takes; the number of counters of each;
# then charges and depths as above. A later take sees what the earlier ones took.
TAKE_MANY: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = redis.call('MGET', unpack(KEYS))
local takes, count = tonumber(ARGV[1]), #KEYS
local tats, reply, at = {}, {now}, 0
for i, key in ipairs(KEYS) do
  tats[key] = tonumber(found[i] or 0)
end
for take = 1, takes do
  local size, ends, charged, admitted = tonumber(ARGV[1 + take]), {}, false, true
  for i = at + 1, at + size do
    local tat = tats[KEYS[i]]
    local charge = tonumber(ARGV[1 + takes + i])
    reply[i + 1] = tat
    ends[i] = math.max(tat, now) + charge
    admitted = admitted and ends[i] - now <= tonumber(ARGV[1 + takes + count + i])
    charged = charged or charge > 0
  end
  if admitted and charged then
    for i = at + 1, at + size do
      local life = math.ceil((ends[i] - now) / 1000)
      redis.call('SET', KEYS[i], string.format('%.0f', ends[i]), 'PX', string.format('%.0f', life))
      tats[KEYS[i]] = ends[i]
    end
  end
  at = at + size
end
return reply
""")
LANES: Final = 2
"""Round trips under way at once."""
AT_MOST: Final = 128
"""Takes that share one."""


class Waiting(NamedTuple):
    """A take on its way into a round trip."""

    names: list[bytes]
    charges: list[int]
    depths: list[int]
    answer: asyncio.Future[tuple[int, list[int]]]


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
        self._waiting: deque[Waiting] = deque()
        self._free = LANES
        self._kicked = False
        self._under_way: set[asyncio.Task[None]] = set()

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
        if self._client.cluster:
            now_us, *tats_us = await TAKE.run(self._client, names, charges + depths, timeout_seconds=self._timeout)
            return settle(tats_us, now_us, quotas, cost)[1]
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[int, list[int]]] = loop.create_future()
        self._waiting.append(Waiting(names, charges, depths, answer))
        if self._free and not self._kicked:
            self._kicked = True
            loop.call_soon(self._kick)
        now_us, tats_us = await answer
        return settle(tats_us, now_us, quotas, cost)[1]

    def _kick(self) -> None:
        """Send what waits, as far as there are lanes: no timer, so a take that comes alone does not wait."""
        self._kicked = False
        while self._free and self._waiting:
            self._free -= 1
            batch = [self._waiting.popleft() for _ in range(min(AT_MOST, len(self._waiting)))]
            task = asyncio.create_task(self._ask(batch), context=Context())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _ask(self, batch: list[Waiting]) -> None:
        """Take for all of them in one round trip."""
        try:
            if len(batch) == 1:
                (one,) = batch
                script, keys, numbers = TAKE, one.names, one.charges + one.depths
            else:
                script, keys = TAKE_MANY, [name for one in batch for name in one.names]
                numbers = [
                    len(batch),
                    *(len(one.names) for one in batch),
                    *(charge for one in batch for charge in one.charges),
                    *(depth for one in batch for depth in one.depths),
                ]
            now_us, *tats_us = await script.run(self._client, keys, numbers, timeout_seconds=self._timeout)
            at = 0
            for one in batch:
                if not one.answer.done():
                    one.answer.set_result((now_us, tats_us[at : at + len(one.names)]))
                at += len(one.names)
        except Exception as error:  # noqa: BLE001 - told to those who wait
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
        finally:
            for one in batch:
                one.answer.cancel()  # of no effect where there is an answer; else the loop ends
            self._free += 1
            self._kick()

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
