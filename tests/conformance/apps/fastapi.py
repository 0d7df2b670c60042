"""A FastAPI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

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

__all__ = ["make"]


async def early() -> str:
    """A dependency that has a unit."""
    return await visit("early")


async def given(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for one in parts:
        yield one


def make(book: Book) -> FastAPI:
    """The app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        book.start()
        yield
        book.stop()

    app = FastAPI(lifespan=lifespan, default_response_class=PlainTextResponse)

    @app.api_route("/hello", methods=["GET", "HEAD"])
    def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.post("/count")
    async def count(request: Request) -> str:
        return tally([chunk async for chunk in request.stream()])

    @app.post("/unread", status_code=201)
    async def unread() -> str:
        return "unread"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(given(PARTS), media_type="text/plain")

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await anyio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return StreamingResponse(flow(), media_type="text/plain")

    @app.get("/wait")
    async def wait(request: Request) -> None:
        while not await request.is_disconnected():
            await anyio.sleep(0.01)
        book.notes.append("client gone")

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(given(EVENTS), media_type="text/event-stream")

    @app.get("/file")
    async def file() -> FileResponse:
        return FileResponse(book.file, media_type="text/plain")

    @app.get("/background", status_code=202)
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(look_for_unit, book)
        return "accepted"

    @app.get("/context")
    async def context() -> str:
        return f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}"

    @app.get("/headers")
    async def headers(request: Request) -> Response:
        response = Response(request.headers.get("x-given", "").encode("latin-1"))
        response.raw_headers += HEADERS
        return response

    @app.get("/cookies")
    async def cookies(response: Response) -> str:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return "cookies"

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @app.get("/broken-late")
    async def broken_late() -> StreamingResponse:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return StreamingResponse(flow(), media_type="text/plain")

    @app.get("/problem")
    async def problem() -> None:
        raise Teapot

    @app.post("/visit", status_code=201)
    async def visit_here() -> str:
        return await visit("here")

    @app.post("/visit-sync", status_code=201)
    def visit_sync() -> str:
        return visit_in_thread("sync")

    @app.post("/visit-early", status_code=201)
    async def visit_early(visits: Annotated[str, Depends(early)]) -> str:
        return visits

    @app.post("/visit-fail")
    async def visit_fail() -> None:
        await visit("fail")
        raise RuntimeError(SECRET)

    @app.post("/visit-again", status_code=201)
    async def visit_twice() -> str:
        return await visit_again(book)

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if message.get("text") == "close":
                await socket.close(4001, "as asked")
                return
            await socket.send({**message, "type": "websocket.send"})
        book.notes.append("socket left")

    @app.websocket("/refuse")
    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    app.add_middleware(add_word)
    return app
