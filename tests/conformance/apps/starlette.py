"""A Starlette app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.conformance.apps import raw
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

__all__ = ["make", "make_mounting", "routes_of"]


async def given(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for one in parts:
        yield one


def routes_of(book: Book) -> list[BaseRoute]:
    """The routes of the contract."""

    def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    async def count(request: Request) -> Response:
        return PlainTextResponse(tally([chunk async for chunk in request.stream()]))

    async def unread(request: Request) -> Response:
        return PlainTextResponse("unread", 201)

    async def stream(request: Request) -> Response:
        return StreamingResponse(given(PARTS), media_type="text/plain")

    async def endless(request: Request) -> Response:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await anyio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return StreamingResponse(flow(), media_type="text/plain")

    async def wait(request: Request) -> Response:
        while not await request.is_disconnected():
            await anyio.sleep(0.01)
        book.notes.append("client gone")
        return Response()

    async def events(request: Request) -> Response:
        return StreamingResponse(given(EVENTS), media_type="text/event-stream")

    async def file(request: Request) -> Response:
        return FileResponse(book.file, media_type="text/plain")

    async def background(request: Request) -> Response:
        return PlainTextResponse("accepted", 202, background=BackgroundTask(look_for_unit, book))

    async def context(request: Request) -> Response:
        return PlainTextResponse(f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}")

    async def headers(request: Request) -> Response:
        response = PlainTextResponse(request.headers.get("x-given", "").encode("latin-1"))
        response.raw_headers += HEADERS
        return response

    async def cookies(request: Request) -> Response:
        response = PlainTextResponse("cookies")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def broken(request: Request) -> Response:
        raise RuntimeError(SECRET)

    async def broken_late(request: Request) -> Response:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return StreamingResponse(flow(), media_type="text/plain")

    async def problem(request: Request) -> Response:
        raise Teapot

    async def visit_here(request: Request) -> Response:
        return PlainTextResponse(await visit("here"), 201)

    def visit_sync(request: Request) -> Response:
        return PlainTextResponse(visit_in_thread("sync"), 201)

    async def visit_fail(request: Request) -> Response:
        await visit("fail")
        raise RuntimeError(SECRET)

    async def visit_twice(request: Request) -> Response:
        return PlainTextResponse(await visit_again(book), 201)

    async def visit_early(request: Request) -> Response:
        return PlainTextResponse(request.scope["visits"], 201)

    def visits_first(app: ASGIApp) -> ASGIApp:
        async def first(scope: Scope, receive: Receive, send: Send) -> None:
            scope["visits"] = await visit("early")
            await app(scope, receive, send)

        return first

    async def talk(socket: WebSocket) -> None:
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if message.get("text") == "close":
                await socket.close(4001, "as asked")
                return
            await socket.send({**message, "type": "websocket.send"})
        book.notes.append("socket left")

    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    return [
        Route("/hello", hello),
        Route("/echo", echo, methods=["POST"]),
        Route("/count", count, methods=["POST"]),
        Route("/unread", unread, methods=["POST"]),
        Route("/stream", stream),
        Route("/endless", endless),
        Route("/wait", wait),
        Route("/events", events),
        Route("/file", file),
        Route("/background", background),
        Route("/context", context),
        Route("/headers", headers),
        Route("/cookies", cookies),
        Route("/broken", broken),
        Route("/broken-late", broken_late),
        Route("/problem", problem),
        Route("/visit", visit_here, methods=["POST"]),
        Route("/visit-sync", visit_sync, methods=["POST"]),
        Route("/visit-early", visit_early, methods=["POST"], middleware=[Middleware(visits_first)]),
        Route("/visit-fail", visit_fail, methods=["POST"]),
        Route("/visit-again", visit_twice, methods=["POST"]),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/refuse", refuse),
    ]


def app_of(book: Book, routes: list[BaseRoute]) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        book.start()
        yield
        book.stop()

    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(add_word)])


def make(book: Book) -> ASGIApp:
    """The app."""
    return app_of(book, routes_of(book))


def make_mounting(book: Book) -> ASGIApp:
    """A Starlette app in which the raw one is mounted: the contract below `/inner` is the raw app's."""
    return app_of(book, [Mount("/inner", raw.make(book))])
