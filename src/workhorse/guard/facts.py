"""What is known of a request before its body is read: taken from the scope in one pass, and then only read.

The checks see facts, never the scope. So a check cannot overlook a second Host header, read a header that a proxy
may have forged, or be confused by case: that is settled here.
"""

from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Scope, route_path

__all__ = ["SINGLE_VALUED", "Facts", "read_facts"]

# Two of one of these would let two readers of the request each believe another one (CWE-444).
SINGLE_VALUED: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"authorization",
        b"idempotency-key",
        b"origin",
        b"traceparent",
        b"sec-fetch-site",
    }
)


@dataclass(slots=True)
class Facts:
    """One request. `None` stands for a header that is not there."""

    method: str
    path: str
    target_bytes: int
    header_bytes: int
    host: bytes | None
    content_length: bytes | None
    chunked: bool
    duplicate: bytes
    """A single-valued header that came more than once; empty if none did."""
    http_version: str
    tls: bool
    traceparent: bytes | None
    request_id: bytes | None
    route_path: str
    """The path as the app's router sees it, without `root_path`."""
    client: str
    """The peer's address; empty where the server does not know it."""


def read_facts(scope: Scope) -> Facts:
    """Read the facts of an `http` scope (ASGI 3: header names come in lower case)."""
    raw: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(raw)
    duplicate = _first_duplicate(raw) if len(headers) != len(raw) else b""
    peer = scope.get("client")
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    get = headers.get
    return Facts(
        method=scope["method"],
        path=scope["path"],
        target_bytes=len(raw_path) + len(scope["query_string"]),
        header_bytes=sum([len(name) + len(value) for name, value in raw]),
        host=get(b"host"),
        content_length=get(b"content-length"),
        chunked=b"transfer-encoding" in headers,
        duplicate=duplicate,
        http_version=scope["http_version"],
        tls=scope.get("scheme") == "https",
        traceparent=get(b"traceparent"),
        request_id=get(b"x-request-id"),
        route_path=route_path(scope),
        client=peer[0] if peer else "",
    )


def _first_duplicate(headers: list[tuple[bytes, bytes]]) -> bytes:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in SINGLE_VALUED and name in seen:
            return name
        seen.add(name)
    return b""
