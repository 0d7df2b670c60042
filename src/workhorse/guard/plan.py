"""The guard's settings, compiled once into bytes, sets and tuples, so that a request costs only look-ups.

Whatever can be wrong with a setting is found here, when the service starts, and never while it serves.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Headers
from workhorse.errors import SettingsError
from workhorse.policy import Policy, PolicyTable
from workhorse.settings import GuardSettings

__all__ = ["LOCAL_HOSTS", "Plan", "compile_plan"]

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")

# A reg-name or an IP literal as Host carries it (RFC 9110, section 7.2), in lower case, without a port.
_HOST: Final = re.compile(
    r"^(\*\.)?([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$|^\[[0-9a-f:.]+\]$"
)

# OWASP ASVS 5.0.0, chapter 3.4, and the OWASP HTTP Headers cheat sheet.
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"x-frame-options", b"DENY"),
)
# A JSON reply is data: nothing in it may load, run or be framed.
_CSP_DATA: Final = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
# A page may use its own origin's files, and no inline script.
_CSP_PAGE: Final = (
    b"content-security-policy",
    b"default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the guard looks up while it serves. Made by `compile_plan`."""

    any_host: bool
    hosts: frozenset[bytes]
    """Host names served, lower case, without port."""
    host_suffixes: tuple[bytes, ...]
    """`.example.com` for `*.example.com`."""
    max_body_bytes: int
    max_header_bytes: int
    max_target_bytes: int
    policies: PolicyTable
    data_headers: Headers
    """What a reply that is no page gets over plain HTTP."""
    data_headers_tls: Headers
    page_headers: Headers
    page_headers_tls: Headers
    owned: frozenset[bytes]
    """The names of all of these: a reply that has one of them keeps its own."""


def compile_plan(settings: GuardSettings, policies: Iterable[Policy] = (), *, local_hosts: bool = True) -> Plan:
    """Compile `settings` and `policies`.

    Args:
        settings: the guard's settings.
        policies: the routes that differ from the settings.
        local_hosts: serve this machine's own names where `allowed_hosts` is empty. Never in production.

    Raises:
        SettingsError: a host name or a policy is malformed.
    """
    names = settings.allowed_hosts or (LOCAL_HOSTS if local_hosts else ())
    exact: set[bytes] = set()
    suffixes: list[bytes] = []
    for name in names:
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
    hsts = [(b"strict-transport-security", b"max-age=%d; includeSubDomains" % settings.hsts_seconds)]
    tls = hsts if settings.hsts_seconds else []
    data, page = [*_ALWAYS, _CSP_DATA], [*_ALWAYS, _CSP_PAGE]
    return Plan(
        any_host=settings.insecure_any_host,
        hosts=frozenset(exact),
        host_suffixes=tuple(suffixes),
        max_body_bytes=settings.max_body_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_target_bytes=settings.max_target_bytes,
        policies=PolicyTable(policies),
        data_headers=data,
        data_headers_tls=data + tls,
        page_headers=page,
        page_headers_tls=page + tls,
        owned=frozenset(name for name, _ in [*data, *hsts]),
    )
