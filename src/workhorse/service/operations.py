"""The operator's endpoints: `/-/live`, `/-/ready`, `/-/metrics`.

They stand before the guard, because a probe comes with the pod's address as its Host, and they are neither logged
nor counted. `live` says that the process can answer at all. `ready` says whether it should be sent requests: not
while it starts, not while it drains, not while the database is away. Metrics tell an attacker much, so they are only
for those who ask directly from a listed network, or who have the token; anyone else is told that there is nothing.

A browser on a listed machine asks from its network, too, for whatever page it shows. A page of another site can have
its own name resolved to this machine (DNS rebinding), and would then read the metrics as its own; but the browser still
says that name as the Host. So who comes without the token must ask for an address, or for a name that nobody can own.
"""

import hmac
import re
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

import msgspec

from workhorse.asgi import Reply, Scope
from workhorse.errors import SettingsError
from workhorse.problems import plain_problem

__all__ = [
    "Phase",
    "Probe",
    "is_operational",
    "live_reply",
    "may_read_metrics",
    "metrics_reply",
    "parse_networks",
    "ready_reply",
]

PREFIX: Final = "/-/"

# A proxy that forwards a request says so in one of these; then the peer's address is not the asker's.
_FORWARDED: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})

# Names that the public DNS never resolves (RFC 6761, RFC 6762, RFC 8375, RFC 9476, ICANN's .internal), or that only a
# cluster does. A name without a dot is of this kind, too.
_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal", ".svc", ".test", ".home.arpa", ".alt")

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def is_operational(scope: Scope) -> bool:
    """Whether this is a request of the operator's, by its path as it came too: the guard sees all that is escaped."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].startswith(PREFIX) and (raw is None or raw.startswith(PREFIX.encode()))


class Phase(StrEnum):
    """Where the service is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    """Requests are still answered, and the load balancer is asked to send no more."""
    STOPPED = "stopped"


class Probe(NamedTuple):
    """What `/-/ready` looked at."""

    phase: Phase
    app: bool
    """Whether the app's own lifespan is as it was when it started."""
    database: bool
    audit: bool | None = None
    """Whether this process's sealer keeps up with the journal; None: it has none."""


def live_reply() -> Reply:
    """200, always: a process that cannot answer does not."""
    return Reply(status=200, headers=((b"content-type", b"application/json"), *_HEADERS), body=b'{"status":"live"}')


def ready_reply(probe: Probe) -> Reply:
    """200 if requests should be sent here, else 503, with what is missing."""
    ready = probe.phase is Phase.SERVING and probe.app and probe.database and probe.audit is not False
    facts = {
        "status": "ready" if ready else "not ready",
        "phase": probe.phase.value,
        "app": probe.app,
        "database": probe.database,
    }
    if probe.audit is not None:
        facts["audit"] = probe.audit
    body = msgspec.json.encode(facts)
    return Reply(status=200 if ready else 503, headers=((b"content-type", b"application/json"), *_HEADERS), body=body)


def metrics_reply(text: bytes) -> Reply:
    """The metrics in Prometheus' text format 0.0.4."""
    return Reply(
        status=200, headers=((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"), *_HEADERS), body=text
    )


def nothing_here() -> Reply:
    """404, the same for what does not exist and for what is not for this asker."""
    return plain_problem(404, headers=_HEADERS[1:])


def parse_networks(networks: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read network prefixes.

    Raises:
        SettingsError: one is malformed.
    """
    parsed: list[IPv4Network | IPv6Network] = []
    for network in networks:
        try:
            parsed.append(ip_network(network))
        except ValueError as error:
            raise SettingsError(
                f"operations.metrics_networks has {network!r}: {error}; write for example 10.0.0.0/8"
            ) from None
    return tuple(parsed)


def may_read_metrics(scope: Scope, networks: Sequence[IPv4Network | IPv6Network], token: str | None) -> bool:
    """Whether this asker may read the metrics: by token from anywhere, or directly from a listed network.

    Threat: a page of another site that reads them through a browser in a listed network (CWE-350).
    Method: without the token, Host must be an address, or a name that is nobody's.
    """
    forwarded = False
    hosts: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"authorization" and token and hmac.compare_digest(value, b"Bearer " + token.encode()):
            return True
        if name == b"host":
            hosts.append(value)
        forwarded = forwarded or name in _FORWARDED
    client = scope.get("client")
    if forwarded or not client or len(hosts) != 1 or not _is_nobodys(hosts[0].decode("latin-1")):
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    return any(address in network for network in networks)


def _is_nobodys(host: str) -> bool:
    """Whether a Host, with its port or without, is an address, or a name that no site can have."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?", host)
    name = bracketed[1] if bracketed is not None else host.partition(":")[0]
    name = name.lower().removesuffix(".")
    try:
        ip_address(name)
    except ValueError:
        return re.fullmatch(r"[a-z0-9_-]+", name) is not None or name.endswith(_PRIVATE_NAMES)
    return True
