"""What `workhorse worker` tells its operator: `/-/live`, `/-/ready` and `/-/metrics`, on an address of its own.

A worker serves no requests, so it runs no server of the kind that does. This one knows just enough of HTTP/1.1 for a
probe and for Prometheus: one GET or HEAD a connection, a head of bounded size and time, no body, and whatever it does
not understand is 400. Who may read the metrics is decided as in the service (`operations`).
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from workhorse.asgi import Reply, Scope
from workhorse.errors import DatabaseUnavailable, StartupError
from workhorse.service.operations import (
    Phase,
    Probe,
    live_reply,
    may_read_metrics,
    metrics_reply,
    nothing_here,
    parse_networks,
    ready_reply,
)
from workhorse.service.rooms import Rooms

__all__ = ["answering", "parse_address", "parse_head"]

HEAD_BYTES: Final = 8_192
HEAD_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
PING_SECONDS: Final = 2.0
# Connections at once. More are closed without a word.
CONNECTIONS: Final = 32

_REQUEST: Final = re.compile(rb"(?P<method>GET|HEAD) (?P<path>/[!-~]*) HTTP/1\.[01]\Z")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*\Z")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def parse_head(head: bytes) -> Scope | None:
    """Read the head of a request, up to its empty line. None if it is not a GET or HEAD without a body (RFC 9112)."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    request = _REQUEST.match(first)
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.match(name) is None or _VALUE.match(value) is None:
            return None
        headers.append((name.lower(), value.strip(b" \t")))
    if request is None:
        return None
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers):
        return None
    path = request["path"].partition(b"?")[0].decode("ascii")
    return {"type": "http", "method": request["method"].decode(), "path": path, "headers": headers}


@asynccontextmanager
async def answering(
    rooms: Rooms, *, keeps_up: Callable[[], Awaitable[bool | None]] | None = None
) -> AsyncGenerator[str | None]:
    """Answer during the block, where the settings name an address. Gives the address, with the port that was bound.

    Args:
        rooms: what the worker has open.
        keeps_up: whether the process's sealer does; None: it has none, or not yet.

    Raises:
        StartupError: the address cannot be had.
    """
    address = rooms.settings.operations.worker_address
    if address is None:
        yield None
        return
    endpoint = Endpoint(rooms, keeps_up)
    host, port = parse_address(address)
    try:
        server = await asyncio.start_server(endpoint.serve, host, port, limit=HEAD_BYTES)
    except (OSError, OverflowError) as error:
        raise StartupError(
            f"operations.worker_address is {address}, which cannot be had: {error}; give each worker of a machine a"
            " port of its own"
        ) from error
    bound = server.sockets[0].getsockname()
    told = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
    rooms.log.event("info", "worker.endpoint", address=told)
    try:
        yield told
    finally:
        server.close()
        await endpoint.close()


class Endpoint:
    """Answers one request a connection."""

    def __init__(self, rooms: Rooms, keeps_up: Callable[[], Awaitable[bool | None]] | None = None) -> None:
        self._rooms = rooms
        self._keeps_up = keeps_up
        self._networks = parse_networks(rooms.settings.operations.metrics_networks)
        self._conversations: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._conversations) >= CONNECTIONS:
            writer.close()
            return
        self._conversations.add(task)
        try:
            # Whoever is too slow, too long, or gone has no answer.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(HEAD_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                async with asyncio.timeout(ANSWER_SECONDS):
                    scope = parse_head(head)
                    if scope is not None:
                        scope["client"] = writer.get_extra_info("peername")[:2]
                    reply = await self._reply(scope)
                    writer.write(wired(reply, with_body=scope is None or scope["method"] == "GET"))
                    await writer.drain()
        finally:
            self._conversations.discard(task)
            writer.close()

    async def close(self) -> None:
        """End what is under way."""
        for task in tuple(self._conversations):
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _reply(self, scope: Scope | None) -> Reply:
        if scope is None:
            return Reply(status=400, headers=(), body=b"")
        match scope["path"]:
            case "/-/live":
                return live_reply()
            case "/-/ready":
                database = await self._database_answers()
                audit = await self._keeps_up() if database and self._keeps_up is not None else None
                return ready_reply(Probe(Phase.SERVING, app=True, database=database, audit=audit))
            case "/-/metrics":
                token = self._rooms.settings.operations.token
                if may_read_metrics(scope, self._networks, token.get_secret_value() if token else None):
                    return metrics_reply(await asyncio.to_thread(self._rooms.metrics.render))
                return nothing_here()
            case _:
                return nothing_here()

    async def _database_answers(self) -> bool:
        try:
            await self._rooms.database.ping(deadline_seconds=PING_SECONDS)
        except DatabaseUnavailable:
            return False
        return True


def wired(reply: Reply, *, with_body: bool) -> bytes:
    """A reply as it goes over the wire, and the end of the connection."""
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d %b" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (reply.body if with_body else b"")
