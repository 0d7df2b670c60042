"""A fixed number of requests over a few kept-alive connections: what a server is given while its CPU time is read.

Not how fast it is: the load shares its cores with the server, and only the server's own CPU time counts. So this may
be plain asyncio in the benchmark's process.
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any, Final, cast

from benchmarks.guard.traffic import BODY, TARGETS, Method, Traffic
from benchmarks.load.wire import BadReply, read_head
from benchmarks.processes import HOST as ADDRESS

__all__ = ["play", "wire_requests"]

CONNECTIONS: Final = 8
CONNECT_SECONDS: Final = 10.0
PLAY_SECONDS: Final = 120.0


def wire_requests(traffic: Traffic, method: Method, count: int) -> list[bytes]:
    """The first `count` requests as HTTP/1.1."""
    path, query = TARGETS[method]
    target = path.encode() + (b"?" + query if query else b"")
    body = BODY if method == "POST" else b""
    return [
        b"%b %b HTTP/1.1\r\n%b\r\n%b"
        % (
            method.encode(),
            target,
            b"".join(b"%b: %b\r\n" % header for header in traffic.headers(method, number)),
            body,
        )
        for number in range(count)
    ]


async def play(port: int, requests: Sequence[bytes], count: int) -> None:
    """Send `count` requests, going around `requests`, and wait for all replies.

    Raises:
        BadReply: a reply is not understood, or not 200.
        ConnectionError: the server hung up.
        TimeoutError: it took longer than two minutes.
    """
    loop = asyncio.get_running_loop()
    waiting = islice(cycle(requests), count)
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(CONNECTIONS):
                _, connection = await loop.create_connection(lambda: Connection(waiting), ADDRESS, port)
                connections.append(connection)
        async with asyncio.timeout(PLAY_SECONDS):
            await asyncio.gather(*(connection.ended for connection in connections))
    finally:
        for connection in connections:
            connection.close()


class Connection(asyncio.Protocol):
    """Sends the next of the requests that wait whenever a reply is whole. `ended` is done when none waits."""

    def __init__(self, waiting: Iterator[bytes]) -> None:
        self._waiting = waiting
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._send(self._transport)

    def data_received(self, data: bytes) -> None:
        """Take a reply."""
        self._received += data
        try:
            head = read_head(self._received)
            if head is None or len(self._received) < head.length:
                return
        except BadReply as error:
            self._fail(error)
            return
        if head.status != 200:
            self._fail(BadReply(f"a request was answered with {self._received[:600]!r}"))
            return
        self._received = b""
        if self._transport is not None:
            self._send(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Without all of its replies the measurement is worth nothing."""
        self._fail(ConnectionError(f"the server hung up: {exc or 'end of stream'}"))

    def close(self) -> None:
        """Hang up."""
        if not self.ended.done():
            self.ended.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def _send(self, transport: Any) -> None:
        request = next(self._waiting, None)
        if request is not None:
            transport.write(request)
        elif not self.ended.done():
            self.ended.set_result(None)
