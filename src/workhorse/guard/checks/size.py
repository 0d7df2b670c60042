"""Requests whose head alone is too large."""

from dataclasses import dataclass

from workhorse.guard.facts import Facts
from workhorse.guard.problems import HeadersTooLarge, TargetTooLong
from workhorse.guard.verdict import Refusal

__all__ = ["SizeRules", "check_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRules:
    """The limits of a request's head."""

    target_bytes: int
    header_bytes: int
    headers: int
    """How many fields."""


def check_size(rules: SizeRules, facts: Facts) -> Refusal | None:
    """Refuse a target or headers beyond the limits.

    Threat: memory and processor time spent on heads that no client of the service sends (CWE-400).
    Method: the number of header fields, the sum of the bytes of their names and values, and of path and query,
        against fixed limits.
    Assumes: the server bounds what it buffers itself; this bounds what reaches the app, the same on every server.
    Standard: OWASP ASVS 5.0.0 V4.2.5; RFC 6585, section 5.
    """
    if facts.target_bytes > rules.target_bytes:
        return Refusal("size.target", TargetTooLong(f"At most {rules.target_bytes} bytes are served."))
    if len(facts.raw) > rules.headers:
        return Refusal("size.header_count", HeadersTooLarge(f"At most {rules.headers} header fields are served."))
    if facts.header_bytes > rules.header_bytes:
        return Refusal("size.headers", HeadersTooLarge(f"At most {rules.header_bytes} bytes are served."))
    return None
