"""A Quart app."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from quart import Quart, Response, g, make_response, request, send_file, websocket
from quart.utils import run_sync

from tests.conformance.contract import (
    EVENTS,
    HEADERS,
    PARTS,
    SECRET,
    WORD,
    Book,
    Teapot,
    look_for_unit,
    tally,
    visit,
    visit_again,
    visit_in_thread,
)
from workhorse.asgi import ASGIApp

__all__ = ["make"]


async def given(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for one in parts:
        yield one


def text(body: Any, status: int = 200) -> Response:
    return Response(body, status, content_type="text/plain; charset=utf-8")


def make(book: Book) -> ASGIApp:
    """The app."""
    app = Quart("conformance", static_folder=None)

    @app.while_serving
    async def lifespan() -> AsyncGenerator[None]:
        book.start()
        yield
        book.stop()

    @app.before_request
    async def worded() -> None:
        WORD.set("from middleware")
        if request.path == "/visit-early":
            g.visits = await visit("early")

    @app.get("/hello")
    async def hello() -> Response:
        return text("hello")

    @app.post("/echo")
    async def echo() -> Response:
        return text(await request.get_data())

    @app.post("/count")
    async def count() -> Response:
        return text(tally([chunk async for chunk in request.body]))

    @app.post("/unread")
    async def unread() -> Response:
        return text("unread", 201)

    @app.get("/stream")
    async def stream() -> Response:
        return text(given(PARTS))

    @app.get("/endless")
    async def endless() -> Response:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await asyncio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return text(flow())

    @app.get("/wait")
    async def wait() -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            book.notes.append("client gone")
            raise
        return text("")

    @app.get("/events")
    async def events() -> Response:
        return Response(given(EVENTS), content_type="text/event-stream; charset=utf-8")

    @app.get("/file")
    async def file() -> Response:
        return await send_file(book.file, mimetype="text/plain", conditional=True)

    @app.get("/background")
    async def background() -> Response:
        app.add_background_task(look_for_unit, book)
        return text("accepted", 202)

    @app.get("/context")
    async def context() -> Response:
        return text(f"{WORD.get()}, {await run_sync(WORD.get)()}")

    @app.get("/headers")
    async def headers() -> Response:
        response = text(request.headers.get("x-given", "").encode("latin-1"))
        for name, value in HEADERS:
            response.headers.add(name.decode(), value.decode("latin-1"))
        return response

    @app.get("/cookies")
    async def cookies() -> Any:
        response = await make_response(text("cookies"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/broken")
    async def broken() -> Response:
        raise RuntimeError(SECRET)

    @app.get("/broken-late")
    async def broken_late() -> Response:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return text(flow())

    @app.get("/problem")
    async def problem() -> Response:
        raise Teapot

    @app.post("/visit")
    async def visit_here() -> Response:
        return text(await visit("here"), 201)

    @app.post("/visit-sync")
    def visit_sync() -> Response:
        return text(visit_in_thread("sync"), 201)

    @app.post("/visit-early")
    async def visit_early() -> Response:
        return text(g.visits, 201)

    @app.post("/visit-fail")
    async def visit_fail() -> Response:
        await visit("fail")
        raise RuntimeError(SECRET)

    @app.post("/visit-again")
    async def visit_twice() -> Response:
        return text(await visit_again(book), 201)

    @app.websocket("/talk")
    async def talk() -> None:
        await websocket.accept(subprotocol=next(iter(websocket.requested_subprotocols), None))
        try:
            while True:
                message = await websocket.receive()
                if message == "close":
                    await websocket.close(4001, "as asked")
                    return
                await websocket.send(message)
        except asyncio.CancelledError:
            book.notes.append("socket left")
            raise

    @app.websocket("/refuse")
    async def refuse() -> None:
        await websocket.close(1000)

    return app  # type: ignore[return-value]
