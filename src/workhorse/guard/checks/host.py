"""Requests for a host that is not served here."""

from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import HostNotServed, MalformedRequest, Refusal

__all__ = ["check_host", "host_name"]


def check_host(plan: Plan, facts: Facts) -> Refusal | None:
    """Refuse a Host that is not on the list.

    Threat: DNS rebinding, poisoned caches and password-reset links that point at the attacker (CWE-350, CWE-644).
    Method: the name without its port, in lower case, must be on the list or below a listed suffix.
    Assumes: proxies pass Host on. An HTTP/2 server gives `:authority` as Host, as ASGI demands.
    Standard: RFC 9110, section 7.2; OWASP ASVS 5.0.0 V4.1.3; WSTG-INPV-17.
    """
    if facts.host is None:
        if facts.http_version == "1.0" and plan.any_host:
            return None
        return Refusal("host.missing", MalformedRequest("The Host header is missing."))
    if plan.any_host:
        return None
    name = host_name(facts.host)
    if name in plan.hosts or (plan.host_suffixes and name.endswith(plan.host_suffixes)):
        return None
    return Refusal("host.not_served", HostNotServed())


def host_name(host: bytes) -> bytes:
    """The name in a Host header: without the port, in lower case, without the root's dot.

    What is not a host and an optional port gives an empty name, which no list holds.
    """
    name, colon, port = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        name = host
    elif not port.isdigit() and port:
        return b""
    return name.lower().removesuffix(b".")
