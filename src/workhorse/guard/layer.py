"""The guard's one layer: the only code of the room that touches `receive` and `send`.

A request goes: facts, checks, app; a reply: headers, then out. One slotted object a request is its context and both
of its wrappers, because objects and coroutine frames, not checks, are what a layer of ASGI costs. `send` is a plain
function that returns the server's own awaitable for the same reason.

A body that turns out to be too large while the app reads it cannot be refused by an exception alone, because
frameworks turn any failed read into a reply of their own: the refusal is noted, and replaces what the app then says.
"""

from collections.abc import Awaitable
from time import perf_counter, time
from typing import Final

from workhorse.asgi import ASGIApp, Message, Receive, Reply, Scope, Send, send_reply
from workhorse.errors import Problem
from workhorse.guard.checks import ADMISSION
from workhorse.guard.checks.body import body_limit, refuse_body
from workhorse.guard.facts import Facts, read_facts
from workhorse.guard.plan import Plan, compile_plan
from workhorse.guard.verdict import Refusal
from workhorse.problems import internal_error, render_problem, request_instance
from workhorse.settings import load_settings
from workhorse.telemetry.lines import AccessLine
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.trace import accept_request_id, new_trace_id, parse_traceparent

__all__ = ["DURATION_METRIC", "Guard"]

DURATION_METRIC: Final = "http_server_request_duration_seconds"

# Any other method shares one label, so that a client cannot make up series.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Refused(Exception):  # not a WorkhorseError: it never leaves the guard
    """Ends the app's reading of a body that is refused."""


