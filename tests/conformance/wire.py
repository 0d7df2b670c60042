"""Plays the server's part of ASGI in process, on asyncio and on Trio, as servers really play it.

Where a server and `tests.asgi_client` differ, this is the server: `http.disconnect` comes once the reply has ended, a
client may leave at any time, and every wait has a bound. What an app does in which order is in `Seen.trace`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import anyio.lowlevel

from workhorse.asgi import ASGIApp, Message

__all__ = ["Seen", "Server", "Socket", "StartFailed", "serving"]

SECONDS: Final = 20.0
SPEC: Final = {"version": "3.0", "spec_version": "2.4"}


@dataclass
class Seen:
    """A reply as the client got it."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    file: str = ""
    """The path that the server was told to send (extension `http.response.pathsend`)."""
    error: str | None = None
    """The kind of what the app raised past its reply. Not the exception, whose frames would keep a stream alive."""
    trace: list[str] = field(default_factory=list)
    """`read`: the app asked for a message; `start`, `end`: of its reply."""

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks)

    def header(self, name: bytes) -> bytes | None:
        """The first of that name."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def all(self, name: bytes) -> list[bytes]:
        """All of that name, in order."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Socket:
    """A WebSocket from the client's side."""

    accepted: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    subprotocol: str | None = None
    status: int = 0
    """Of the reply that refused the handshake, where the server has the extension for it."""
    body: bytes = b""
    received: list[str | bytes] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    error: str | None = None


class StartFailed(Exception):
    """The app answered lifespan.startup.failed."""


class Server:
    """One app that is being served.

    Args:
        app: the app.
        state: what its lifespan has put into the scopes.
    """

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        chunks: Sequence[bytes] = (),
        declared: bool = True,
        extensions: Iterable[str] = (),
        leave_at: str = "",
        spec: str = "2.4",
        **more: Any,
    ) -> Seen:
        """Send one request, and see what a client sees.

        Args:
            method: of the request.
            path: with its query.
            headers: beside Host, and what tells the length of the body.
            chunks: of the body.
            declared: the length is told; else the body is chunked.
            extensions: what the server can.
            leave_at: the client goes away: "at once", after the reply's "start" or after its first "part".
            spec: the version of ASGI's HTTP that the server speaks. Since 2.4 sending to a client that has gone is an
                OSError; before, it does nothing.
            more: of the scope.
        """
        seen = Seen()
        left = anyio.Event()
        pending: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
            for number, chunk in enumerate(chunks)
        ] or [{"type": "http.request", "body": b"", "more_body": False}]
        raw = [(b"host", b"localhost"), *headers]
        if chunks:
            length = sum(map(len, chunks))
            raw.append((b"content-length", b"%d" % length) if declared else (b"transfer-encoding", b"chunked"))

        async def receive() -> Message:
            seen.trace.append("read")
            if leave_at == "at once" and not pending:
                left.set()
            if pending and not left.is_set():
                return pending.pop(0)
            if not left.is_set():  # an app that only looks gives up as soon as it would have to wait
                await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await anyio.lowlevel.checkpoint()
            if left.is_set() and not seen.complete:
                if spec >= "2.4":
                    raise OSError("the client has gone")
                return  # nobody hears it
            if method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}  # as servers do
            take(seen, message)
            if seen.complete or (leave_at == "start" and seen.status) or (leave_at == "part" and seen.chunks):
                left.set()

        scope = {**self._scope("http", path, raw, extensions), "method": method, **more}
        scope["asgi"] = {"version": "3.0", "spec_version": spec}
        with anyio.fail_after(SECONDS):
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - a server logs it, and cuts the connection
                seen.error = type(error).__name__
        return seen

    async def socket(
        self,
        path: str,
        *,
        says: Sequence[str | bytes] = (),
        subprotocols: Sequence[str] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
        extensions: Iterable[str] = (),
    ) -> Socket:
        """Open a WebSocket, say these, each after the answer to the one before, and go away."""
        seen = Socket()
        pending: list[Message] = [{"type": "websocket.connect"}]
        waiting = list(says)
        answered = anyio.Event()

        async def receive() -> Message:
            nonlocal answered
            if pending:
                return pending.pop(0)
            if seen.closed is not None:
                return {"type": "websocket.disconnect", "code": seen.closed[0], "reason": seen.closed[1]}
            while len(seen.received) < len(says) - len(waiting) and seen.closed is None:
                await answered.wait()
            if not waiting or seen.closed is not None:
                return {"type": "websocket.disconnect", "code": 1001, "reason": ""}
            word = waiting.pop(0)
            return {"type": "websocket.receive", "bytes" if isinstance(word, bytes) else "text": word}

        async def send(message: Message) -> None:
            nonlocal answered
            match message["type"]:
                case "websocket.accept":
                    seen.accepted, seen.subprotocol = True, message.get("subprotocol")
                    seen.headers = list(message.get("headers", ()))
                case "websocket.send":
                    data = message.get("bytes")
                    seen.received.append(message["text"] if data is None else data)
                case "websocket.close":
                    seen.closed = (message.get("code", 1000), message.get("reason") or "")
                case "websocket.http.response.start":
                    seen.status, seen.headers = message["status"], list(message["headers"])
                case "websocket.http.response.body":
                    seen.body += message.get("body", b"")
            answered.set()
            answered = anyio.Event()
            await anyio.lowlevel.checkpoint()

        raw = [
            (b"host", b"localhost"),
            (b"upgrade", b"websocket"),
            (b"connection", b"upgrade"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            *headers,
        ]
        scope = {**self._scope("websocket", path, raw, extensions), "scheme": "ws", "subprotocols": list(subprotocols)}
        with anyio.fail_after(SECONDS):
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - as above
                seen.error = type(error).__name__
        return seen

    def _scope(self, kind: str, path: str, raw: list[tuple[bytes, bytes]], extensions: Iterable[str]) -> dict[str, Any]:
        path, _, query = path.partition("?")
        return {
            "type": kind,
            "asgi": SPEC,
            "http_version": "1.1",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000),
            "extensions": {name: {} for name in extensions},
            "state": dict(self._state),
        }


