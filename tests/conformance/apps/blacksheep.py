"""A BlackSheep app."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
from blacksheep import Application, Content, Cookie, Request, Response, StreamedContent, WebSocket
from blacksheep.server.responses import file as file_response
from blacksheep.server.routing import Router
from blacksheep.server.websocket import WebSocketDisconnectError

from tests.conformance.contract import (
    EVENTS,
    HEADERS,
    PARTS,
    SECRET,
    WORD,
    Book,
    Teapot,
    tally,
    visit,
    visit_again,
    visit_in_thread,
)
from workhorse.asgi import ASGIApp

__all__ = ["make"]

TEXT = b"text/plain; charset=utf-8"


def text(body: bytes | str, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    body = body.encode() if isinstance(body, str) else body
    return Response(status, headers, Content(TEXT, body))


def stream_of(parts: tuple[bytes, ...], content_type: bytes = TEXT) -> Response:
    async def flow() -> AsyncIterator[bytes]:
        for one in parts:
            yield one

    return Response(200, None, StreamedContent(content_type, flow))


def make(book: Book) -> ASGIApp:
    """The app."""
    app = Application(router=Router())
    get, post = app.router.get, app.router.post

    @app.on_start
    async def start(application: Application) -> None:
        book.start()

    @app.on_stop
    async def stop(application: Application) -> None:
        book.stop()

    async def worded(request: Any, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        WORD.set("from middleware")
        if request.path == "/visit-early":
            request.visits = await visit("early")
        return await handler(request)

    app.middlewares.append(worded)

    @get("/hello")
    async def hello() -> Response:
        return text("hello")

    @app.router.head("/hello")
    async def hello_head() -> Response:
        return text("hello")

    @post("/echo")
    async def echo(request: Request) -> Response:
        return text(await request.read() or b"")

    @post("/count")
    async def count(request: Any) -> Response:  # whose `stream` is typed as what awaits one
        return text(tally([chunk async for chunk in request.stream()]))

    @post("/unread")
    async def unread() -> Response:
        return text("unread", 201)

    @get("/stream")
    async def stream() -> Response:
        return stream_of(PARTS)

    @get("/endless")
    async def endless() -> Response:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await anyio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return Response(200, None, StreamedContent(TEXT, flow))

    @get("/wait")
    async def wait(request: Request) -> Response:
        while not await request.is_disconnected():
            await anyio.sleep(0.01)
        book.notes.append("client gone")
        return text("")

    @get("/events")
    async def events() -> Response:
        return stream_of(EVENTS, b"text/event-stream; charset=utf-8")

    @get("/file")
    async def file() -> Response:
        return file_response(str(book.file), "text/plain")

    @get("/context")
    async def context() -> Response:
        return text(f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}")

    @get("/headers")
    async def headers(request: Request) -> Response:
        return text(request.get_first_header(b"x-given") or b"", headers=list(HEADERS))

    @get("/cookies")
    async def cookies() -> Response:
        response = text("cookies")
        response.set_cookie(Cookie("a", "1"))
        response.set_cookie(Cookie("b", "2"))
        return response

    @get("/broken")
    async def broken() -> Response:
        raise RuntimeError(SECRET)

    @get("/broken-late")
    async def broken_late() -> Response:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return Response(200, None, StreamedContent(TEXT, flow))

    @get("/problem")
    async def problem() -> Response:
        raise Teapot

    @post("/visit")
    async def visit_here() -> Response:
        return text(await visit("here"), 201)

    @post("/visit-sync")
    async def visit_sync() -> Response:
        return text(await anyio.to_thread.run_sync(visit_in_thread, "sync"), 201)

    @post("/visit-early")
    async def visit_early(request: Any) -> Response:
        return text(request.visits, 201)

    @post("/visit-fail")
    async def visit_fail() -> Response:
        await visit("fail")
        raise RuntimeError(SECRET)

    @post("/visit-again")
    async def visit_twice() -> Response:
        return text(await visit_again(book), 201)

    @app.router.ws("/talk")
    async def talk(socket: WebSocket) -> None:
        subprotocols: Any = socket.scope.get("subprotocols")
        await socket.accept(subprotocol=next(iter(subprotocols), None))
        try:
            while True:
                message = await socket.receive()
                if message.get("text") == "close":
                    await socket.close(4001, "as asked")
                    return
                if message.get("bytes") is not None:
                    await socket.send_bytes(message["bytes"])  # type: ignore[arg-type]  # typed as text
                else:
                    await socket.send_text(message["text"])
        except WebSocketDisconnectError:
            book.notes.append("socket left")

    @app.router.ws("/refuse")
    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    return app
