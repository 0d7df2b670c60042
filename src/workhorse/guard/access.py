"""What the operator learns of each request: one log line, its duration by route, and the control that refused it."""

from datetime import UTC, datetime
from time import monotonic
from typing import Final

from workhorse.asgi import Scope
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.headers import HeaderRules
from workhorse.guard.routes import template_of
from workhorse.guard.weakened import weakened
from workhorse.telemetry.lines import AccessLine
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Histogram, Registry
from workhorse.telemetry.spans import OpenSpan

__all__ = ["DURATION_METRIC", "METHODS", "Access"]

DURATION_METRIC: Final = "http_server_request_duration_seconds"

# Any other method shares one label, so that a client cannot make up series.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Weakened headers are reported once each; an app that makes up values must not fill the memory with them.
MAX_WEAKENED: Final = 1_000


class Access:
    """Counts and logs requests.

    Args:
        rules: the headers that the guard sends, to compare an app's own with.
        log: where lines go; nowhere if None.
        lines: whether to write a line per request.
        metrics: where requests are counted.
    """

    def __init__(self, rules: HeaderRules, log: Log | None, *, lines: bool, metrics: Registry) -> None:
        self._rules = rules
        self._log = log
        self._line = log.access if log is not None and lines else None
        self._durations = metrics.histogram(
            DURATION_METRIC,
            "Time from a request's arrival to the end of its reply.",
            labels=("method", "route", "status"),
        )
        # By the parts of its labels, which saves each request to write them out. As many as there are series.
        self._children: dict[tuple[str, str, int], Histogram] = {}
        self._refusals = metrics.counter(
            "workhorse_refusals_total", "Requests that the guard refused.", labels=("control",)
        )
        self._weakened = metrics.counter(
            "workhorse_weakened_headers_total",
            "Replies whose own security header is weaker than the guard's.",
            labels=("header",),
        )
        self._store_reported = -1.0
        self._reported: set[tuple[str, bytes]] = set()
        self.active = metrics.gauge("http_server_active_requests", "Requests under way.").labels()

    def refused(self, control: str) -> None:
        """Count a refusal that has no reply of its own, such as a WebSocket's."""
        self._refusals.labels(control).add(1)

    def note(self, scope: Scope, facts: Facts, exchange: Exchange, span: OpenSpan | None = None) -> None:
        """Count and log a request that has ended, and end its span."""
        # What the app does after its reply, such as a background task, is not its client's time.
        seconds = (exchange.ended_at or monotonic()) - exchange.arrived
        route = template_of(scope, exchange.route)
        method = facts.method
        if method not in METHODS:
            method = "other"
        refusal = exchange.refusal
        control = "" if refusal is None else refusal.control
        if exchange.overridden:
            self._compare(route, exchange)
        key = (method, route, exchange.status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._durations.labels(method, route, str(exchange.status))
        child.observe(seconds)
        if control:
            self._refusals.labels(control).add(1)
        if span is not None:
            span.end(
                method=facts.method if facts.method in METHODS else "_OTHER",
                route=route,
                status=exchange.status,
                control=control,
                error=exchange.error,
            )
        if self._line is not None:
            trace_id = exchange.trace_id.decode()
            request_id = trace_id if exchange.request_id is exchange.trace_id else exchange.request_id.decode()
            self._line(
                AccessLine(  # by place: names would cost as much as the line
                    datetime.now(UTC),
                    facts.method,
                    facts.path,
                    route,
                    exchange.status,
                    seconds * 1000,
                    exchange.client,
                    request_id,
                    trace_id,
                    control,
                    exchange.bytes_out,
                )
            )

    def _compare(self, route: str, exchange: Exchange) -> None:
        """Report what of the reply's own security headers is weaker than the guard's."""
        for name, value in exchange.overridden:
            reason = weakened(self._rules, name, value)
            if reason:
                self.weakened(route, name, reason)

    def weakened(self, route: str, name: bytes, reason: str) -> None:
        """Report a reply's own security header that is weaker than the guard's: counted always, logged once a route."""
        self._weakened.labels(name.decode("latin-1")).add(1)
        known = (route, name)
        if self._log is not None and known not in self._reported and len(self._reported) < MAX_WEAKENED:
            self._reported.add(known)
            self._log.event("warning", "guard.header_weakened", route=route, header=name.decode("latin-1"), why=reason)

    def store_away(self, error: BaseException, *, admitted: bool) -> None:
        """Report that the store of the counters cannot be reached; at most once a second."""
        now = monotonic()
        if self._log is not None and now - self._store_reported >= 1:
            self._store_reported = now
            self._log.event("warning", "guard.store_away", admitted=admitted, why=str(error.__cause__ or error))

    def failed(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Note an error of the app that nobody expected."""
        exchange.error = error
        if self._log is not None:
            self._log.event(
                "error",
                "request.failed",
                method=scope["method"],
                path=scope["path"],
                request_id=exchange.request_id.decode(),
                exception=error,
            )