def take(seen: Seen, message: Message) -> None:
    """Note a message of a reply, and that it may come now."""
    match message["type"]:
        case "http.response.start":
            assert not seen.status, "the reply was started twice"
            seen.trace.append("start")
            seen.status, seen.headers = message["status"], list(message.get("headers", ()))
        case "http.response.body" | "http.response.pathsend" as kind:
            assert seen.status, "a body came before the start of the reply"
            assert not seen.complete, "a body came after the end of the reply"
            if kind == "http.response.pathsend":
                seen.file = message["path"]
            elif message.get("body"):
                seen.chunks.append(bytes(message["body"]))
            seen.complete = not message.get("more_body", False)
            if seen.complete:
                seen.trace.append("end")
        case "http.response.trailers":
            seen.trailers += list(message["headers"])
        case other:
            raise AssertionError(f"no server knows {other!r}")


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Server]:
    """Run the app's lifespan around the block.

    Raises:
        StartFailed: the app says that it cannot start.
    """
    to_app, incoming = anyio.create_memory_object_stream[Message](2)
    outgoing, from_app = anyio.create_memory_object_stream[Message](4)
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": SPEC, "state": state}
    ended = anyio.Event()

    async def live() -> None:
        try:
            await app(scope, incoming.receive, outgoing.send)
        finally:
            ended.set()

    async def answer_to(word: str) -> Message:
        with anyio.fail_after(60):
            await to_app.send({"type": word})
            answer: Message = await from_app.receive()
            return answer

    async with to_app, incoming, outgoing, from_app, anyio.create_task_group() as group:
        group.start_soon(live)
        answer = await answer_to("lifespan.startup")
        if answer["type"] == "lifespan.startup.complete":
            yield Server(app, state)
            last = await answer_to("lifespan.shutdown")
            assert last["type"] == "lifespan.shutdown.complete", last
            with anyio.fail_after(SECONDS):
                await ended.wait()
        else:
            group.cancel_scope.cancel()  # as the process of a server ends that has nothing to serve
    if answer["type"] != "lifespan.startup.complete":
        raise StartFailed(answer.get("message", ""))
