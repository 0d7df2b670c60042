"""A callable of plain ASGI."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import anyio
import anyio.to_thread

from tests.conformance.contract import (
    EVENTS,
    HEADERS,
    PARTS,
    SECRET,
    WORD,
    Book,
    Teapot,
    add_word,
    look_for_unit,
    tally,
    visit,
    visit_again,
    visit_in_thread,
)
from workhorse.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["make"]

TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


async def reply(
    send: Send, body: bytes | str, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = (TEXT,)
) -> None:
    body = body.encode() if isinstance(body, str) else body
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def start(send: Send, content_type: bytes = b"text/plain") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})


async def part(send: Send, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def make(book: Book) -> ASGIApp:
    """The app."""

    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT, (b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"hello"})

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"".join([chunk async for chunk in pieces(receive)]))

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, tally([chunk async for chunk in pieces(receive)]))

    async def unread(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, "unread", status=201)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for number, one in enumerate(PARTS):
            await part(send, one, last=number + 1 == len(PARTS))

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        async with anyio.create_task_group() as group:

            async def flow() -> None:
                while True:
                    await part(send, b"more")
                    await anyio.sleep(0.01)

            group.start_soon(flow)
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()
        book.notes.append("stream ended")

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        book.notes.append("client gone")

    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream; charset=utf-8")
        for number, one in enumerate(EVENTS):
            await part(send, one, last=number + 1 == len(EVENTS))

    async def file(scope: Scope, receive: Receive, send: Send) -> None:
        body = book.file.read_bytes()
        if "http.response.pathsend" in scope.get("extensions", {}):
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
            await send({"type": "http.response.pathsend", "path": str(book.file)})
            return
        await reply(send, body)

    async def background(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, "accepted", status=202)
        await look_for_unit(book)

    async def context(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}")

    async def headers(scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"x-given"), b"")
        await reply(send, given, headers=(TEXT, *HEADERS))

    async def cookies(scope: Scope, receive: Receive, send: Send) -> None:
        two = ((b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2; Path=/"))
        await reply(send, "cookies", headers=(TEXT, *two))

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(SECRET)

    async def broken_late(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await part(send, PARTS[0])
        raise RuntimeError(SECRET)

    async def problem(scope: Scope, receive: Receive, send: Send) -> None:
        raise Teapot

    async def visit_here(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, await visit("here"), status=201)

    async def visit_sync(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, await anyio.to_thread.run_sync(visit_in_thread, "sync"), status=201)

    async def visit_fail(scope: Scope, receive: Receive, send: Send) -> None:
        await visit("fail")
        raise RuntimeError(SECRET)

    async def visit_twice(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, await visit_again(book), status=201)

    async def visit_early(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, scope["visits"], status=201)

    async def visits_first(scope: Scope, receive: Receive, send: Send) -> None:
        scope["visits"] = await visit("early")
        await visit_early(scope, receive, send)

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "as asked"})
                return
            await send({**message, "type": "websocket.send"})
        book.notes.append("socket left")

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.close", "code": 1000})

    handlers: dict[str, Handler] = {
        "/hello": hello,
        "/echo": echo,
        "/count": count,
        "/unread": unread,
        "/stream": stream,
        "/endless": endless,
        "/wait": wait,
        "/events": events,
        "/file": file,
        "/background": background,
        "/context": context,
        "/headers": headers,
        "/cookies": cookies,
        "/broken": broken,
        "/broken-late": broken_late,
        "/problem": problem,
        "/visit": visit_here,
        "/visit-sync": visit_sync,
        "/visit-early": visits_first,
        "/visit-fail": visit_fail,
        "/visit-again": visit_twice,
        "/talk": talk,
        "/refuse": refuse,
    }

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        try:
            book.start()
        except RuntimeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        book.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        path = scope["path"].removeprefix(scope["root_path"])
        if path in handlers:
            await handlers[path](scope, receive, send)
        else:
            await reply(send, "nothing here", status=404)

    return add_word(app)
