"""What each app of the conformance suite serves, in the words of its own framework.

    GET  /hello        200 text/plain "hello"; HEAD too
    POST /echo         the body, as it came
    POST /count        "<bytes> <sum of the bytes>", reading the body as a stream
    POST /unread       201 "unread", without looking at the body
    GET  /stream       "one,", "two,", "three" as parts of a reply without Content-Length
    GET  /endless      a stream without end; notes "stream ended" when its client has gone
    GET  /wait         waits until its client has gone, and notes "client gone"
    GET  /events       two server-sent events
    GET  /file         the file of the book; with Range where the framework knows it
    GET  /background   202; afterwards notes "unit closed" if unit() says so there, else what it says
    GET  /context      what the framework's own middleware has put into WORD; and the same from a thread
    GET  /headers      the headers of HEADERS; and what the request's `x-given` was
    GET  /cookies      two cookies, in two headers
    GET  /broken       raises RuntimeError(SECRET)
    GET  /broken-late  raises it after the first part of the reply
    GET  /problem      raises the Problem `Teapot`
    POST /visit        writes a visit in a unit got in the handler, and replies with the number of visits
    POST /visit-sync   the same by `sync_unit()` in a sync handler that runs in a thread
    POST /visit-early  the same where the unit is got by what runs before the handler: a dependency or middleware
    POST /visit-fail   writes a visit, then raises
    POST /visit-again  writes a visit, and at the first time raises what a database does of which another got the better
    WS   /talk         echoes text and bytes; at the text "close" closes with 4001 "as asked"; notes "socket left"
    WS   /refuse       is closed before it is accepted

Its start notes "start", and raises RuntimeError(SECRET) where the book says so; its stop notes "stop".
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from psycopg.errors import SerializationFailure

from workhorse import sync_unit, unit
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.errors import Problem, UnitClosed, WorkhorseError

__all__ = [
    "EVENTS",
    "HEADERS",
    "PARTS",
    "SECRET",
    "WORD",
    "Book",
    "Make",
    "Teapot",
    "add_word",
    "look_for_unit",
    "tally",
    "visit",
    "visit_again",
    "visit_in_thread",
]

SECRET: Final = "the password is hunter2"
PARTS: Final = (b"one,", b"two,", b"three")
EVENTS: Final = (b"event: tick\ndata: 1\n\n", b"event: tick\ndata: 2\n\n")
HEADERS: Final = (
    (b"x-latin", "caf\xe9".encode("latin-1")),
    (b"x-padded", b"a  b"),
    (b"x-empty", b""),
    (b"vary", b"Accept"),
    (b"link", b"</a>; rel=next"),
)
"""Headers of a reply that must arrive byte for byte."""
WORD: Final[ContextVar[str]] = ContextVar("conformance_word", default="unset")

INSERT: Final = "INSERT INTO visits (kind) VALUES (%s)"
COUNT: Final = "SELECT count(*) FROM visits WHERE kind = %s"


class Teapot(Problem):
    """418: a Problem of the app's own."""

    status = 418
    title = "A teapot"
    type = "https://example.com/teapot"


@dataclass
class Book:
    """What an app is given, and where it notes what it has seen."""

    file: Path
    fails_at_start: bool = False
    notes: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Note the start of the app, or make it fail."""
        if self.fails_at_start:
            raise RuntimeError(SECRET)
        self.notes.append("start")

    def stop(self) -> None:
        """Note its stop."""
        self.notes.append("stop")


Make = Callable[[Book], ASGIApp]


def add_word(app: ASGIApp) -> ASGIApp:
    """Middleware of plain ASGI that sets WORD, for the frameworks that take such."""

    async def worded(scope: Scope, receive: Receive, send: Send) -> None:
        token = WORD.set("from middleware")
        try:
            await app(scope, receive, send)
        finally:
            WORD.reset(token)

    return worded


def tally(chunks: list[bytes]) -> str:
    """What `/count` answers."""
    body = b"".join(chunks)
    return f"{len(body)} {sum(body)}"


async def visit(kind: str) -> str:
    """Write a visit in the request's unit, and count."""
    work = await unit()
    await work.execute(INSERT, (kind,))
    rows = await work.execute(COUNT, (kind,))
    return str((await rows.fetchone())[0])


def visit_in_thread(kind: str) -> str:
    """The same, from a thread."""
    work = sync_unit()
    work.execute(INSERT, (kind,))
    return str(work.execute(COUNT, (kind,)).fetchone()[0])


async def visit_again(book: Book) -> str:
    """Write a visit, and lose the first time."""
    visits = await visit("again")
    book.notes.append("visited")
    if book.notes.count("visited") == 1:
        raise SerializationFailure
    return visits


async def look_for_unit(book: Book) -> None:
    """Note what unit() says."""
    try:
        await unit()
    except UnitClosed:
        book.notes.append("unit closed")
    except WorkhorseError as error:
        book.notes.append(f"no unit: {type(error).__name__}")
    else:
        book.notes.append("a unit")
