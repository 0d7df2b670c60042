"""Request bodies that are too large, as declared and as they come in."""

from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import BodyTooLarge, Refusal

__all__ = ["body_limit", "check_declared_body", "refuse_body"]


def body_limit(plan: Plan, facts: Facts) -> int:
    """The largest body of this request in bytes: its route's own limit, else the general one."""
    policy = plan.policies.find(facts.method, facts.route_path)
    if policy is None or policy.max_body_bytes is None:
        return plan.max_body_bytes
    return policy.max_body_bytes


def check_declared_body(plan: Plan, facts: Facts) -> Refusal | None:
    """Refuse a body whose declared length is over the limit, before a byte of it is read.

    Threat: memory filled by bodies (CWE-400, CWE-770).
    Method: Content-Length against the route's limit. A body that declares none, or lies, is counted as it comes
        (`refuse_body`).
    Assumes: `check_shape` has run, so Content-Length is a number.
    Standard: OWASP ASVS 5.0.0 V5.2.1; OWASP API4:2023.
    """
    if facts.content_length is None or facts.content_length == b"0":
        return None
    limit = body_limit(plan, facts)
    return refuse_body(limit) if int(facts.content_length) > limit else None


def refuse_body(limit: int) -> Refusal:
    """The refusal of a body of more than `limit` bytes."""
    return Refusal("body.size", BodyTooLarge(f"At most {limit} bytes are taken."))
