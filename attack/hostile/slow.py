"""Clients that take their time: heads, bodies and readers that never come to an end (CWE-400).

All kinds go on at once, so that the whole takes as long as the longest limit. What counts is that the server ends them
by itself, and that a good request is answered meanwhile.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Final

from attack.checks import Attack, Check, Checks
from attack.hostile.shapes import good_is_served, good_request
from attack.target import Target
from attack.wire import connect
from benchmarks.processes import HOST

__all__ = ["ATTACK"]

CLIENTS: Final = 100
IDLE_CLIENTS: Final = 300
DEADLINE_SECONDS: Final = 50.0
"""The slowest limit is 30 seconds, for a client that does not read (docs/operation.md); the rest is grace."""
PACE_SECONDS: Final = 1.0
PIPELINED: Final = 500
SMALL_BUFFER: Final = 4096
PIECE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be slow."""

    name: str
    clients: int
    begin: bytes
    drop: bytes
    """What is sent each second."""
    reads: bool = True


async def attack(target: Target) -> Checks:
    """Be slow in every way at once."""
    auth = target.head()
    host = f"Host: {target.authority}\r\n".encode()
    post = b"POST /accounts HTTP/1.1\r\n" + host + auth + b"Idempotency-Key: s\r\nContent-Type: application/json\r\n"
    kinds = (
        Kind("slow heads", CLIENTS, b"GET / HTTP/1.1\r\n" + host, b"X-a: b\r\n"),
        Kind("a head by single bytes", CLIENTS, b"GET /", b"a"),
        Kind("slow bodies", CLIENTS, post + b"Content-Length: 100000\r\n\r\n", b" "),
        Kind("slow chunks", CLIENTS, post + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        Kind("a body that never begins", CLIENTS, post + b"Content-Length: 100\r\n\r\n", b""),
        Kind("readers that do not read", 10, good_request(target, path="/openapi.json") * PIPELINED, b"", reads=False),
    )
    checks = await asyncio.gather(*(_be_slow(target, kind) for kind in kinds), _idle(target))
    return [*checks, await good_is_served(target)]


async def _be_slow(target: Target, kind: Kind) -> Check:
    ended = await asyncio.gather(*(_one(target, kind) for _ in range(kind.clients)))
    times = [seconds for seconds in ended if seconds is not None]
    return Check(
        name=f"{kind.name}: {kind.clients} clients",
        expected=f"all ended by the server within {DEADLINE_SECONDS:g} s",
        observed=f"{len(times)} ended{f', the last after {max(times):.0f} s' if times else ''}",
        held=len(times) == kind.clients,
    )


async def _one(target: Target, kind: Kind) -> float | None:
    """Seconds until the server ended the connection; None if it did not."""
    clock = asyncio.get_running_loop().time
    began = clock()
    slow = _drip(target, kind) if kind.reads else _do_not_read(target, kind)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await slow
    except TimeoutError:
        return None
    except OSError:
        pass
    return clock() - began


async def _drip(target: Target, kind: Kind) -> None:
    """Send a little each second, until there is an answer or an end: the server does not wait for the rest."""
    async with connect(target.port) as (reader, writer):
        writer.write(kind.begin)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_SECONDS):
                    await reader.read(PIECE)
                    return
            writer.write(kind.drop)
            await writer.drain()


async def _do_not_read(target: Target, kind: Kind) -> None:
    """Ask for much and read nothing, until writing fails: what was asked for cannot all be waiting in the system."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.settimeout(0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        await loop.sock_connect(client, (HOST, target.port))
        while True:
            await loop.sock_sendall(client, kind.begin)
            await asyncio.sleep(PACE_SECONDS)


async def _idle(target: Target) -> Check:
    """Hold many connections on which nothing comes, and see whether others are answered."""
    async with contextlib.AsyncExitStack() as stack:
        held = 0
        for _ in range(IDLE_CLIENTS):
            with contextlib.suppress(OSError, TimeoutError):
                await stack.enter_async_context(connect(target.port))
                held += 1
        served = await good_is_served(target)
    return Check(
        name=f"{IDLE_CLIENTS} connections on which nothing comes",
        expected="others are answered",
        observed=f"{held} held, meanwhile {served.observed}",
        held=served.held and held == IDLE_CLIENTS,
    )


ATTACK: Final = Attack(
    name="slow", threat="connections and memory held by clients that take their time (CWE-400)", run=attack
)
