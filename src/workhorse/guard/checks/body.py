"""Request bodies that are too large, as declared and as they come in, or come too slowly."""

from dataclasses import dataclass

from workhorse.guard.facts import Facts
from workhorse.guard.problems import BodyTooLarge, BodyTooSlow
from workhorse.guard.verdict import Refusal

__all__ = ["PaceRules", "check_declared_body", "check_pace", "may_have_body", "refuse_body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceRules:
    """How fast a body must come."""

    pause_seconds: float
    """Longest wait for the next bytes."""
    bytes_per_second: int
    """Least rate, once the first pause's time is over; 0: none."""


def may_have_body(facts: Facts) -> bool:
    """Whether a body follows, as far as the head tells."""
    length = facts.headers.get(b"content-length")
    if length is not None:
        return length != b"0"
    # HTTP/1 announces a body by one of two headers (RFC 9112, section 6.3); HTTP/2 just sends it.
    return facts.chunked or facts.http_version[0] != "1"


def check_declared_body(limit: int, facts: Facts) -> Refusal | None:
    """Refuse a body whose declared length is over the limit in bytes, before a byte of it is read.

    Threat: memory filled by bodies (CWE-400, CWE-770).
    Method: Content-Length against the route's limit. A body that declares none, or lies, is counted as it comes
        (`refuse_body`).
    Assumes: `check_shape` has run, so Content-Length is a number.
    Standard: OWASP ASVS 5.0.0 V5.2.1; OWASP API4:2023.
    """
    length = facts.headers.get(b"content-length")
    return refuse_body(limit) if length is not None and int(length) > limit else None


def check_pace(rules: PaceRules, *, received: int, waited_seconds: float, pause_seconds: float) -> Refusal | None:
    """Refuse a body that comes too slowly.

    Threat: connections and memory held by clients that send a byte now and then (slow POST, R.U.D.Y.; CWE-400).
    Method: the pause since the last bytes, and the rate over the time that was spent waiting for the client, since it
        was last found to be fast enough. The time that the app takes between two reads is not the client's.
    Assumes: the server bounds the time of the head.
    Standard: OWASP ASVS 5.0.0 V15.2.2; CIS controls on time-outs (mod_reqtimeout's MinRate is the model).

    Args:
        rules: the limits.
        received: bytes since the rate was last judged.
        waited_seconds: the time waited for the client since then, this pause included.
        pause_seconds: the time waited since the last bytes came.
    """
    if pause_seconds > rules.pause_seconds:
        return Refusal("body.pause", BodyTooSlow(f"No bytes came for {rules.pause_seconds:g} seconds."))
    if waited_seconds > rules.pause_seconds and received < waited_seconds * rules.bytes_per_second:
        return Refusal("body.rate", BodyTooSlow(f"At least {rules.bytes_per_second} bytes a second are expected."))
    return None


def refuse_body(limit: int) -> Refusal:
    """The refusal of a body of more than `limit` bytes."""
    return Refusal("body.size", BodyTooLarge(f"At most {limit} bytes are taken."))
