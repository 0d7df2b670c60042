"""Requests that two readers could understand in two ways."""

from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import MalformedRequest, Refusal

__all__ = ["check_shape"]


def check_shape(plan: Plan, facts: Facts) -> Refusal | None:  # noqa: ARG001 - all checks have one signature
    """Refuse ambiguous framing and repeated single-valued headers.

    Threat: request smuggling, and controls that are bypassed because a proxy read the first of two headers and
        the app the last (CWE-444).
    Method: one of each header that must be single; Content-Length in digits; never both Content-Length and
        Transfer-Encoding; no control characters in the path.
    Assumes: the server has parsed the message; what it merged or dropped cannot be seen here.
    Standard: RFC 9112, sections 6.1 and 6.3; OWASP ASVS 5.0.0 V4.2.1.
    """
    if facts.duplicate:
        name = facts.duplicate.decode("latin-1")
        return Refusal("shape.duplicate_header", MalformedRequest(f"The header {name} was sent more than once."))
    length = facts.content_length
    if length is not None:
        if not length.isdigit() or len(length) > 19:
            return Refusal("shape.content_length", MalformedRequest("Content-Length is not a number."))
        if facts.chunked:
            return Refusal(
                "shape.framing", MalformedRequest("Content-Length and Transfer-Encoding exclude each other.")
            )
    if not facts.path.isprintable():
        return Refusal("shape.path", MalformedRequest("The path holds a control character."))
    return None
