"""Serves the log to monitors and witnesses, as the static files that it is (C2SP tlog-tiles).

    GET <prefix>/checkpoint                 the last checkpoint
    GET <prefix>/tile/<level>/<index>…      hashes
    GET <prefix>/tile/entries/<index>…      entries, which have the digests of the events' data and not the data

Nothing is told that is not signed: a tile is cut out of what the last checkpoint covers, and one that reaches beyond it
is not there yet. A path is the one spelling of a tile's name or nothing; no file is opened by it. Who may ask is not
decided here, but by the policy of the route.
"""

import asyncio
from typing import Final

from workhorse.asgi import Headers, Receive, Reply, Scope, Send, route_path, send_reply
from workhorse.audit.checkpoints import Checkpoint
from workhorse.audit.export import CHECKPOINT
from workhorse.audit.faults import Malformed
from workhorse.audit.notes import Note
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, Tile, pack_bundle
from workhorse.audit.tree import HASH_BYTES
from workhorse.contracts import Database
from workhorse.problems import plain_problem
from workhorse.sealer.store import LogStore, StoreDamaged
from workhorse.units import Unit

__all__ = ["LogFiles"]

AT_ONCE: Final = 4
"""Files that are read and sent at the same time by a process; of entries each is at most 8 MB."""
WAIT_SECONDS: Final = 5.0
"""How long a request waits for its turn."""
READ_SECONDS: Final = 10.0
CHUNK: Final = 64 * 1024
YEAR_SECONDS: Final = 31_536_000

_PLAIN: Final = b"text/plain; charset=utf-8"
_BYTES: Final = b"application/octet-stream"


class LogFiles:
    """Answers what lies below a prefix. An ASGI app.

    Args:
        database: where the log is.
        prefix: such as `/audit-log`.
        quorum: how many witnesses must have signed what is shown.
        shared: whether caches on the way may keep the files: only where anybody may read them.
    """

    def __init__(self, database: Database, *, prefix: str, quorum: int = 0, shared: bool = False) -> None:
        self._database = database
        self._prefix = f"{prefix}/"
        self._quorum = quorum
        who = "public" if shared else "private"
        self._for_ever = f"{who}, max-age={YEAR_SECONDS}, immutable".encode()
        self._store = LogStore()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return f"<LogFiles at {self._prefix}>"

    def serves(self, scope: Scope) -> bool:
        """Whether the request is for something below the prefix."""
        return scope["type"] == "http" and route_path(scope).startswith(self._prefix)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            DatabaseUnavailable: the log cannot be read now.
            StoreDamaged: something that was signed is not there any more.
        """
        is_head = scope["method"] == "HEAD"
        if scope["method"] not in {"GET", "HEAD"}:
            await send_reply(plain_problem(405, headers=((b"allow", b"GET, HEAD"),)), send)
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            busy = plain_problem(503, "Many read the log now. Ask again.", headers=((b"retry-after", b"1"),))
            await send_reply(busy, send, head=is_head)
            return
        try:
            reply = await self._read(route_path(scope).removeprefix(self._prefix))
            if reply is None:
                await send_reply(plain_problem(404), send, head=is_head)
            elif is_head:
                await send_reply(reply, send, head=True)
            else:
                await _stream(reply, send)
        finally:
            self._turns.release()

    async def _read(self, path: str) -> Reply | None:
        """The file of a path; None if there is none, or not yet."""
        tile: Tile | None = None
        if path != CHECKPOINT:
            try:
                tile = Tile.parse(path)
            except Malformed:
                return None
        unit = Unit(self._database, isolation="repeatable read", read_only=True, deadline_seconds=READ_SECONDS)
        async with unit as work:
            rows = await self._store.rows(work, "last_checkpoint", self._quorum)
            if not rows:
                return None
            note = Note.parse(rows[0][1].encode())
            if tile is None:
                return _file(note.encode(), _PLAIN, b"no-cache")
            height = 8 * max(tile.level, 0)
            if (tile.index * TILE_WIDTH + tile.width) > Checkpoint.parse(note.text).size >> height:
                return None
            if tile.level == ENTRIES:
                first = tile.index * TILE_WIDTH
                raw = pack_bundle(await self._store.entries(work, first, first + tile.width))
            else:
                found = await self._store.tiles(work, [(tile.level, tile.index)])
                raw = found.get((tile.level, tile.index), b"")[: tile.width * HASH_BYTES]
                if len(raw) != tile.width * HASH_BYTES:
                    raise StoreDamaged(f"the stored log has no {tile.path}, which is signed: verify an export")
        return _file(raw, _BYTES, self._for_ever)


def _file(raw: bytes, media_type: bytes, cached: bytes) -> Reply:
    headers: Headers = [
        (b"content-type", media_type),
        (b"cache-control", cached),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Reply(status=200, headers=tuple(headers), body=raw)


async def _stream(reply: Reply, send: Send) -> None:
    """Send in pieces, so that a slow reader holds up the next one and not a buffer of the server's."""
    body = reply.body
    headers = [*reply.headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for at in range(0, len(body), CHUNK):
        more = at + CHUNK < len(body)
        await send({"type": "http.response.body", "body": body[at : at + CHUNK], "more_body": more})
    if not body:
        await send({"type": "http.response.body", "body": b""})
