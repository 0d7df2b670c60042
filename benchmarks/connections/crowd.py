"""The crowd, in a process of its own: `python -m benchmarks.connections.crowd PORT IDLE SLOW`.

First the idle clients come: each makes one request and keeps its connection. `idle` is said when all have had their
reply. At a line on standard input the slow ones come, a third of each kind, and whoever is cut off comes again; `slow`
is said when all are there. At the end of standard input it says what became of them, as JSON, and goes.
"""

import asyncio
import select
import socket
import sys
from typing import Final

import msgspec

from benchmarks.processes import HOST

__all__ = ["CrowdResult", "IdleClient", "SlowBody", "SlowClient", "SlowHead", "SlowReader", "main"]

AT_ONCE: Final = 100
ARRIVE_SECONDS: Final = 120.0
TICK_SECONDS: Final = 1.0
HEAD: Final = b"host: 127.0.0.1\r\n"
READER_ROOM: Final = 4096


class CrowdResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the crowd."""

    idle_lost: int
    """Idle connections that the server closed."""
    heads_cut: int
    bodies_cut: int
    readers_cut: int


class IdleClient(asyncio.Protocol):
    """Makes one request, and is idle."""

    def __init__(self) -> None:
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the request."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        """Take (the beginning of) the reply."""
        if not self.served.done():
            self.served.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or this process at its end, has closed the connection."""
        self.lost = True
        if not self.served.done():
            self.served.set_exception(exc or ConnectionError("the server hung up on an idle client"))


class SlowClient:
    """Holds a connection as long as the server lets it, and then another one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self.cut = 0

    async def connect(self) -> None:
        """Come (again)."""
        client = socket.socket()
        client.setblocking(False)  # noqa: FBT003 - the library's own signature
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READER_ROOM)
        await asyncio.get_running_loop().sock_connect(client, (HOST, self._port))
        self._socket, self._poll = client, select.poll()
        self._poll.register(client, select.POLLRDHUP)
        self._send(self.first())

    async def tick(self) -> None:
        """Do what it does once a second."""
        if self._socket is not None and self._poll.poll(0):
            self.cut += 1
            self.close()
        if self._socket is None:
            await self.connect()
        else:
            self._send(self.more())

    def close(self) -> None:
        """Go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def first(self) -> bytes:
        """What it says at once."""
        return b""

    def more(self) -> bytes:
        """What it says each second."""
        return b""

    def _send(self, data: bytes) -> None:
        if self._socket is not None and data:
            try:
                self._socket.send(data)
            except OSError:  # it was cut: the next tick sees it
                return


class SlowHead(SlowClient):
    """Sends a head without end, a byte a second."""

    def first(self) -> bytes:
        """Enough to be taken for a request."""
        return b"GET / HTTP/1.1\r\n" + HEAD + b"x: "

    def more(self) -> bytes:
        """The next byte."""
        return b"x"


class SlowBody(SlowClient):
    """Sends a body, ten bytes a second."""

    def first(self) -> bytes:
        """A whole head, and a promise."""
        return b"POST /upload HTTP/1.1\r\n" + HEAD + b"content-length: 100000\r\n\r\n"

    def more(self) -> bytes:
        """The next ten bytes."""
        return b"0123456789"


class SlowReader(SlowClient):
    """Asks for ten megabytes, and takes none of them."""

    def first(self) -> bytes:
        """The request."""
        return b"GET /large HTTP/1.1\r\n" + HEAD + b"\r\n"


async def _idle(port: int, count: int) -> list[IdleClient]:
    loop, clients = asyncio.get_running_loop(), [IdleClient() for _ in range(count)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def come(client: IdleClient) -> None:
        async with gate:
            await loop.create_connection(lambda: client, HOST, port)
            await client.served

    async with asyncio.timeout(ARRIVE_SECONDS):
        await asyncio.gather(*map(come, clients))
    return clients


async def _keep_slow(clients: list[SlowClient]) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        await asyncio.gather(*(client.tick() for client in clients))


async def _play(port: int, idle: int, slow: int) -> CrowdResult:
    idle_clients = await _idle(port, idle)
    _say("idle")
    await asyncio.to_thread(sys.stdin.readline)
    kinds: tuple[type[SlowClient], ...] = (SlowHead, SlowBody, SlowReader)
    slow_clients = [kinds[number % len(kinds)](port) for number in range(slow)]
    for client in slow_clients:
        await client.connect()
    _say("slow")
    keeping = asyncio.create_task(_keep_slow(slow_clients))
    await asyncio.to_thread(sys.stdin.read)
    if keeping.done():
        keeping.result()
    keeping.cancel()
    result = CrowdResult(
        idle_lost=sum(client.lost for client in idle_clients),
        heads_cut=sum(client.cut for client in slow_clients if isinstance(client, SlowHead)),
        bodies_cut=sum(client.cut for client in slow_clients if isinstance(client, SlowBody)),
        readers_cut=sum(client.cut for client in slow_clients if isinstance(client, SlowReader)),
    )
    for client in slow_clients:
        client.close()
    return result


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Play the crowd."""
    port, idle, slow = map(int, sys.argv[1:])
    try:
        result = asyncio.run(_play(port, idle, slow))
    except (OSError, TimeoutError) as error:
        sys.stderr.write(f"the crowd failed: {str(error) or type(error).__name__}\n")
        return 1
    _say(msgspec.json.encode(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
