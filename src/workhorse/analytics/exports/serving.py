"""A reply of any ASGI app that is a file of an export, or says that it is not there yet.

    202   it is being made: ask again after Retry-After
    200   the whole file; 206 the part that Range asks for, of the file that If-Range names
    304   the client has it already; 416 it has no such part

`Repr-Digest` (RFC 9530) is the SHA-256 of the whole file, by which a client that has put parts together knows that they
are one.
"""

from base64 import b64encode
from typing import Final
from uuid import UUID

import msgspec

from workhorse.analytics.exports.downloads import Downloads, NoSuchExport, Ready
from workhorse.analytics.exports.ranges import Part, choose_part
from workhorse.analytics.tables import Format
from workhorse.analytics.tables.reply import FILE_NAME, while_there
from workhorse.asgi import Headers, Receive, Reply, Scope, Send, send_reply

__all__ = ["DownloadReply"]

RETRY_SECONDS: Final = 2


class DownloadReply:
    """Answers one request with an export. An ASGI app.

    Args:
        downloads: which made it.
        id_: of the export, as a client sent it.
    """

    __slots__ = ("_downloads", "_id")

    def __init__(self, downloads: Downloads, id_: UUID | str) -> None:
        self._downloads = downloads
        self._id = id_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            NoSuchExport, ExportFailed: see `Downloads.find`.
            ObjectStoreFailed: if the reply had begun, the server must end the connection.
        """
        try:
            id_ = self._id if isinstance(self._id, UUID) else UUID(self._id)
        except ValueError:
            raise NoSuchExport from None
        head = scope["method"] == "HEAD"
        ready = await self._downloads.find(id_)
        if ready is None:
            await send_reply(_not_yet(id_), send, head=head)
            return
        part = choose_part(scope["headers"], ready.bytes, ready.tag)
        headers = _headers(ready, part)
        if part.status in {304, 416}:
            await send_reply(Reply(status=part.status, headers=tuple(headers), body=b""), send, head=head)
            return
        headers.append((b"content-length", b"%d" % (part.end - part.start)))
        await send({"type": "http.response.start", "status": part.status, "headers": headers})
        if not head:
            await while_there(receive, self._body(ready, part, send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, ready: Ready, part: Part, send: Send) -> None:
        async for data in self._downloads.store.stream(ready.name, part.start, part.end):
            await send({"type": "http.response.body", "body": data, "more_body": True})


def _not_yet(id_: UUID) -> Reply:
    return Reply(
        status=202,
        headers=(
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"%d" % RETRY_SECONDS),
        ),
        body=msgspec.json.encode({"id": id_, "state": "being made"}),
    )


def _headers(ready: Ready, part: Part) -> Headers:
    media_type = next(one.media_types[0] for one in Format if one.word == ready.format)
    name = FILE_NAME.sub("-", ready.file_name)
    headers = [
        (b"etag", ready.tag.encode()),
        (b"accept-ranges", b"bytes"),
        # The caller's alone; it never changes, but its time ends.
        (b"cache-control", b"private, no-cache"),
        (b"repr-digest", b"sha-256=:" + b64encode(bytes.fromhex(ready.sha256)) + b":"),
    ]
    if part.status == 416:
        return [*headers, (b"content-range", b"bytes */%d" % ready.bytes)]
    if part.status == 206:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (part.start, part.end - 1, ready.bytes)))
    if part.status != 304:
        headers += [
            (b"content-type", media_type.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        ]
    return headers
