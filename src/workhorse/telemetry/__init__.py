"""What the process tells of itself: a structured log, metrics over all workers, trace context, and redaction.

`Log` and `Registry` are made by whoever composes the process, and passed to those who use them; there is no global
one. To import this package starts nothing.
"""

from workhorse.telemetry.exposition import CONTENT_TYPE
from workhorse.telemetry.lines import AccessLine, Level
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import DEFAULT_SECONDS, Counter, Family, Gauge, Histogram, Registry
from workhorse.telemetry.redaction import redact_mapping, redact_text, redact_url
from workhorse.telemetry.stdlib_handler import StdlibHandler
from workhorse.telemetry.trace import (
    TraceParent,
    accept_request_id,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)

__all__ = [
    "CONTENT_TYPE",
    "DEFAULT_SECONDS",
    "AccessLine",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Level",
    "Log",
    "Registry",
    "StdlibHandler",
    "TraceParent",
    "accept_request_id",
    "format_traceparent",
    "new_span_id",
    "new_trace_id",
    "parse_traceparent",
    "redact_mapping",
    "redact_text",
    "redact_url",
]
