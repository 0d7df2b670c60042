"""A span per request for OpenTelemetry, when the app has set its SDK up. Without it, none of this is imported.

The attributes follow OpenTelemetry's semantic conventions for HTTP servers (stable, 1.23). The path goes in without its
query, which may hold anything; the client's address does not go in, because it is personal data and a trace is kept
where the log's rules do not reach.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["OpenSpan", "Spans", "find_spans"]

NAME: Final = "workhorse"
ERROR_STATUS: Final = 500


class OpenSpan:
    """The span of one request under way."""

    __slots__ = ("_context", "_span", "_token", "_trace", "trace_id")

    def __init__(self, span: Any, trace: Any, context: Any) -> None:
        self._span = span
        self._trace = trace
        self._context = context
        self._token = context.attach(trace.set_span_in_context(span))
        self.trace_id = b"%032x" % span.get_span_context().trace_id
        """As W3C Trace Context writes it."""

    def end(self, *, method: str, route: str, status: int, control: str, error: BaseException | None) -> None:
        """End the span with what became of the request."""
        span = self._span
        self._context.detach(self._token)
        if span.is_recording():
            if route:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if control:
                span.set_attribute("workhorse.control", control)
            if error is not None:
                # Its type only: the text of an exception may hold anything.
                span.set_attribute("error.type", type(error).__qualname__)
            elif status >= ERROR_STATUS:
                span.set_attribute("error.type", str(status))
            if error is not None or status >= ERROR_STATUS:
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()


class Spans:
    """Begins spans with the provider that the app has set."""

    def __init__(self, trace: Any, context: Any, propagator: Any) -> None:
        self._trace = trace
        self._context = context
        self._propagator = propagator
        self._tracer = trace.get_tracer(NAME)

    def begin(self, *, method: str, path: str, scheme: str, host: str, headers: Mapping[bytes, bytes]) -> OpenSpan:
        """Begin the span of a request, as a child of the caller's if it named one."""
        carrier = {
            name.decode(): headers[name].decode("latin-1")
            for name in (b"traceparent", b"tracestate")
            if name in headers
        }
        parent = self._propagator.extract(carrier) if carrier else None
        attributes = {"http.request.method": method, "url.path": path, "url.scheme": scheme}
        if host:
            attributes["server.address"] = host
        span = self._tracer.start_span(method, context=parent, kind=self._trace.SpanKind.SERVER, attributes=attributes)
        return OpenSpan(span, self._trace, self._context)


def find_spans() -> Spans | None:
    """What begins spans; None while no provider of OpenTelemetry's SDK is set.

    Cheap while the SDK is not even imported; ask again when it may have been set up since.
    """
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    # Only here, because an app that does not trace must not pay for the import.
    from opentelemetry import context, trace  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    provider = trace.get_tracer_provider()
    if type(provider).__module__.startswith("opentelemetry.trace"):  # the API's own, which does nothing
        return None
    return Spans(trace, context, TraceContextTextMapPropagator())
