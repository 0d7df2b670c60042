"""The guard's one layer: the only code of the room that touches `receive` and `send`.

A request goes: facts, checks, who calls, how often, app; a reply: headers, then out. What is decided without waiting is
asked first, so that a request that is refused costs no store and no signature; a place among those under way is taken
last of these, so that a refused request never holds one.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from workhorse.asgi import ASGIApp, Receive, Reply, Scope, Send, send_reply
from workhorse.audited import Audit
from workhorse.bridge import refuse_trio
from workhorse.context import CURRENT
from workhorse.contracts import CounterStore
from workhorse.errors import Problem, SettingsError
from workhorse.guard.access import METHODS, Access
from workhorse.guard.admission import inspectors
from workhorse.guard.body import Body, Budget
from workhorse.guard.checks.content_coding import inflated_headers
from workhorse.guard.checks.host import host_name
from workhorse.guard.cookies import join_cookies
from workhorse.guard.disconnect import ReadAhead
from workhorse.guard.entrance import Entrance
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.permission import Permission
from workhorse.guard.permit import Wait
from workhorse.guard.plan import Plan, compile_plan
from workhorse.guard.problems import ClientGone
from workhorse.guard.recording import Recording
from workhorse.guard.sockets import Sockets
from workhorse.guard.tokens import FormToken, Tokens, form_token_due
from workhorse.guard.verdict import Refusal
from workhorse.guard.watch import Watch
from workhorse.identity.scheme import Identity, NotAuthenticated
from workhorse.journal import RecordRule, Trail, record_rules
from workhorse.policy import Policy
from workhorse.problems import internal_error, render_problem, request_instance
from workhorse.settings import GuardSettings, load_settings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.spans import OpenSpan, Spans, find_spans

__all__ = ["Guard"]

# By what refusals of requests are recorded whose routes are not audited, where that is asked for.
ANYTHING: Final = Policy("* /{path:path}", audit=Audit("request"))
# Starlette's error where a reply cannot be sent on because its client has gone. It is no error of the app's.
CLIENT_GONE: Final = "ClientDisconnect"
# Refusals that leave a body behind which may never end: Request Timeout, and Content Too Large.
BODY_LEFT: Final = frozenset({408, 413})


class Guard:
    """Guards any ASGI app.

    Args:
        app: the app.
        plan: what `compile_plan` made; by default of the next three, which do not go with it.
        settings: the guard's settings; by default those that `load_settings` finds.
        policies: what single routes ask for.
        production: whether real data is at stake (see `compile_plan`); by default as `load_settings` finds, and not
            where there are `settings`.
        identity: says who calls; without one, everybody may call everything.
        counters: where rate limits are counted; by default in this process alone.
        log: where access lines and errors go; nowhere by default.
        access_lines: write a line per request.
        metrics: where requests are counted; nowhere by default.
        trail: where it is recorded how audited requests have ended, as far as it is not with their units.
        routed: gives a scope the path that the app's router goes by, where it makes another of the one that came (see
            `integrations.routed_by`).

    Raises:
        SettingsError: a setting or a policy is malformed, a policy asks for a scope and there is no identity, or there
            is a plan beside what plans are made of.
    """

    def __init__(
        self,
        app: ASGIApp,
        plan: Plan | None = None,
        *,
        settings: GuardSettings | None = None,
        policies: Iterable[Policy] = (),
        production: bool | None = None,
        identity: Identity | None = None,
        counters: CounterStore | None = None,
        log: Log | None = None,
        access_lines: bool = True,
        metrics: Registry | None = None,
        trail: Trail | None = None,
        routed: Callable[[Scope], Scope] | None = None,
    ) -> None:
        self._app = app
        self._trail = trail
        self._routed = routed
        policies = tuple(policies)
        if plan is None:
            plan = _default_plan(settings, policies, production=production)
        elif settings is not None or policies or production is not None:
            raise SettingsError(
                "Guard() was given a plan, and settings, policies or production beside it, which would do nothing; give"
                " them to compile_plan(), or leave the plan out"
            )
        self._plan = plan
        registry = metrics if metrics is not None else Registry(None)
        self._access = Access(self._plan.headers, log, lines=access_lines, metrics=registry)
        self._identity = identity
        rules = record_rules(route.policy for route in self._plan.routes if route.policy is not None)
        if rules and trail is None:
            raise SettingsError(
                f"the policies {', '.join(map(repr, rules))} are audited, but there is nowhere to record it: give the"
                " Guard a trail=Trail(database)"
            )
        self._rules = rules
        self._any_rule = RecordRule(ANYTHING, ANYTHING.audited or Audit())
        scoped = [route.pattern for route in self._plan.routes if route.scopes]
        if scoped and identity is None:
            raise SettingsError(
                f"the policies {', '.join(repr(pattern) for pattern in scoped)} ask for a scope, but nobody says who"
                " calls: give the Guard an identity, such as identity=Identity(Bearer())"
            )
        self._permission = Permission(self._plan, identity=identity, counters=counters, access=self._access)
        self._limiter = self._plan.new_limiter()
        self._entrance = Entrance(self._plan, self._permission.permit, self._limiter, Watch())
        self._budget = Budget(self._plan.settings.max_pending_bytes)
        self._spans: Spans | None = None
        self._sockets = Sockets(
            app, self._plan, self._permission, self._access, log=log, lines=access_lines, rules=rules, trail=trail
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0912 - a call more costs
        """Serve one scope. Whatever is neither HTTP nor WebSocket passes untouched."""
        if self._routed is not None and scope["type"] != "lifespan":
            scope = self._routed(scope)
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        arrived = monotonic()
        facts = Facts(scope)
        if len(facts.headers) != len(facts.raw):
            join_cookies(facts, scope)
        exchange = Exchange(self._plan, facts, send, arrived)
        if self._plan.csrf_token is not None:
            exchange.page_tokens = Tokens(self._plan.csrf_token, facts)
        span = self._begin_span(facts, exchange, scope) if "opentelemetry.sdk.trace" in sys.modules else None
        current = CURRENT.set(exchange)
        active = self._access.active
        active.slots[0] += 1.0
        recording: Recording | None = None
        try:
            verdict = self._entrance.ask(facts, exchange, scope)
            if self._rules and exchange.route.pattern in self._rules:
                recording = self._begin_recording(self._rules[exchange.route.pattern], facts, exchange)
            if isinstance(verdict, Wait):
                verdict = await self._permission.check(facts, exchange, scope) or self._entrance.enter(exchange)
            if verdict is not None:
                await self._answer(verdict, scope, exchange)
            elif exchange.body_type is None and not exchange.route.cancel_on_disconnect:
                await self._app(scope, receive, exchange.send)
            else:
                await self._call(scope, receive, facts, exchange)
        except asyncio.CancelledError:
            if not exchange.claim_cancellation():
                raise
            await self._end_early(scope, exchange)
        except Exception as error:
            if await self._failed(error, scope, exchange):
                raise  # the reply is cut: only the server can tell the client, by closing the connection
        finally:
            exchange.end()
            if recording is not None:
                recording.end()
            CURRENT.reset(current)
            active.slots[0] -= 1.0
            self._access.note(scope, facts, exchange, span)
            exchange.error = None  # its frames hold what the app held, and the exchange too: a circle

    def _begin_recording(self, rule: RecordRule, facts: Facts, exchange: Exchange) -> Recording:
        assert self._trail is not None
        recording = Recording(rule, self._trail, exchange, facts.method, facts.route_path)
        recording.pass_to(exchange.go_through(recording.send))
        exchange.recording = recording
        return recording

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        refuse_trio("a Guard")
        if scope["type"] == "websocket":
            await self._sockets.serve(scope, receive, send)
        elif scope["type"] == "lifespan" and self._identity is not None:
            async with self._identity:
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _body(self, scope: Scope, receive: Receive, facts: Facts, exchange: Exchange) -> Receive:
        """What the app reads the body from."""
        assert exchange.body_type is not None
        route = exchange.route
        if b"content-encoding" in facts.headers:
            scope["headers"] = inflated_headers(facts.raw)
        body = Body(
            receive,
            exchange,
            limit=route.max_body_bytes,
            pace=self._plan.pace,
            inspectors=inspectors(self._plan, facts, route, exchange.body_type),
            budget=self._budget,
            limiter=self._limiter,
        )
        return body.receive

    async def _call(self, scope: Scope, receive: Receive, facts: Facts, exchange: Exchange) -> None:
        """Call the app with what has more to it than a head and a reply."""
        if exchange.body_type is not None:
            receive = self._body(scope, receive, facts, exchange)
            if form_token_due(self._plan, facts, exchange.body_type, cross_site=exchange.route.cross_site):
                assert self._plan.csrf_token is not None
                # Before the app is called: whether it reads the form is its own business.
                form = FormToken(
                    receive, self._plan.csrf_token, facts=facts, kind=exchange.body_type, principal=exchange.principal
                )
                refusal = await form.check()
                if refusal is not None:
                    await self._answer(refusal, scope, exchange)
                    return
                receive = form.receive
        if exchange.route.cancel_on_disconnect:
            await self._call_attentively(scope, receive, exchange)
        else:
            await self._app(scope, receive, exchange.send)
        if exchange.refusal is not None and not exchange.started:
            await self._answer(exchange.refusal, scope, exchange)  # the app has nothing to say of a refused body

    def _begin_span(self, facts: Facts, exchange: Exchange, scope: Scope) -> OpenSpan | None:
        """Begin the span of this request, if the app has set OpenTelemetry up; it names the trace then."""
        if self._spans is None:
            self._spans = find_spans()
            if self._spans is None:
                return None
        span = self._spans.begin(
            method=facts.method if facts.method in METHODS else "_OTHER",
            path=facts.path,
            scheme=scope.get("scheme", "http"),
            host=host_name(facts.host or b"").decode("latin-1"),
            headers=facts.headers,
        )
        if exchange.request_id is exchange.trace_id:
            exchange.request_id = span.trace_id
        exchange.trace_id = span.trace_id
        # FastAPI would begin a second span of the same request otherwise, and at several times the cost.
        scope.setdefault("fastapi.telemetry", None)
        return span

    async def _call_attentively(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        """Call the app, and end the request when its client goes away."""
        ahead = ReadAhead(receive, exchange.client_gone)
        if exchange.body_type is not None:
            exchange.waits = ahead
        try:
            await self._app(scope, ahead.receive, exchange.send)
        finally:
            await ahead.close()

    async def _answer(self, verdict: Refusal | Reply, scope: Scope, exchange: Exchange) -> None:
        """Reply in the app's stead."""
        if isinstance(verdict, Reply):
            await self._reply(verdict, scope, exchange)
            return
        reply = self._way_to_login(verdict, scope) or render_problem(verdict.problem, instance=request_instance())
        if reply.status in BODY_LEFT and scope.get("http_version", "1.1").startswith("1"):
            # Else a server goes on reading what nobody wants (RFC 9110, sections 15.5.9 and 15.5.14).
            exchange.extra.append((b"connection", b"close"))
        if exchange.recording is not None:
            exchange.recording.control = verdict.control
        elif self._trail is not None and self._trail.all_denials:
            self._begin_recording(self._any_rule, Facts(scope), exchange).control = verdict.control
        exchange.refusal = None  # or `send` would take the refusal's own reply for the app's
        try:
            await self._reply(reply, scope, exchange)
        finally:
            exchange.refusal = verdict

    def _way_to_login(self, refusal: Refusal, scope: Scope) -> Reply | None:
        """What leads a person's browser to the login where nobody is known; None: the refusal itself is the answer.

        Not where another credential than a cookie came: a login would not mend that one, and the browser would go in
        circles.
        """
        if self._identity is None or self._identity.login_redirect is None:
            return None
        if not isinstance(refusal.problem, NotAuthenticated):
            return None
        if any(name in {b"authorization", b"x-api-key"} for name, _ in scope["headers"]):
            return None
        return self._identity.login_redirect(scope)

    async def _reply(self, reply: Reply, scope: Scope, exchange: Exchange) -> None:
        await send_reply(reply, exchange.send, head=scope["method"] == "HEAD")

    async def _end_early(self, scope: Scope, exchange: Exchange) -> None:
        """Answer for a request that was ended because its time was over."""
        assert exchange.refusal is not None
        if exchange.started:
            raise ReplyCut(exchange.refusal.control)
        await self._answer(exchange.refusal, scope, exchange)

    async def _failed(self, error: Exception, scope: Scope, exchange: Exchange) -> bool:
        """Answer for an app that raised, as far as its reply has not left. Returns whether the reply must be cut."""
        if exchange.refusal is not None and not exchange.started:
            await self._answer(exchange.refusal, scope, exchange)
            return False
        if isinstance(error, Problem) and not exchange.started:
            await self._reply(render_problem(error, instance=request_instance()), scope, exchange)
            return False
        if exchange.started and type(error).__name__ == CLIENT_GONE:
            exchange.refusal = exchange.refusal or Refusal("disconnect", ClientGone())
            return False  # there is nobody to tell
        self._access.failed(scope, exchange, error)
        if not exchange.started:
            await self._reply(internal_error(instance=request_instance()), scope, exchange)
            return False
        return not exchange.finished


class ReplyCut(Exception):  # not a WorkhorseError: only the server sees it
    """The request was ended while its reply was under way, so that the connection must be closed."""


def _default_plan(settings: GuardSettings | None, policies: Iterable[Policy], *, production: bool | None) -> Plan:
    if settings is not None:
        return compile_plan(settings, policies, production=bool(production))
    project = load_settings()
    return compile_plan(project.guard, policies, production=project.production if production is None else production)
