"""A reply of any ASGI app whose body is a table, in the format that the client asks for.

The query runs, and its first batch is read, before the reply begins: so what goes wrong until then is an ordinary
problem document. What goes wrong later cuts the reply off without its end, which every format shows (see `encoders`).
Memory is that of a batch: the next is read when the client has taken this one. A client that goes away ends the query.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final

from workhorse.analytics.tables.encoders import Formulas, Sink, make_encoder
from workhorse.analytics.tables.formats import Coding, Format, choose_coding, choose_format
from workhorse.analytics.tables.selection import Frames, Source
from workhorse.asgi import Headers, Receive, Scope, Send

__all__ = ["FILE_NAME", "TableReply", "while_there"]

FILE_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
"""What the name of a downloaded file does not have."""
DOWNLOADED: Final = frozenset({Format.CSV, Format.ARROW, Format.PARQUET})


class TableReply:
    """Answers one request with a table. An ASGI app.

    Args:
        source: a selection, or a table in memory.
        name: what a downloaded file is called, without its ending.
        formulas: what becomes of texts in CSV that a spreadsheet would take for formulas. With "quote" a text that
            begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before it.
    """

    __slots__ = ("_formulas", "_name", "_source")

    def __init__(self, source: Source, *, name: str | None = None, formulas: Formulas = "quote") -> None:
        self._source = source
        self._name = FILE_NAME.sub("-", name or str(getattr(source, "name", "rows")))[:100]
        self._formulas: Formulas = formulas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            NotAcceptable: the client takes no format that is offered.
            Exception: what the source raises. If the reply had begun, the server must end the connection.
        """
        format_ = choose_format(scope)
        coding = choose_coding(scope, format_)
        await while_there(receive, self._answer(scope, send, format_, coding))

    async def _answer(self, scope: Scope, send: Send, format_: Format, coding: Coding) -> None:
        async with self._source.open(textual=format_.textual) as frames:
            body = self._body(frames, format_, coding)
            first = await anext(body)
            await send({"type": "http.response.start", "status": 200, "headers": self._headers(format_, coding)})
            if scope["method"] == "HEAD":
                await body.aclose()
            else:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                async for part in body:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, frames: Frames, format_: Format, coding: Coding) -> AsyncGenerator[bytes]:
        sink = Sink()
        encoder = make_encoder(format_, coding, frames.schema, sink, formulas=self._formulas)
        rows = 0
        first = True
        async for batch in frames:
            rows += batch.num_rows
            # In a thread: to write a batch of text takes milliseconds, in which nobody else would be served.
            await asyncio.to_thread(encoder.write, batch)
            part = sink.take()
            if part or first:
                yield part
                first = False
        await asyncio.to_thread(encoder.end, rows)
        yield sink.take()

    def _headers(self, format_: Format, coding: Coding) -> Headers:
        media_type = format_.media_types[0]
        if format_ is Format.CSV:
            media_type += "; charset=utf-8; header=present"
        headers = [
            (b"content-type", media_type.encode()),
            (b"vary", b"accept, accept-encoding"),
            # What a caller may see is the caller's alone, and the next run of the query may tell otherwise.
            (b"cache-control", b"private, no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if coding is not Coding.IDENTITY:
            headers.append((b"content-encoding", coding.value.encode()))
        if format_ in DOWNLOADED:
            headers.append((b"content-disposition", f'attachment; filename="{self._name}.{format_.word}"'.encode()))
        return headers


async def while_there(receive: Receive, answer: Coroutine[Any, Any, None]) -> None:
    """Answer, and stop when the client goes away.

    Raises:
        Exception: what `answer` raises.
    """
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Awaited, so that what is open, such as a query on the server, has ended when this returns.
        for task in (leaving, answering):
            if not task.done():
                task.cancel()
        await asyncio.wait({answering, leaving})
    if not answering.cancelled():
        answering.result()


async def _left(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
