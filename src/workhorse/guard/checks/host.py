"""Requests for a host that is not served here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import HostNotServed, MalformedRequest
from workhorse.guard.verdict import Refusal

__all__ = ["LOCAL_HOSTS", "HostRules", "check_host", "compile_host", "host_name"]

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")

# A reg-name or an IP literal as Host carries it (RFC 9110, section 7.2), in lower case, without a port.
_HOST: Final = re.compile(
    r"^(\*\.)?([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z|^\[[0-9a-f:.]+\]\Z"
)
# As it comes in, without its port and in lower case. What else ends like a listed suffix, such as
# `evil.example/.example.com`, is another host once it stands in a link.
_NAME: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]{2,45}\]").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """The hosts that are served, in lower case, without port."""

    any_host: bool
    exact: frozenset[bytes]
    suffixes: tuple[bytes, ...]
    """`.example.com` for `*.example.com`."""


def compile_host(*, allowed: Sequence[str], any_host: bool = False) -> HostRules:
    """Compile the list of hosts.

    Raises:
        SettingsError: a name is malformed.
    """
    exact: set[bytes] = set()
    suffixes: list[bytes] = []
    for name in allowed:
        host = name.lower()
        if not _HOST.match(host):
            raise SettingsError(
                f"guard.allowed_hosts has {name!r}, which is not a host name; write `api.example.com`,"
                " `*.example.com` or an address such as `[::1]`, without scheme and port"
            )
        if host.startswith("*."):
            suffixes.append(host[1:].encode())
        else:
            exact.add(host.encode())
    return HostRules(any_host=any_host, exact=frozenset(exact), suffixes=tuple(suffixes))


def check_host(rules: HostRules, facts: Facts) -> Refusal | None:
    """Refuse a Host that is not on the list.

    Threat: DNS rebinding, poisoned caches and password-reset links that point at the attacker (CWE-350, CWE-644).
    Method: the name without its port, in lower case, must be on the list or below a listed suffix.
    Assumes: proxies pass Host on, or are trusted and say it otherwise. An HTTP/2 server gives `:authority` as Host,
        as ASGI demands.
    Standard: RFC 9110, section 7.2; OWASP ASVS 5.0.0 V4.1.3; WSTG-INPV-17.
    """
    host = facts.host
    if host is None:
        if facts.http_version == "1.0" and rules.any_host:
            return None
        return Refusal("host.missing", MalformedRequest("The Host header is missing."))
    # The name as most clients send it, before anything is cut off.
    if host in rules.exact:
        return None
    name = host_name(host)
    if name in rules.exact or (rules.suffixes and name.endswith(rules.suffixes)) or (rules.any_host and name):
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
    name = name.lower().removesuffix(b".")
    return name if _NAME(name) is not None else b""
