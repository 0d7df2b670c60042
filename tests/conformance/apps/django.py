"""A Django project beside FastAPI in one process, mounted below `/django`: the contract there is Django's.

Its handler takes the URLs from here, whatever else the settings of the process say.
"""

import asyncio
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import anyio.to_thread
import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.conformance.apps import fastapi
from tests.conformance.contract import (
    EVENTS,
    HEADERS,
    PARTS,
    SECRET,
    WORD,
    Book,
    Teapot,
    add_word,
    tally,
    visit,
    visit_again,
    visit_in_thread,
)
from workhorse.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["make"]

TEXT = "text/plain; charset=utf-8"


def text(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(body, status=status, content_type=TEXT)


def stream_of(parts: tuple[bytes, ...], content_type: str = TEXT) -> StreamingHttpResponse:
    async def flow() -> AsyncIterator[bytes]:
        for one in parts:
            yield one

    return StreamingHttpResponse(flow(), content_type=content_type)


def views_of(book: Book) -> dict[str, Any]:
    """The views of the contract, by their paths."""

    def hello(request: HttpRequest) -> HttpResponse:
        return text("hello")

    async def echo(request: HttpRequest) -> HttpResponse:
        return text(request.body)

    async def count(request: HttpRequest) -> HttpResponse:
        return text(tally(list(request)))

    async def unread(request: HttpRequest) -> HttpResponse:
        return text("unread", 201)

    async def stream(request: HttpRequest) -> StreamingHttpResponse:
        return stream_of(PARTS)

    async def endless(request: HttpRequest) -> StreamingHttpResponse:
        async def flow() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"more"
                    await asyncio.sleep(0.01)
            finally:
                book.notes.append("stream ended")

        return StreamingHttpResponse(flow(), content_type=TEXT)

    async def wait(request: HttpRequest) -> HttpResponse:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            book.notes.append("client gone")
            raise
        return text("")

    async def events(request: HttpRequest) -> StreamingHttpResponse:
        return stream_of(EVENTS, "text/event-stream; charset=utf-8")

    async def file(request: HttpRequest) -> HttpResponse:
        return text(book.file.read_bytes())

    async def context(request: HttpRequest) -> HttpResponse:
        return text(f"{WORD.get()}, {await anyio.to_thread.run_sync(WORD.get)}")

    async def headers(request: HttpRequest) -> HttpResponse:
        reply = text(request.headers.get("x-given", "").encode("latin-1"))
        for name, value in HEADERS:
            reply[name.decode()] = value.decode("latin-1")
        return reply

    async def cookies(request: HttpRequest) -> HttpResponse:
        reply = text("cookies")
        reply.set_cookie("a", "1")
        reply.set_cookie("b", "2")
        return reply

    async def broken(request: HttpRequest) -> HttpResponse:
        raise RuntimeError(SECRET)

    async def broken_late(request: HttpRequest) -> StreamingHttpResponse:
        async def flow() -> AsyncIterator[bytes]:
            yield PARTS[0]
            raise RuntimeError(SECRET)

        return StreamingHttpResponse(flow(), content_type=TEXT)

    async def problem(request: HttpRequest) -> HttpResponse:
        raise Teapot

    async def visit_here(request: HttpRequest) -> HttpResponse:
        return text(await visit("here"), 201)

    def visit_sync(request: HttpRequest) -> HttpResponse:
        return text(visit_in_thread("sync"), 201)

    async def visit_fail(request: HttpRequest) -> HttpResponse:
        await visit("fail")
        raise RuntimeError(SECRET)

    async def visit_twice(request: HttpRequest) -> HttpResponse:
        return text(await visit_again(book), 201)

    return {
        "hello": hello,
        "echo": echo,
        "count": count,
        "unread": unread,
        "stream": stream,
        "endless": endless,
        "wait": wait,
        "events": events,
        "file": file,
        "context": context,
        "headers": headers,
        "cookies": cookies,
        "broken": broken,
        "broken-late": broken_late,
        "problem": problem,
        "visit": visit_here,
        "visit-sync": visit_sync,
        "visit-fail": visit_fail,
        "visit-again": visit_twice,
    }


class Handler(ASGIHandler):  # type: ignore[misc]  # Django has no types
    """Django's own, for the URLs of one app."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        views = [path(name, csrf_exempt(view)) for name, view in views_of(book).items()]
        urls: Any = ModuleType("urls")
        urls.urlpatterns = views
        self._urls = urls
        self._bodies: list[Any] = []

    async def read_body(self, receive: Receive) -> Any:
        body = await super().read_body(receive)
        self._bodies.append(body)
        return body

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().handle(scope, receive, send)
        finally:  # Django 5.2 leaves the body of a request whose reply broke off to the collector
            while self._bodies:
                self._bodies.pop().close()

    def resolve_request(self, request: Any) -> Any:
        request.urlconf = self._urls
        return super().resolve_request(request)


def make(book: Book) -> ASGIApp:
    """The app."""
    if not settings.configured:
        settings.configure(ROOT_URLCONF="", SECRET_KEY="only in this test", ALLOWED_HOSTS=["*"])
        django.setup()
    app = fastapi.make(book)
    worded = add_word(Handler(book))

    async def django_app(scope: Scope, receive: Receive, send: Send) -> None:
        await worded(scope, receive, send)

    app.mount("/django", django_app)
    return app
