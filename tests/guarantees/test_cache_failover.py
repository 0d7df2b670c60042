"""A replica of Valkey that takes over knows nothing of the last moments: only a fencing token tells who is who."""

import asyncio
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes, token_hex
from socket import AF_INET

import pytest

from tests.state.cache_kit import free_ports, redis_client, wait_for_socket
from workhorse.contracts import CacheEntry, SessionRecord
from workhorse.embedded.binaries import find_valkey
from workhorse.rate import Quota
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.connection import Client
from workhorse.state.redis.counters import RedisCounters
from workhorse.state.redis.lease import RedisLeases
from workhorse.state.redis.sessions import RedisSessions

QUOTA = Quota("caller", 3_600_000_000, 2)
WRITTEN = 3
"""The keys of a session, of its subject's sessions, and of a cached value."""


@contextmanager
def valkey(folder: Path, port: int, *settings: str) -> Generator[str]:
    """One on a port, whose URL is given."""
    folder.mkdir()
    command = [str(find_valkey()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, *settings], stdout=subprocess.DEVNULL)
    try:
        wait_for_socket(AF_INET, ("127.0.0.1", port))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def copied(client: Client) -> bool:
    """Whether a replica has all that was written."""
    told: dict[str, object] = await client.execute(["INFO", "replication"])
    written: int = await client.execute(["DBSIZE"])
    return told.get("master_link_status") == "up" and written == WRITTEN


@pytest.mark.slow
def test_after_a_failover_ended_sessions_deleted_values_and_free_leases_may_be_back_and_the_next_token_is_larger(
    tmp_path: Path,
) -> None:
    now = time.time()
    session = SessionRecord(
        token_bytes(32), token_hex(8), "alice", now, now, now + 43_200, 1800, grants=b"g", data=b"d", version=0
    )

    async def before(primary: str, standby: str) -> int:
        async with redis_client(primary) as client:
            sessions, cache = RedisSessions(client), RedisCache(client)
            await sessions.insert(session)
            await cache.set([CacheEntry("price", b"100", 600.0)])
            async with redis_client(standby) as replica, asyncio.timeout(30):
                while not await copied(replica):
                    await asyncio.sleep(0.02)
                await replica.execute(["REPLICAOF", "NO", "ONE"])  # from here on it hears nothing any more
            assert await sessions.delete(session.digest)
            await cache.delete(["price"])
            assert [(await RedisCounters(client).take([QUOTA]))[0].admitted for _ in range(3)] == [True, True, False]
            return (await RedisLeases(client).acquire("books", token_bytes(16), seconds=600.0)).token

    async def after(standby: str) -> int:
        async with redis_client(standby) as client:
            assert await RedisSessions(client).find(session.digest, now=now) is not None
            assert (await RedisCache(client).get(["price"]))[0] is not None
            assert (await RedisCounters(client).take([QUOTA]))[0].admitted
            return (await RedisLeases(client).acquire("books", token_bytes(16), seconds=600.0)).token

    first, second = free_ports(2)
    with valkey(tmp_path / "standby", second, "--replicaof", f"127.0.0.1 {first}") as standby:
        with valkey(tmp_path / "primary", first, "--repl-diskless-sync-delay", "0") as primary:
            token = asyncio.run(before(primary, standby))
        assert asyncio.run(after(standby)) > token > 0, "two holders at once, and only the token tells them apart"
