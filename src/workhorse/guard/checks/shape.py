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
        Transfer-Encoding; no other transfer coding than chunked. The connection is closed after a refusal.
    Assumes: the server has parsed the message; what it merged or dropped cannot be seen here.
    Standard: RFC 9112, sections 6.1 and 6.3; OWASP ASVS 5.0.0 V4.2.1.
    """
    if facts.duplicate:
        name = facts.duplicate.decode("latin-1")
        return _refuse("duplicate_header", f"The header {name} was sent more than once.", facts)
    length = facts.headers.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 19:
            return _refuse("content_length", "Content-Length is not a number.", facts)
        if facts.chunked:
            return _refuse("framing", "Content-Length and Transfer-Encoding exclude each other.", facts)
    elif facts.chunked and facts.headers[b"transfer-encoding"].strip().lower() != b"chunked":
        return _refuse("transfer_coding", "The only transfer coding that is taken is chunked.", facts)
    return None


def _refuse(control: str, detail: str, facts: Facts) -> Refusal:
    # What follows on the connection may be the rest of this request, for another reader: nobody reads on.
    headers = ((b"connection", b"close"),) if facts.http_version.startswith("1") else ()
    return Refusal(f"shape.{control}", MalformedRequest(detail, headers=headers))
