"""A Falcon app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio.to_thread
import falcon
from falcon.asgi import App, Request, Response, SSEvent, WebSocket

from tests.conformance.contract import (
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


class Middleware:
    """What runs around every request, and the app's lifespan."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def process_startup(self, scope: Any, event: Any) -> None:
        self._book.start()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        self._book.stop()

    async def process_request(self, request: Request, response: Response) -> None:
        WORD.set("from middleware")
        if request.path == "/visit-early":
            request.context.visits = await visit("early")


class Resource:
    """All of the contract, a suffix each."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def on_get_hello(self, request: Request, response: Response) -> None:
        response.content_type, response.text = falcon.MEDIA_TEXT, "hello"

    on_head_hello = on_get_hello

    async def on_post_echo(self, request: Request, response: Response) -> None:
        response.data = await request.stream.read()

    async def on_post_count(self, request: Request, response: Response) -> None:
        response.text = tally([chunk async for chunk in request.stream])

    async def on_post_unread(self, request: Request, response: Response) -> None:
        response.status, response.text = 201, "unread"

    async def on_get_stream(self, request: Request, response: Response) -> None:
        response.content_type, response.stream = falcon.MEDIA_TEXT, given(PARTS)

    async def on_get_endless(self, request: Request, response: Response) -> None:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await asyncio.sleep(0.01)
            finally:
                self._book.notes.append("stream ended")

        response.content_type, response.stream = falcon.MEDIA_TEXT, flow()

    async def on_get_events(self, request: Request, response: Response) -> None:
        async def flow() -> AsyncIterator[SSEvent]:
            for number in (1, 2):
                yield SSEvent(event="tick", text=str(number))

        response.sse = flow()

    async def on_get_file(self, request: Request, response: Response) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.data = self._book.file.read_bytes()

    async def on_get_background(self, request: Request, response: Response) -> None:
        async def after() -> None:
            await look_for_unit(self._book)

        response.schedule(after)
        response.status, response.text = 202, "accepted"

    async def on_get_context(self, request: Request, response: Response) -> None:
        response.text = f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}"

    async def on_get_headers(self, request: Request, response: Response) -> None:
        for name, value in HEADERS:
            response.set_header(name.decode(), value.decode("latin-1"))
        response.data = (request.get_header("x-given") or "").encode("latin-1")

    async def on_get_cookies(self, request: Request, response: Response) -> None:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.text = "cookies"

    async def on_get_broken(self, request: Request, response: Response) -> None:
        raise RuntimeError(SECRET)

    async def on_get_broken_late(self, request: Request, response: Response) -> None:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        response.stream = flow()

    async def on_get_problem(self, request: Request, response: Response) -> None:
        raise Teapot

    async def on_post_visit(self, request: Request, response: Response) -> None:
        response.status, response.text = 201, await visit("here")

    async def on_post_visit_sync(self, request: Request, response: Response) -> None:
        response.status, response.text = 201, await anyio.to_thread.run_sync(visit_in_thread, "sync")

    async def on_post_visit_early(self, request: Request, response: Response) -> None:
        response.status, response.text = 201, request.context.visits

    async def on_post_visit_fail(self, request: Request, response: Response) -> None:
        await visit("fail")
        raise RuntimeError(SECRET)

    async def on_post_visit_again(self, request: Request, response: Response) -> None:
        response.status, response.text = 201, await visit_again(self._book)


class Talk:
    """Echoes."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def on_websocket(self, request: Request, socket: WebSocket) -> None:
        await socket.accept(next(iter(socket.subprotocols), None))
        # Falcon has a call for each kind of message, and one below them for both.
        with suppress(falcon.WebSocketDisconnected):
            while (message := await socket._receive()).get("text") != "close":
                if message.get("bytes") is not None:
                    await socket.send_data(message["bytes"])
                else:
                    await socket.send_text(message["text"])
            await socket.close(4001, "as asked")
            return
        self._book.notes.append("socket left")


class Refuse:
    """Closes."""

    async def on_websocket(self, request: Request, socket: WebSocket) -> None:
        await socket.close()


def make(book: Book) -> ASGIApp:
    """The app."""
    app = App(middleware=[Middleware(book)])
    resource = Resource(book)
    gets = ("hello", "stream", "endless", "events", "file", "background", "context", "headers", "cookies")
    errors = ("broken", "broken_late", "problem")
    posts = ("echo", "count", "unread", "visit", "visit_sync", "visit_early", "visit_fail", "visit_again")
    for name in (*gets, *errors, *posts):
        app.add_route("/" + name.replace("_", "-"), resource, suffix=name)
    app.add_route("/talk", Talk(book))
    app.add_route("/refuse", Refuse())
    return app  # type: ignore[return-value]
