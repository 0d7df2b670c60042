"""One route on which measures are watched: Server-Sent Events for a GET, the same over a WebSocket.

A stream ends when its client goes away, when its time is over, when the service stops, or when the client has taken
nothing for so long that it will not any more. In all but the last case the end is told, and the client comes again with
the id of the last event that it has: browsers do so by themselves.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from secrets import randbelow
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from workhorse.analytics.live.positions import Position, parse_positions
from workhorse.analytics.live.updates import Update
from workhorse.asgi import Receive, Reply, Scope, Send, send_reply
from workhorse.bridge import refuse_trio
from workhorse.errors import PROBLEM_PREFIX, Problem
from workhorse.problems import plain_problem, render_problem, request_instance

if TYPE_CHECKING:
    from workhorse.analytics.live.live import Live, Subscriber

__all__ = ["LiveStream", "NotLive", "TooManySubscribers"]

LOAD_SECONDS: Final = 5.0
"""How long the first one who watches waits for what there is."""
RETRY_MS: Final = 1_000
"""About how long a browser waits before it comes again; half as long to one and a half times, so that not all come at
once."""
# RFC 6455, section 7.4.1, and the registry of IANA.
POLICY_VIOLATION: Final = 1008
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013
CUT_SECONDS: Final = 1.0
PARAMETER: Final = "last_event_id"

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Nobody on the way may keep it, or change it: what compresses also collects.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


class TooManySubscribers(Problem):
    """503: as many clients watch as this process serves."""

    status = 503
    type = PROBLEM_PREFIX + "too-many-subscribers"
    title = "Too many clients watch already"

    def __init__(self, limit: int) -> None:
        super().__init__("Come again later.", headers=((b"retry-after", b"5"),), limit=limit)


class NotLive(Problem):
    """503: the service stops, does not run yet, or cannot reach its database."""

    status = 503
    type = PROBLEM_PREFIX + "not-live"
    title = "Nothing can be watched here now"

    def __init__(self) -> None:
        super().__init__("Come again in a moment.", headers=((b"retry-after", b"1"),))


class ClientDisconnect(Exception):
    """The client takes nothing any more, so that the rest of the reply cannot be sent."""


class Ending(Enum):
    """Why a stream ended."""

    LEFT = "left"
    """The client went away."""
    OLD = "old"
    """Its time was over."""
    STOPPED = "stopped"
    """The service stops."""
    STALLED = "stalled"
    """The client took nothing for too long."""
    REFUSED = "refused"
    """The database could not be reached."""
    FAILED = "failed"
    """By an error, or cancelled."""


class LiveStream:
    """Serves one route. An ASGI app; see `Live.stream`.

    Args:
        live: what tells.
        watched: the measures, and how many seconds of each.
    """

    def __init__(self, live: "Live", watched: tuple[tuple[str, int], ...]) -> None:
        self._live = live
        self._watched = watched

    def __repr__(self) -> str:
        return f"<LiveStream of {', '.join(name for name, _ in self._watched)}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until it or the service has had enough.

        Raises:
            ClientDisconnect: the client takes nothing any more.
        """
        refuse_trio("a LiveStream")
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await self._serve(scope, receive, _Socket(scope, send))
        elif scope["method"] == "GET":
            await self._serve(scope, receive, _Events(send))
        elif scope["method"] == "HEAD":
            await send_reply(Reply(status=200, headers=HEADERS, body=b""), send, head=True)
        else:
            await send_reply(plain_problem(405, headers=((b"allow", b"GET, HEAD"),), instance=request_instance()), send)

    async def _serve(self, scope: Scope, receive: Receive, way: "_Events | _Socket") -> None:
        try:
            subscriber = self._live.enter(self._watched, self._resume(scope))
        except Problem as problem:
            await way.refuse(problem)
            return
        reason = Ending.FAILED
        telling = asyncio.ensure_future(self._tell(subscriber, way))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            reason = telling.result() if telling.done() else Ending.LEFT
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.wait({telling, leaving})
            self._live.leave(subscriber, reason.value)
        if reason is Ending.STALLED:
            await way.cut()

    async def _tell(self, subscriber: "Subscriber", way: "_Events | _Socket") -> "Ending":
        """Tell a client what there is, until there is a reason to end."""
        live, loop = self._live, asyncio.get_running_loop()
        began = loop.time()
        while not live.has_looked(subscriber):
            if live.stopping or loop.time() - began >= LOAD_SECONDS:
                await way.refuse(NotLive())
                return Ending.REFUSED
            await subscriber.rest()
        # Not all at once, where all have come at once.
        ends = began + live.lifetime_seconds * (900 + randbelow(200)) / 1_000
        if not await self._in_time(way.begin()):
            return Ending.STALLED
        while True:
            now = loop.time()
            ending = Ending.STOPPED if live.stopping else Ending.OLD if now >= ends else None
            if ending is not None:
                return ending if await self._in_time(way.end()) else Ending.STALLED
            update = live.next(subscriber, now)
            if update is None:
                await subscriber.rest()
            elif not await self._in_time(way.put(update)):
                return Ending.STALLED

    async def _in_time(self, sending: Awaitable[None]) -> bool:
        """Whether the client took it in time."""
        try:
            async with asyncio.timeout(self._live.stall_seconds):
                await sending
        except TimeoutError:
            return False
        return True

    def _resume(self, scope: Scope) -> tuple[Position, ...] | None:
        """Where the client says that it stands: by the header that browsers send, or by the query."""
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"last-event-id"), None)
        if given is None:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=100)
            given = query.get(PARAMETER, [""])[0]
        return parse_positions(given, len(self._watched))


class _Events:
    """Server-Sent Events as the reply to a request."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def refuse(self, problem: Problem) -> None:
        """Answer with an error instead."""
        await send_reply(render_problem(problem, instance=request_instance()), self._send)

    async def begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        retry = RETRY_MS // 2 + randbelow(RETRY_MS)
        await self._write(f"retry: {retry}\n\n".encode())

    async def put(self, update: Update) -> None:
        await self._write(update.sse)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def cut(self) -> None:
        raise ClientDisconnect

    async def _write(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})


class _Socket:
    """Messages over a WebSocket."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send

    async def refuse(self, problem: Problem) -> None:
        """Answer the handshake with an error, where the server can do that."""
        if "websocket.http.response" not in (self._scope.get("extensions") or ()):
            await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": problem.title})
            return
        reply = render_problem(problem, instance=request_instance())
        start = {"type": "websocket.http.response.start", "status": reply.status, "headers": list(reply.headers)}
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": reply.body})

    async def begin(self) -> None:
        await self._send({"type": "websocket.accept"})

    async def put(self, update: Update) -> None:
        await self._send({"type": "websocket.send", "text": update.text})

    async def end(self) -> None:
        await self._send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "Come again."})

    async def cut(self) -> None:
        with suppress(Exception):  # it may not take this either
            async with asyncio.timeout(CUT_SECONDS):
                await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Nothing is taken."})


async def _left(receive: Receive) -> None:
    """Return when the client has gone away. What it sends meanwhile is of no interest."""
    while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
        pass
