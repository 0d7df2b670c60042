"""A witness as a small ASGI app (C2SP tlog-witness): `POST /add-checkpoint`, and a page that says who it is.

Anybody may ask. What is signed is decided by `judge`, one request after the other: the head is compared,
replaced on disk and only then is the signature made. A body is read to a bound, within a deadline.

    workhorse audit key w1.example/witness w1/key --witness
    workhorse audit witness w1 --admit 'bank.example/audit+1a2b3c4d+AUxb…'
    workhorse audit witness w1 --port 8080
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from workhorse.asgi import Receive, Reply, Scope, Send, route_path, send_reply
from workhorse.audit.checkpoints import Checkpoint
from workhorse.audit.faults import AuditFault, CosignRefused
from workhorse.audit.heads import HeadFolder, Remembered
from workhorse.audit.notes import Note
from workhorse.audit.witness import AddCheckpoint, cosign, judge

if TYPE_CHECKING:
    from workhorse.audit.keys import Signer

__all__ = ["WitnessApp"]

MAX_BODY: Final = 128 * 1024
"""Bytes: 63 hashes and a checkpoint with many signatures are a tenth of it."""
BODY_SECONDS: Final = 10.0

_PLAIN: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_SIZE: Final = ((b"content-type", b"text/x.tlog.size"), (b"cache-control", b"no-store"))


class WitnessApp:
    """Signs for the logs of a folder, between the start and the end of its lifespan.

    Args:
        folder: what it remembers, and its key.
        clock: seconds since 1970.
    """

    def __init__(self, folder: HeadFolder, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._signer: Signer | None = None
        self._logs: dict[str, Remembered] = {}
        self._turn = threading.Lock()
        self._held = ExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await send_reply(await self._reply(scope, receive), send, head=scope["method"] == "HEAD")

    def open(self) -> None:
        """Take the folder, and read what is remembered.

        Raises:
            SettingsError: another process has it, or it has no key or no log.
            Malformed: something that is remembered cannot be read.
        """
        self._held.enter_context(self._folder.held())
        try:
            self._signer, self._logs = self._folder.signer(), self._folder.read()
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """Give the folder back."""
        self._held.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self.open()
        except Exception as error:  # noqa: BLE001 - the server is told, whatever it was
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        match scope["method"], route_path(scope):
            case "POST", "/add-checkpoint":
                return await self._add_checkpoint(receive)
            case (("GET" | "HEAD"), "/"):
                return _text(200, self._who())
            case _, ("/" | "/add-checkpoint"):
                return _text(405, "POST /add-checkpoint, or GET /\n")
            case _:
                return _text(404, "this is a witness: POST /add-checkpoint\n")

    async def _add_checkpoint(self, receive: Receive) -> Reply:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                raw = await _body(receive)
            if raw is None:
                return _text(413, f"a request has at most {MAX_BODY} bytes\n")
            return Reply(status=200, headers=_PLAIN, body=await asyncio.to_thread(self._sign, AddCheckpoint.parse(raw)))
        except CosignRefused as error:
            return _text(error.status, f"{error}\n") if error.size is None else _conflict(error.size)
        except AuditFault as error:
            return _text(400, f"{error}\n")
        except TimeoutError:
            return _text(408, f"the request did not come within {BODY_SECONDS:g} s\n")
        except OSError as error:
            return _text(503, f"the head could not be kept: {error.strerror}\n")

    def _sign(self, request: AddCheckpoint) -> bytes:
        """The cosignature, once the head is on disk. In a thread, which nobody who goes away can cancel half way."""
        origin = Checkpoint.parse(request.note.text).origin
        with self._turn:
            one, signer = self._logs.get(origin), self._signer
            if one is None or signer is None:
                raise CosignRefused(404, f"the log {origin!r} is not known here")
            try:
                judge(request, logs={origin: one.keys}, head=one.head)
            except CosignRefused as error:
                if error.is_fork:
                    self._folder.keep_evidence(request.note)
                raise
            # Only what the log itself signed is kept: others' lines could make the file of any size.
            signed = request.note.signed_by(one.keys)
            grown = Remembered(keys=one.keys, note=Note(request.note.text, tuple(signed.values())))
            if grown != one:
                self._folder.write(grown)
                self._logs[origin] = grown
            return cosign(request.note, signer, seconds=int(self._clock()))

    def _who(self) -> str:
        lines = [f"witness {self._signer and self._signer.verifier}"]
        for origin, one in sorted(self._logs.items()):
            head = one.head
            lines.append(f"log {origin}: {0 if head is None else head.size} entries")
        return "".join(f"{line}\n" for line in lines)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is longer than it may be."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part: bytes = message.get("body", b"")
        length += len(part)
        if length > MAX_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _conflict(size: int) -> Reply:
    return Reply(status=409, headers=_SIZE, body=b"%d\n" % size)


def _text(status: int, text: str) -> Reply:
    return Reply(status=status, headers=_PLAIN, body=text.encode())