class Exchange:
    """One request and its reply."""

    __slots__ = (
        "_plan",
        "_receive",
        "_send",
        "bytes_out",
        "finished",
        "limit",
        "received",
        "refusal",
        "request_id",
        "started",
        "status",
        "tls",
        "trace_id",
    )

    def __init__(self, plan: Plan, facts: Facts, receive: Receive, send: Send) -> None:
        self._plan = plan
        self._receive = receive
        self._send = send
        self.tls = facts.tls
        self.limit = 0
        self.received = 0
        self.refusal: Refusal | None = None
        self.started = False
        self.finished = False
        self.status = 0
        self.bytes_out = 0
        parent = parse_traceparent(facts.traceparent) if facts.traceparent is not None else None
        self.trace_id = parent.trace_id if parent is not None else new_trace_id()
        given = facts.request_id
        self.request_id = given if given is not None and accept_request_id(given) else self.trace_id

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message of the reply on, with the guard's headers on its start."""
        kind = message["type"]
        if kind == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.finished = True
            return self._send(message)
        if kind == "http.response.start":
            if self.refusal is not None and not self.started:
                # The app answers the read that was refused: what the client gets is the refusal.
                raise Refused
            self.started = True
            self.status = message["status"]
            return self._send({**message, "headers": self._headers(message)})
        return self._send(message)

    async def receive(self) -> Message:
        """Count the body as it comes in. Only installed for a request that may have one."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            if self.received > self.limit:
                self.refusal = refuse_body(self.limit)
                raise Refused
        return message

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        plan = self._plan
        owned = plan.owned
        own: list[tuple[bytes, bytes]] = []
        names: list[bytes] = []
        page = False
        for name, value in message.get("headers", ()):
            own.append((name, value))
            if name in owned:
                names.append(name)
            elif name == b"content-type":
                page = value.startswith(b"text/html")
        if page:
            extra = plan.page_headers_tls if self.tls else plan.page_headers
        else:
            extra = plan.data_headers_tls if self.tls else plan.data_headers
        own += [header for header in extra if header[0] not in names] if names else extra
        own.append((b"x-request-id", self.request_id))
        return own


class Guard:
    """Guards any ASGI app.

    Args:
        app: the app.
        plan: what `compile_plan` made; by default of the project's settings.
        log: where access lines and errors go; nowhere by default.
        access_lines: write a line per request.
        metrics: where requests are counted; nowhere by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        plan: Plan | None = None,
        *,
        log: Log | None = None,
        access_lines: bool = True,
        metrics: Registry | None = None,
    ) -> None:
        self._app = app
        self._plan = plan if plan is not None else _default_plan()
        self._log = log
        self._access = log.access if log is not None and access_lines else None
        registry = metrics if metrics is not None else Registry(None)
        self._durations = registry.histogram(
            DURATION_METRIC,
            "Time from a request's arrival to the end of its reply.",
            labels=("method", "route", "status"),
        )
        self._refusals = registry.counter(
            "workhorse_refusals_total", "Requests that the guard refused.", labels=("control",)
        )
        self._active = registry.gauge("http_server_active_requests", "Requests under way.").labels()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope. Whatever is neither HTTP nor WebSocket passes untouched."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            refusal = self._admit(read_facts({**scope, "method": "GET"}))
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                self._refusals.labels(refusal.control).add(1)
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.problem.title})
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        self._active.add(1)
        facts = read_facts(scope)
        exchange = Exchange(self._plan, facts, receive, send)
        scope["workhorse.request_id"] = exchange.request_id.decode()
        scope["workhorse.trace_id"] = exchange.trace_id.decode()
        try:
            exchange.refusal = self._admit(facts)
            if exchange.refusal is not None:
                await self._refuse(scope, exchange)
            elif _may_have_body(facts):
                exchange.limit = body_limit(self._plan, facts)
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await self._app(scope, receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the edge: whatever an app raises ends here
            await self._failed(error, scope, exchange)
        finally:
            self._active.add(-1)
            self._account(scope, facts, exchange, perf_counter() - started)

    def _admit(self, facts: Facts) -> Refusal | None:
        plan = self._plan
        for check in ADMISSION:
            refusal = check(plan, facts)
            if refusal is not None:
                return refusal
        return None

    async def _refuse(self, scope: Scope, exchange: Exchange) -> None:
        assert exchange.refusal is not None
        refusal, exchange.refusal = exchange.refusal, None
        reply = render_problem(refusal.problem, instance=request_instance(scope))
        try:
            await self._reply(reply, scope, exchange)
        finally:
            exchange.refusal = refusal

    async def _reply(self, reply: Reply, scope: Scope, exchange: Exchange) -> None:
        await send_reply(reply, exchange.send, head=scope["method"] == "HEAD")

    async def _failed(self, error: Exception, scope: Scope, exchange: Exchange) -> None:
        """Answer for an app that raised, as far as its reply has not left."""
        if exchange.refusal is not None and not exchange.started:
            await self._refuse(scope, exchange)
            return
        if isinstance(error, Problem) and not exchange.started:
            await self._reply(render_problem(error, instance=request_instance(scope)), scope, exchange)
            return
        if self._log is not None:
            self._log.event(
                "error",
                "request.failed",
                method=scope["method"],
                path=scope["path"],
                request_id=exchange.request_id.decode(),
                exception=error,
            )
        if not exchange.started:
            await self._reply(internal_error(instance=request_instance(scope)), scope, exchange)
        elif not exchange.finished:
            raise error  # the reply is cut: only the server can tell the client, by closing the connection

    def _account(self, scope: Scope, facts: Facts, exchange: Exchange, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        method = facts.method if facts.method in METHODS else "other"
        control = "" if exchange.refusal is None else exchange.refusal.control
        self._durations.labels(method, route, str(exchange.status)).observe(seconds)
        if control:
            self._refusals.labels(control).add(1)
        if self._access is not None:
            self._access(
                AccessLine(
                    ts=time(),
                    method=facts.method,
                    path=facts.path,
                    route=route,
                    status=exchange.status,
                    duration_ms=seconds * 1000,
                    client=facts.client,
                    request_id=exchange.request_id.decode(),
                    trace_id=exchange.trace_id.decode(),
                    control=control,
                    bytes_out=exchange.bytes_out,
                )
            )


def _may_have_body(facts: Facts) -> bool:
    if facts.content_length is not None:
        return facts.content_length != b"0"
    # HTTP/1 announces a body by one of two headers (RFC 9112, section 6.3); HTTP/2 just sends it.
    return facts.chunked or not facts.http_version.startswith("1")


def _default_plan() -> Plan:
    settings = load_settings()
    return compile_plan(settings.guard, local_hosts=not settings.production)
