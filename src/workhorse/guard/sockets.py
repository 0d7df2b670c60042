"""WebSockets: a handshake that is admitted as a request is, and messages that are counted while the socket is open.

A refused handshake is answered with the same problem as a request where the server can do that (the extension
`websocket.http.response`), and is otherwise just denied, which servers answer with 403.

A request is short, and who sent it is proven once. A socket may be open for days, so it is asked again: when what was
proven expires, each minute, and before a message is passed on of whose sender nobody has asked for a second. A caller
who has logged out, or whose scopes were taken away, loses the socket. Once the guard has closed a socket, nothing goes
through it any more in either direction, whatever the app does.

Each socket is one line in the log, when it ends.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, time
from types import MappingProxyType
from typing import Any, Final

import msgspec

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send
from workhorse.context import CURRENT
from workhorse.errors import Problem
from workhorse.guard.access import Access
from workhorse.guard.admission import admit_socket
from workhorse.guard.checks.websocket import OVER_RATE, MessageMeter
from workhorse.guard.cookies import join_cookies
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.permission import Permission
from workhorse.guard.permit import WAIT
from workhorse.guard.plan import Plan
from workhorse.guard.routes import template_of
from workhorse.identity.scheme import Credentials
from workhorse.journal.records import RecordRule
from workhorse.journal.trail import Trail
from workhorse.principal import ANONYMOUS
from workhorse.problems import internal_error, render_problem, request_instance
from workhorse.telemetry.lines import AccessLine
from workhorse.telemetry.log import Log

__all__ = ["SocketClosed", "Sockets"]

# RFC 6455, section 7.4.1.
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011

ASK_AGAIN_SECONDS: Final = 60.0
"""How long a socket on which nothing comes in stays open for a caller who is known no more."""
MESSAGE_SECONDS: Final = 1.0
"""How long a message is taken from a caller who is known no more."""

# The error of Starlette and of Litestar by which a handler learns that the client is gone. Most let it through.
DISCONNECT: Final = "WebSocketDisconnect"

NO_RULES: Final[Mapping[str, RecordRule]] = MappingProxyType({})

SWITCHING: Final = 101
FORBIDDEN: Final = 403
SERVER_ERROR: Final = 500


class SocketClosed(OSError):  # the kind of error that ASGI names for this (spec 2.4, section "Disconnected Client")
    """The guard has closed the socket that the app sends to."""


class Sockets:
    """Guards the WebSockets of an app.

    Args:
        app: the app.
        plan: the compiled settings.
        permission: who may, and how often.
        access: where refusals are counted.
        log: where lines and errors go; nowhere if None.
        lines: whether to write a line per socket.
        rules: what is recorded of which route, by its pattern.
        trail: what stores the records.
    """

    def __init__(
        self,
        app: ASGIApp,
        plan: Plan,
        permission: Permission,
        access: Access,
        *,
        log: Log | None = None,
        lines: bool = True,
        rules: Mapping[str, RecordRule] = NO_RULES,
        trail: Trail | None = None,
    ) -> None:
        self._rules = rules
        self._trail = trail
        self._app = app
        self._plan = plan
        self._permission = permission
        self._access = access
        self._log = log
        self._lines = lines

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from its handshake to its end."""
        facts = Facts(scope)
        if len(facts.headers) != len(facts.raw):
            join_cookies(facts, scope)
        exchange = Exchange(self._plan, facts, send, monotonic())
        send = self._recording(facts, exchange, send)
        socket = _Socket(self._plan, self._permission, self._access, exchange, receive, send)
        current = CURRENT.set(exchange)
        try:
            refusal = admit_socket(self._plan, facts, exchange)
            if refusal is None:
                permitted = self._permission.permit.ask(facts, exchange, scope)
                refusal = await self._permission.check(facts, exchange, scope) if permitted is WAIT else permitted
            if refusal is None:
                await self._call(socket, self._permission.knows(facts), exchange, scope)
            else:
                self._access.refused(refusal.control)
                exchange.refusal = refusal
                await self._deny(refusal.problem, exchange, scope, send)
        finally:
            self._record_refused(facts, exchange)
            CURRENT.reset(current)
            exchange.end()
            control = socket.control if exchange.refusal is None else exchange.refusal.control
            self._note(scope, facts, exchange, control)

    def _recording(self, facts: Facts, exchange: Exchange, send: Send) -> Send:
        """What records an accepted socket of an audited route; where that must not fail, before its client is told."""
        trail = self._trail
        if trail is None or not self._rules:
            return send

        async def record(message: Message) -> None:
            rule = self._rules.get(exchange.route.pattern)
            if message["type"] == "websocket.accept" and rule is not None:
                event = rule.connected(facts.route_path)
                if rule.fail_closed:
                    try:
                        await trail.store(event)
                    except Problem:
                        exchange.status = 0  # it is not accepted
                        raise
                else:
                    trail.note(event)
            await send(message)

        return record

    def _record_refused(self, facts: Facts, exchange: Exchange) -> None:
        rule = self._rules.get(exchange.route.pattern)
        if self._trail is not None and rule is not None and exchange.status != SWITCHING:
            control = "" if exchange.refusal is None else exchange.refusal.control
            self._trail.note(rule.not_done(facts.route_path, exchange.status, control=control))

    async def _call(self, socket: "_Socket", credentials: Credentials | None, exchange: Exchange, scope: Scope) -> None:
        try:
            await socket.run(self._app, credentials, scope)
        except SocketClosed:
            if not socket.closed:
                raise  # another socket's, which the app has let through
        except Problem as problem:
            if exchange.status:
                await self._failed(problem, socket, exchange, scope)
            else:
                await self._deny(problem, exchange, scope, socket.plain_send)
        except Exception as error:  # noqa: BLE001 - the edge: whatever an app raises ends here
            await self._failed(error, socket, exchange, scope)

    async def _failed(self, error: Exception, socket: "_Socket", exchange: Exchange, scope: Scope) -> None:
        """Note an error of the app that nobody expected, and tell the client that it was one."""
        if socket.left and type(error).__name__ == DISCONNECT:
            return
        exchange.error = error
        if self._log is not None:
            request_id = exchange.request_id.decode()
            self._log.event("error", "websocket.failed", path=scope["path"], request_id=request_id, exception=error)
        if exchange.status == SWITCHING:
            await socket.close(INTERNAL_ERROR, "")
        elif not exchange.status and "websocket.http.response" in scope.get("extensions", ()):
            exchange.status = SERVER_ERROR
            reply = internal_error(instance=request_instance())
            await _answer(reply.status, list(reply.headers), reply.body, exchange, socket.plain_send)
        elif not exchange.status:
            raise error  # only the server can answer for a handshake that nobody has answered

    async def _deny(self, problem: Problem, exchange: Exchange, scope: Scope, send: Send) -> None:
        if "websocket.http.response" not in scope.get("extensions", ()):
            exchange.status = FORBIDDEN
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem.title})
            return
        reply = render_problem(problem, instance=request_instance())
        exchange.status = reply.status
        await _answer(reply.status, [*reply.headers, *exchange.extra], reply.body, exchange, send)

    def _note(self, scope: Scope, facts: Facts, exchange: Exchange, control: str) -> None:
        """Write the line of a socket that has ended. Its seconds are no request's, so they are not in the histogram."""
        if self._log is None or not self._lines:
            return
        self._log.access(
            AccessLine(
                datetime.now(UTC),
                facts.method,
                facts.path,
                template_of(scope, exchange.route),
                exchange.status,
                (monotonic() - exchange.arrived) * 1000,
                exchange.client,
                exchange.request_id.decode(),
                exchange.trace_id.decode(),
                control,
                exchange.bytes_out,
            )
        )


