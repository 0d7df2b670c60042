"""A small, strict HTTP/1.1 client, because the load shares its cores with the bank that it loads.

One `Line` is one kept-alive connection with one request under way at a time. It understands what the bank's server
says and refuses everything else: a reply has a Content-Length, and nothing comes that was not asked for. Per request
it costs a third of what aiohttp does, so that what is measured is the bank and not its customers.

A line that is lost tells nothing about the request: it may have taken effect. `ask` therefore sends the same bytes
with the same Idempotency-Key again, until there is a final answer or the patience is over.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

__all__ = ["Address", "BadReply", "GaveUp", "Line", "Reply", "ask", "encode_request", "is_final"]

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
PROBLEM: Final = b"application/problem+json"
# Between two tries: long enough to let a bank start that was killed, short enough to notice at once that it has.
PAUSE_SECONDS: Final = 0.05


class BadReply(Exception):
    """The server said what a strict client does not accept."""


class GaveUp(Exception):
    """No final answer came within the patience. What became of the request is not known."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the bank listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Address":
        """Read `http://host:port`.

        Raises:
            ValueError: it is something else.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is no address of the bank; write for example http://127.0.0.1:8000")
        return cls(parts.hostname, parts.port or 80)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. Header names are in lower case; of a repeated header the last one counts."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def replayed(self) -> bool:
        """Whether it is the kept reply of an earlier request with the same key."""
        return self.headers.get(b"idempotent-replayed") == b"true"

    @property
    def problem(self) -> str:
        """The type of its problem document (RFC 9457); empty if it is none."""
        if self.headers.get(b"content-type", b"").partition(b";")[0] != PROBLEM:
            return ""
        return str(self.json().get("type", "about:blank"))

    def json(self) -> dict[str, Any]:
        """Read the body as a JSON object.

        Raises:
            BadReply: it is none.
        """
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise BadReply(f"the body of a reply of status {self.status} is not JSON: {self.body[:80]!r}") from error
        if not isinstance(value, dict):
            raise BadReply(f"the body of a reply of status {self.status} is no JSON object: {self.body[:80]!r}")
        return cast("dict[str, Any]", value)


def is_final(reply: Reply) -> bool:
    """Whether the request is decided, or else asked to be sent again with the same key.

    The bank asks for that by a 503, and by Retry-After where the first request with the key is still under way.
    """
    return reply.status != 503 and not (reply.status == 409 and b"retry-after" in reply.headers)


def encode_request(
    address: Address,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    token: str | None = None,
    key: str | None = None,
    content_type: str = "application/json",
    declared_bytes: int | None = None,
) -> bytes:
    """Write a request as it goes over the wire.

    Args:
        address: whom to name as Host.
        method: the method.
        path: path and query.
        body: the content; None for a request without.
        token: proves who sends it; None for nobody.
        key: the Idempotency-Key; None for a request without.
        content_type: of the body.
        declared_bytes: announce a body of this length instead of sending `body`, and wait for leave to send it
            (`Expect: 100-continue`, RFC 9110, section 10.1.1).
    """
    lines = [f"{method} {path} HTTP/1.1", f"host: {address.host}:{address.port}", "accept: application/json"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    if key is not None:
        lines.append(f"idempotency-key: {key}")
    if declared_bytes is not None:
        lines += [f"content-type: {content_type}", f"content-length: {declared_bytes}", "expect: 100-continue"]
    elif body is not None:
        lines += [f"content-type: {content_type}", f"content-length: {len(body)}"]
    elif method == "POST":
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


class Line(asyncio.Protocol):
    """One connection, opened at its first request and again after it was lost."""

    def __init__(self, address: Address, *, deadline_seconds: float = 30.0) -> None:
        self._address = address
        self._deadline = deadline_seconds
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._received = bytearray()

    async def send(self, request: bytes) -> Reply:
        """Send one request and wait for its reply.

        Raises:
            OSError: the server could not be reached, went away, or took longer than the deadline (TimeoutError).
            BadReply: it said something that is not understood.
        """
        assert self._waiter is None, "one request at a time"
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await self._connect(loop)
        assert self._transport is not None
        waiter: asyncio.Future[Reply] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_later(self._deadline, self._fail, TimeoutError(f"no reply within {self._deadline:g} s"))
        try:
            self._transport.write(request)
            return await waiter
        except asyncio.CancelledError:
            self.close()  # whose reply would be taken for the next request's
            raise
        finally:
            self._waiter = None
            timer.cancel()

    def close(self) -> None:
        """Hang up."""
        transport, self._transport = self._transport, None
        self._received.clear()
        if transport is not None:
            transport.abort()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        async with asyncio.timeout(self._deadline):
            transport, _ = await loop.create_connection(lambda: self, self._address.host, self._address.port)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect, and deliver what is whole."""
        self._received += data
        try:
            taken = parse_reply(self._received)
        except BadReply as error:
            self._fail(error)
            return
        if taken is None:
            return
        reply, length = taken
        if self._waiter is None or self._waiter.done() or length != len(self._received):
            self._fail(BadReply("the server said more than it was asked for"))
            return
        self._received.clear()
        if reply.headers.get(b"connection", b"").lower() == b"close":
            self.close()
        self._waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way. A line that was closed by ourselves has a new transport, or none."""
        if self._transport is not None and self._transport.is_closing():
            self._fail(ConnectionResetError(f"the server hung up: {exc or 'end of stream'}"))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


def parse_reply(received: bytes | bytearray) -> tuple[Reply, int] | None:
    """Read one reply from the front of what was received.

    Returns:
        The reply and how many bytes it took; None while it is not whole.

    Raises:
        BadReply: it is malformed, too large, or framed by anything but Content-Length.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MAX_HEAD_BYTES:
            raise BadReply(f"a reply's head is longer than {MAX_HEAD_BYTES} bytes")
        return None
    first, *lines = bytes(received[:end]).split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if version != b"HTTP/1.1" or not rest[:3].isdigit():
        raise BadReply(f"a reply begins with {first[:80]!r}")
    status = int(rest[:3])
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadReply(f"a reply has the header line {line[:80]!r}")
        headers[name.lower()] = value.strip()
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or b"transfer-encoding" in headers or status < 200:
        raise BadReply(f"a reply of status {status} is not framed by Content-Length")
    if int(length) > MAX_BODY_BYTES:
        raise BadReply(f"a reply has a body of {int(length)} bytes")
    stop = end + 4 + int(length)
    if len(received) < stop:
        return None
    return Reply(status, headers, bytes(received[end + 4 : stop])), stop


async def ask(line: Line, request: bytes, *, patience_seconds: float) -> tuple[Reply, int]:
    """Send a request until it has a final answer.

    Returns:
        The answer, and how often the request was sent again.

    Raises:
        GaveUp: there was none within the patience.
        BadReply: the server said something that is not understood.
    """
    give_up = asyncio.get_running_loop().time() + patience_seconds
    again = 0
    last = "nothing was tried"
    while asyncio.get_running_loop().time() < give_up:
        try:
            reply = await line.send(request)
        except OSError as error:
            last = str(error) or type(error).__name__
        else:
            if is_final(reply):
                return reply, again
            last = f"{reply.status} {reply.problem}"
        again += 1
        await asyncio.sleep(PAUSE_SECONDS)
    raise GaveUp(f"no final answer within {patience_seconds:g} s and {again} tries; the last: {last}")
