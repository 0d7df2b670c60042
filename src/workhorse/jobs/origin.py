"""Who enqueued a job, and in which trace: kept with the job, and given to it as its own context.

The caller's identity goes along, and what it may do does not: hours later its rights may have been taken away, and a
job does what its code says, not what its caller may.
"""

from typing import Final
from uuid import UUID

import msgspec

from workhorse.context import CURRENT, RequestContext
from workhorse.principal import ANONYMOUS, Kind, Principal
from workhorse.telemetry.trace import new_trace_id

__all__ = ["Origin", "context_of", "current_origin"]

MAX_TEXT: Final = 200


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of whoever enqueued a job."""

    trace: str = ""
    subject: str = ""
    issuer: str = ""
    tenant: str = ""
    kind: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Origin).decode


def current_origin() -> msgspec.Raw | None:
    """The origin of what is enqueued here and now."""
    request = CURRENT.get(None)
    if request is None:
        return None
    principal = request.principal
    origin = Origin(trace=request.trace_id.decode("latin-1"))
    if principal.is_authenticated:
        origin = Origin(
            trace=origin.trace,
            subject=_storable(principal.subject),
            issuer=_storable(principal.issuer),
            tenant=_storable(principal.tenant),
            kind=principal.kind.value,
        )
    return msgspec.Raw(_encode(origin))


def _storable(text: str) -> str:
    """As Postgres can keep it, whatever an issuer put into it: it must not undo the unit of who enqueues."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def context_of(job: UUID, encoded: str | None, *, deadline: float) -> RequestContext:
    """The context that a job runs in. It has the trace and the caller of its origin, but none of the caller's scopes.

    Args:
        job: its id, which stands for the request's.
        encoded: the origin as it was kept.
        deadline: when the attempt must have ended, on the clock of `time.monotonic`.
    """
    context = RequestContext()
    context.deadline = deadline
    context.request_id = job.hex.encode()
    if encoded is None:
        context.trace_id = new_trace_id()
        return context
    origin = _decode(encoded)
    context.trace_id = origin.trace.encode("latin-1") or new_trace_id()
    context.principal = ANONYMOUS
    if origin.kind:
        context.principal = Principal(
            subject=origin.subject, issuer=origin.issuer, tenant=origin.tenant, kind=Kind(origin.kind)
        )
    return context
