"""Trace context of the W3C (Level 2), and request ids: what a caller sent, judged; what is sent on, made.

`traceparent` is `version-traceid-parentid-flags`, each in lower-case hexadecimal. What is not exactly that is
treated as absent, as the recommendation asks, and the request begins a trace of its own. A header of a later version
is read for the four fields that every version keeps.

https://www.w3.org/TR/trace-context-2/
"""

# Ids must be unlikely to meet, not hard to guess: they go to every service and log, and nothing is granted by knowing
# one. The Mersenne Twister is seeded by the system, and again in a forked child; it costs a tenth of os.urandom.
import re
from random import getrandbits
from typing import Final, NamedTuple

__all__ = [
    "TraceParent",
    "accept_request_id",
    "format_traceparent",
    "new_span_id",
    "new_trace_id",
    "parse_traceparent",
    "trace_id_of",
]

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
MAX_REQUEST_ID_BYTES: Final = 128
REQUEST_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
NO_TRACE: Final = b"0" * 32
NO_SPAN: Final = b"0" * 16
HEXADECIMAL_AND_DASH: Final = b"0123456789abcdef-"
_VERSION_0: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
LENGTH: Final = 55
"""Bytes of the four fields and their dashes: all that version 00 has."""


class TraceParent(NamedTuple):
    """A caller's place in a trace.

    `flags` has only the bits that Level 2 defines: 1 sampled, 2 the trace id is random.
    """

    trace_id: bytes
    parent_id: bytes
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded the trace."""
        return bool(self.flags & SAMPLED)

    @property
    def random(self) -> bool:
        """Whether the right-most 56 bits of the trace id were chosen at random."""
        return bool(self.flags & RANDOM)


def trace_id_of(value: bytes) -> bytes | None:
    """The trace id of a `traceparent` header; None where it is malformed. Cheaper than `parse_traceparent`."""
    if _VERSION_0(value) is None:
        # A later version, or malformed.
        parent = parse_traceparent(value)
        return parent.trace_id if parent is not None else None
    return value[3:35]


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Read a `traceparent` header; None where it is malformed (W3C Trace Context Level 2, section 3.2)."""
    fields = value.split(b"-", 4)
    if len(fields) < 4 or value[:LENGTH].translate(None, HEXADECIMAL_AND_DASH):
        return None
    version, trace_id, parent_id, flags = fields[:4]
    if len(version) != 2 or len(trace_id) != 32 or len(parent_id) != 16 or len(flags) != 2:
        return None
    # A later version may append more after a dash, of which nothing is read.
    if version == b"ff" or (version == b"00" and len(value) != LENGTH) or trace_id == NO_TRACE or parent_id == NO_SPAN:
        return None
    return TraceParent(trace_id, parent_id, int(flags, 16) & (SAMPLED | RANDOM))


def format_traceparent(trace_id: bytes, span_id: bytes, *, sampled: bool, random: bool = False) -> bytes:
    """Write the `traceparent` header (version 00) for a call to another service.

    Args:
        trace_id: 32 lower-case hexadecimal digits, as `parse_traceparent` or `new_trace_id` gave them.
        span_id: 16 of them: the caller's own span, which is the parent of the callee's.
        sampled: whether the caller may have recorded the trace.
        random: whether the trace id came from `new_trace_id`, or from a caller that said it was random.
    """
    return b"00-%b-%b-%02x" % (trace_id, span_id, SAMPLED * sampled | RANDOM * random)


def new_trace_id() -> bytes:
    """Return 32 random lower-case hexadecimal digits, never all zero."""
    return b"%032x" % (getrandbits(128) or 1)


def new_span_id() -> bytes:
    """Return 16 random lower-case hexadecimal digits, never all zero."""
    return b"%016x" % (getrandbits(64) or 1)


def accept_request_id(value: bytes) -> bool:
    """Whether a caller's request id may be kept: 1 to 128 of A-Z a-z 0-9 _ - . , so that it is safe in any log."""
    return 0 < len(value) <= MAX_REQUEST_ID_BYTES and not value.translate(None, REQUEST_ID_BYTES)