class _Socket:
    """One socket that was let in: what goes through it, and whether it may stay open."""

    def __init__(
        self,
        plan: Plan,
        permission: Permission,
        access: Access,
        exchange: Exchange,
        receive: Receive,
        send: Send,
    ) -> None:
        self._permission = permission
        self._access = access
        self._exchange = exchange
        self._receive = receive
        self.plain_send: Final = send
        """The server's."""
        self._meter = MessageMeter(plan.sockets)
        self._credentials: Credentials | None = None
        self._asked = 0.0
        self.left = False
        """Whether the app knows that the client is gone, or has closed it itself: there is nobody to tell anything."""
        self.control = ""
        """The control by which the guard has closed it."""
        self._last: Message | None = None
        """What every read gives once the guard has closed the socket."""
        self._ended: asyncio.Future[None] | None = None
        """Wakes the app's read then, where somebody else than the read itself may close."""
        self._reading: asyncio.Task[Message] | None = None

    @property
    def closed(self) -> bool:
        """Whether the guard has closed it."""
        return self._last is not None

    async def run(self, app: ASGIApp, credentials: Credentials | None, scope: Scope) -> None:
        """Call the app with it."""
        if credentials is None or self._exchange.principal is ANONYMOUS:
            await app(scope, self._read, self._send)
            return
        self._credentials = credentials
        self._asked = monotonic()
        self._ended = asyncio.get_running_loop().create_future()
        watch = asyncio.create_task(self._watch(), name="websocket caller")
        try:
            await app(scope, self._read, self._send)
        finally:
            await _stop(watch)
            if self._reading is not None:
                await _stop(self._reading)

    async def close(self, code: int, control: str) -> None:
        """Close it. To the app it looks as if the client had gone."""
        if self._last is not None:
            return
        self._last = {"type": "websocket.disconnect", "code": code, "reason": control}
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self.left:
            return
        with suppress(Exception):  # the client may have gone by itself, and servers raise as they like then
            await self.plain_send({"type": "websocket.close", "code": code, "reason": control})

    async def _refuse(self, code: int, control: str) -> None:
        if self._last is None:
            self.control = control
            self._access.refused(control)
            await self.close(code, control)

    async def _refuse_caller(self, code: int) -> None:
        control = "websocket.caller"
        await self._refuse(code, control)

    async def _read(self) -> Message:
        message = await self._next()
        if message["type"] != "websocket.receive":
            self.left = self.left or message["type"] == "websocket.disconnect"
            return message
        code = self._meter.take(message, monotonic())
        if code:
            await self._refuse(code, "websocket.rate" if code == OVER_RATE else "websocket.size")
        elif self._ended is not None and monotonic() - self._asked >= MESSAGE_SECONDS:
            await self._ask_again()
        return message if self._last is None else self._last

    async def _next(self) -> Message:
        if self._last is not None:
            await asyncio.sleep(0)  # an app that reads on for ever must not hold the loop
            return self._last
        if self._ended is None:
            return await self._receive()
        # The read goes on where the app gives up waiting for it: no message is lost.
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._receive())
        reading = self._reading
        either: set[asyncio.Future[Any]] = {reading, self._ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            return await self._next()
        self._reading = None
        return reading.result()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._last is not None:
            if kind != "websocket.close":
                raise SocketClosed("the guard has closed this socket; its app was told of it as a disconnect")
            return
        if kind == "websocket.send":
            text, data = message.get("text"), message.get("bytes")
            self._exchange.bytes_out += len(data) if data is not None else len((text or "").encode())
        elif kind == "websocket.accept":
            self._exchange.status = SWITCHING
        elif kind == "websocket.http.response.start":
            self._exchange.status = message["status"]
        elif kind == "websocket.close":
            self.left = True
            self._exchange.status = self._exchange.status or FORBIDDEN
        await self.plain_send(message)

    async def _watch(self) -> None:
        """Ask again who calls, for as long as the socket is open."""
        while self._last is None:
            left = self._exchange.principal.expires - time()
            await asyncio.sleep(max(MESSAGE_SECONDS, min(ASK_AGAIN_SECONDS, left)))
            try:
                await self._ask_again(at_rest=True)
            except Exception:  # noqa: BLE001 - nobody else would see it, and a caller nobody can ask for is not known
                await self._refuse_caller(INTERNAL_ERROR)

    async def _ask_again(self, *, at_rest: bool = False) -> None:
        assert self._credentials is not None
        self._asked = monotonic()
        exchange = self._exchange
        credentials = msgspec.structs.replace(self._credentials, at_rest=at_rest) if at_rest else self._credentials
        principal = await self._permission.still(credentials, exchange.principal, exchange.route)
        if principal is None:
            await self._refuse_caller(POLICY_VIOLATION)
        else:
            exchange.principal = principal


async def _stop(task: asyncio.Task[Any]) -> None:
    """End a task; what it failed with is not worth a report any more."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def _answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes, exchange: Exchange, send: Send) -> None:
    headers = [*headers, (b"x-request-id", exchange.request_id)]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
