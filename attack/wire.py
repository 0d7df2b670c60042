"""A client that writes what it likes: bytes go out as they are, and replies are read as far as they are any.

It follows no redirect, keeps no state, and never waits longer than it is told to.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.processes import HOST

__all__ = ["Conversation", "Reply", "connect", "read_replies", "talk"]

PIECE: Final = 64 * 1024
MAX_BYTES: Final = 32 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 1.0
"""A server that says nothing for so long has nothing more to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header; empty where there is none."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a connection brought."""

    replies: tuple[Reply, ...]
    closed: bool
    """Whether the server closed it."""
    sent: int
    """Bytes that the server, or the system for it, has taken."""
    seconds: float
    raw: bytes

    @property
    def statuses(self) -> tuple[int, ...]:
        """Of all replies, in order."""
        return tuple(reply.status for reply in self.replies)

    def __str__(self) -> str:
        what = ", ".join(map(str, self.statuses)) or "no reply"
        return f"{what}{', closed' if self.closed else ''}"


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to this machine's `port`, which ends at once with the context."""
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port, limit=MAX_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def talk(
    port: int,
    data: bytes | Iterable[bytes],
    *,
    seconds: float = 6.0,
    quiet: float = QUIET_SECONDS,
    half_close: bool = False,
    head: bool = False,
) -> Conversation:
    """Send `data` and read until the server closes, falls silent, or the time is over.

    Args:
        port: of the server.
        data: what is sent; several pieces are sent as fast as the server takes them, until it answers.
        seconds: longest time of the whole conversation.
        quiet: after a first reply, silence of so long ends it.
        half_close: say that nothing more will be sent.
        head: the first request is a HEAD, whose reply has no body.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    received = bytearray()
    sent = 0
    closed = False
    try:
        async with asyncio.timeout(seconds), connect(port) as (reader, writer):
            listening = asyncio.create_task(_listen(reader, received, quiet))
            try:
                for piece in (data,) if isinstance(data, bytes) else data:
                    if listening.done() or received:
                        break
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                if half_close and not listening.done():
                    writer.write_eof()
            except OSError:
                pass
            try:
                closed = await listening
            finally:
                listening.cancel()
    except TimeoutError:
        closed = False
    except OSError:
        closed = True
    return Conversation(
        replies=tuple(read_replies(bytes(received), head=head)),
        closed=closed,
        sent=sent,
        seconds=clock() - began,
        raw=bytes(received[:4096]),
    )


async def _listen(reader: asyncio.StreamReader, received: bytearray, quiet: float) -> bool:
    """Read until the server closes, which returns True, or falls silent after it said something."""
    while len(received) < MAX_BYTES:
        try:
            piece = await asyncio.wait_for(reader.read(PIECE), quiet if received else None)
        except TimeoutError:
            return False
        except OSError:
            return True
        if not piece:
            return True
        received += piece
    return False


def read_replies(data: bytes, *, head: bool = False) -> Sequence[Reply]:
    """The replies in what a server sent; what is cut off or no reply is left out, 1xx as well."""
    found: list[Reply] = []
    while data.startswith(b"HTTP/1."):
        top, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            break
        lines = top.decode("latin-1").split("\r\n")
        status = lines[0].split(" ")[1:2]
        if not status or not status[0].isdigit():
            break
        headers = [
            (name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])
        ]
        number = int(status[0])
        if 100 <= number < 200:
            data = rest
            continue
        body, data = (b"", rest) if number in {204, 304} or (head and not found) else _body(dict(headers), rest)
        found.append(Reply(status=number, headers=tuple(headers), body=body))
    return found


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunks(rest)
    length = headers.get("content-length", "")
    if not length.isdigit():
        return rest, b""
    return rest[: int(length)], rest[int(length) :]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            return body, b""
        if not separator:
            return body, b""
        if length == 0:
            return body, rest.partition(b"\r\n")[2]
        body += rest[:length]
        rest = rest[length + 2 :]
