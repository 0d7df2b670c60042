"""A Litestar app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, head, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie
from litestar.di import NamedDependency, Provide
from litestar.response import File, Stream
from litestar.types import ASGIApp as LitestarApp

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
from workhorse.asgi import ASGIApp

__all__ = ["make"]

AnyRequest = Request[Any, Any, Any]
AnySocket = WebSocket[Any, Any, Any]
TEXT = MediaType.TEXT


async def given(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for one in parts:
        yield one


async def early() -> str:
    """A dependency that has a unit."""
    return await visit("early")


def make(book: Book) -> ASGIApp:
    """The app."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        book.start()
        yield
        book.stop()

    @get("/hello", media_type=TEXT)
    async def hello() -> str:
        return "hello"

    @head("/hello", media_type=TEXT)
    async def hello_head() -> Response[None]:
        return Response(None, headers={"content-length": "5"})

    @post("/echo", status_code=200)
    async def echo(request: AnyRequest) -> Response[bytes]:
        return Response(await request.body(), media_type="application/octet-stream")

    @post("/count", media_type=TEXT, status_code=200)
    async def count(request: AnyRequest) -> str:
        return tally([chunk async for chunk in request.stream()])

    @post("/unread", media_type=TEXT)
    async def unread() -> str:
        return "unread"

    @get("/stream")
    async def stream() -> Stream:
        return Stream(given(PARTS), media_type=TEXT)

    @get("/endless")
    async def endless() -> Stream:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await anyio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return Stream(flow(), media_type=TEXT)

    @get("/wait")
    async def wait(request: AnyRequest) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        book.notes.append("client gone")

    @get("/events")
    async def events() -> Stream:
        return Stream(given(EVENTS), media_type="text/event-stream; charset=utf-8")

    @get("/file")
    async def file() -> File:
        return File(book.file, media_type=TEXT)

    @get("/background", status_code=202)
    async def background() -> Response[str]:
        return Response("accepted", media_type=TEXT, background=BackgroundTask(look_for_unit, book))

    @get("/context", media_type=TEXT)
    async def context() -> str:
        return f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}"

    @get("/headers")
    async def headers(request: AnyRequest) -> Response[bytes]:
        kept = {name.decode(): value.decode("latin-1") for name, value in HEADERS}
        body = request.headers.get("x-given", "").encode("latin-1")
        return Response(body, media_type="application/octet-stream", headers=kept)

    @get("/cookies")
    async def cookies() -> Response[str]:
        return Response("cookies", media_type=TEXT, cookies=[Cookie("a", value="1"), Cookie("b", value="2")])

    @get("/broken")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @get("/broken-late")
    async def broken_late() -> Stream:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return Stream(flow(), media_type=TEXT)

    @get("/problem")
    async def problem() -> None:
        raise Teapot

    @post("/visit", media_type=TEXT)
    async def visit_here() -> str:
        return await visit("here")

    @post("/visit-sync", media_type=TEXT, sync_to_thread=True)
    def visit_sync() -> str:
        return visit_in_thread("sync")

    @post("/visit-early", media_type=TEXT, dependencies={"visits": Provide(early)})
    async def visit_early(visits: NamedDependency[str]) -> str:
        return visits

    @post("/visit-fail")
    async def visit_fail() -> None:
        await visit("fail")
        raise RuntimeError(SECRET)

    @post("/visit-again", media_type=TEXT)
    async def visit_twice() -> str:
        return await visit_again(book)

    @websocket("/talk")
    async def talk(socket: AnySocket) -> None:
        await socket.accept(subprotocols=next(iter(socket.scope["subprotocols"]), None))
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if message.get("text") == "close":
                await socket.close(4001, "as asked")
                return
            await socket.send({**message, "type": "websocket.send"})  # type: ignore[arg-type]
        book.notes.append("socket left")

    @websocket("/refuse")
    async def refuse(socket: AnySocket) -> None:
        await socket.close()

    handlers = [
        hello,
        hello_head,
        echo,
        count,
        unread,
        stream,
        endless,
        wait,
        events,
        file,
        background,
        context,
        headers,
        cookies,
        broken,
        broken_late,
        problem,
        visit_here,
        visit_sync,
        visit_early,
        visit_fail,
        visit_twice,
        talk,
        refuse,
    ]

    def worded(app: LitestarApp) -> LitestarApp:
        return add_word(app)  # type: ignore[arg-type,return-value]  # the same words of ASGI, typed twice

    return Litestar(handlers, lifespan=[lifespan], middleware=[worded], logging_config=None)  # type: ignore[return-value]
