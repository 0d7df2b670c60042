"""Requests that two readers could understand in two ways."""

from workhorse.guard.facts import Facts
from workhorse.guard.problems import MalformedRequest
from workhorse.guard.verdict import Refusal

__all__ = ["check_shape"]


def check_shape(facts: Facts) -> Refusal | None:
    """Refuse ambiguous framing and repeated single-valued headers.

    Threat: request smuggling, and controls that are bypassed because a proxy read the first of two headers and
        the app the last (CWE-444).
    Method: one of each header that must be single; Content-Length in digits; never both Content-Length and
        Transfer-Encoding; no other transfer coding than chunked.
    Assumes: the server has parsed the message; what it merged or dropped cannot be seen here.
    Standard: RFC 9112, sections 6.1 and 6.3; OWASP ASVS 5.0.0 V4.2.1.
    """
    if facts.duplicate:
        name = facts.duplicate.decode("latin-1")
        return Refusal("shape.duplicate_header", MalformedRequest(f"The header {name} was sent more than once."))
    length = facts.headers.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 19:
            return Refusal("shape.content_length", MalformedRequest("Content-Length is not a number."))
        if facts.chunked:
            return Refusal(
                "shape.framing", MalformedRequest("Content-Length and Transfer-Encoding exclude each other.")
            )
    elif facts.chunked and facts.headers[b"transfer-encoding"].strip().lower() != b"chunked":
        return Refusal("shape.transfer_coding", MalformedRequest("The only transfer coding that is taken is chunked."))
    return None
