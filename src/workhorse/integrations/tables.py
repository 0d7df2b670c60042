"""A table, or the file of an export, as the response of a FastAPI or Starlette handler."""

from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from workhorse.analytics.exports.downloads import Downloads
from workhorse.analytics.exports.serving import DownloadReply
from workhorse.analytics.tables import Source, TableReply
from workhorse.analytics.tables.encoders import Formulas

__all__ = ["Answer", "Download"]


class Answer(Response):
    """Answers with a table, in the format that the client asks for: `return Answer(tables.select("SELECT ..."))`.

    Args:
        source: a selection, or a table in memory.
        name: what a downloaded file is called, without its ending.
        formulas: see `TableReply`.
    """

    def __init__(self, source: Source, *, name: str | None = None, formulas: Formulas = "quote") -> None:
        super().__init__()
        self._reply = TableReply(source, name=name, formulas=formulas)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see `TableReply`."""
        await self._reply(scope, receive, send)
        if self.background is not None:
            await self.background()


class Download(Response):
    """Answers with the file of an export, or a part of it, or 202: `return Download(downloads, id)`.

    Args:
        downloads: which made it.
        id_: of the export.
    """

    def __init__(self, downloads: Downloads, id_: UUID | str) -> None:
        super().__init__()
        self._reply = DownloadReply(downloads, id_)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see `DownloadReply`."""
        await self._reply(scope, receive, send)
        if self.background is not None:
            await self.background()
