"""Requests whose head alone is too large."""

from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import HeadersTooLarge, Refusal, TargetTooLong

__all__ = ["check_size"]


def check_size(plan: Plan, facts: Facts) -> Refusal | None:
    """Refuse a target or headers beyond the limits.

    Threat: memory and processor time spent on heads that no client of the service sends (CWE-400).
    Method: the sum of the bytes of all header names and values, and of path and query, against fixed limits.
    Assumes: the server bounds what it buffers itself; this bounds what reaches the app, the same on every server.
    Standard: OWASP ASVS 5.0.0 V4.2.5; RFC 6585, section 5.
    """
    if facts.target_bytes > plan.max_target_bytes:
        return Refusal("size.target", TargetTooLong(f"At most {plan.max_target_bytes} bytes are served."))
    if facts.header_bytes > plan.max_header_bytes:
        return Refusal("size.headers", HeadersTooLarge(f"At most {plan.max_header_bytes} bytes are served."))
    return None
