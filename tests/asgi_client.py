"""Plays the server's part of ASGI in process: lifespan, requests, and what a client would have seen of a reply."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from workhorse.asgi import ASGIApp, Message


@dataclass
class Seen:
    """A reply as the client got it."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.headers if key == name.encode()), None)

    def count(self, name: str) -> int:
        return sum(key == name.encode() for key, _ in self.headers)

    def json(self) -> Any:
        return json.loads(self.body)


def http_scope(method: str, path: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    path, _, query = path.partition("?")
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", b"localhost"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        **more,
    }


async def call(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | Iterable[bytes] | None = None,
    as_json: Any = None,
    declare_length: bool = True,
    **more: Any,
) -> Seen:
    """Send one request, and return what the client saw. What the app raises past its reply is raised here."""
    headers = list(headers)
    if as_json is not None:
        body = json.dumps(as_json).encode()
        headers.append(("content-type", "application/json"))
    chunks = [body] if isinstance(body, bytes) else list(body or [])
    if body is not None:
        if declare_length:
            headers.append(("content-length", str(sum(len(chunk) for chunk in chunks))))
        else:
            headers.append(("transfer-encoding", "chunked"))
    pending: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    seen = Seen()
    gone = asyncio.Event()

    async def receive() -> Message:
        if pending:
            return pending.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not seen.status, "the reply was started twice"
            seen.status, seen.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            assert seen.status, "a body came before the start of the reply"
            assert not seen.complete, "a body came after the end of the reply"
            seen.body += message.get("body", b"")
            seen.chunks.append(message.get("body", b""))
            seen.complete = not message.get("more_body", False)

    await app(http_scope(method, path, headers, **more), receive, send)
    gone.set()
    return seen


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Run the app's lifespan around the block."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.create_task(_as_coroutine(app, scope, incoming, outgoing))
    await incoming.put({"type": "lifespan.startup"})
    answer = await asyncio.wait_for(outgoing.get(), 60)
    if answer["type"] != "lifespan.startup.complete":
        await task
        raise StartFailed(answer.get("message", ""))
    try:
        yield
    finally:
        await incoming.put({"type": "lifespan.shutdown"})
        answer = await asyncio.wait_for(outgoing.get(), 60)
        await task
        assert answer["type"] == "lifespan.shutdown.complete", answer


class StartFailed(Exception):
    """The app answered lifespan.startup.failed."""


async def _as_coroutine(
    app: ASGIApp, scope: dict[str, Any], incoming: asyncio.Queue[Message], outgoing: asyncio.Queue[Message]
) -> None:
    await app(scope, incoming.get, outgoing.put)
