"""What is known of a request before its body is read: taken from the scope in one pass, and then only read.

The checks see facts, never the scope. So a check cannot overlook a second Host header, read a header that a proxy
may have forged, or be confused by case: that is settled here and in `checks.proxies`, which is asked first and is the
only one that writes.
"""

from typing import Final
from urllib.parse import quote

from workhorse.asgi import Scope, route_path

__all__ = ["SINGLE_VALUED", "Facts", "read_facts"]

# Two of one of these would let two readers of the request each believe another one (CWE-444).
SINGLE_VALUED: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"authorization",
        b"x-api-key",
        b"x-csrf-token",
        b"idempotency-key",
        b"origin",
        b"traceparent",
        b"sec-fetch-site",
    }
)


class Facts:
    """One request, from an `http` or `websocket` scope (ASGI 3: header names come in lower case)."""

    __slots__ = (
        "chunked",
        "client",
        "duplicate",
        "header_bytes",
        "headers",
        "host",
        "http_version",
        "method",
        "path",
        "peer",
        "query",
        "raw",
        "raw_path",
        "route_path",
        "target_bytes",
        "tls",
        "trusted",
    )

    def __init__(self, scope: Scope) -> None:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        self.raw = raw
        """The header fields as they came, names in lower case."""
        headers: dict[bytes, bytes] = {}
        size = 0
        for name, value in raw:
            size += len(name) + len(value)
            headers[name] = value
        self.headers = headers
        """The last value of each header; the only one for those that are single-valued."""
        self.header_bytes = size
        """The bytes of all names and values."""
        self.duplicate = _first_duplicate(raw) if len(headers) != len(raw) else b""
        """A single-valued header that came more than once; empty if none did."""
        self.method: str = scope.get("method", "GET")
        """A WebSocket's handshake is a GET."""
        self.path: str = scope["path"]
        """Decoded."""
        raw_path: bytes | None = scope.get("raw_path")
        self.raw_path: bytes = raw_path if raw_path is not None else quote(self.path).encode()
        """As it came, without the query; where the server does not tell, escaped anew from `path`."""
        self.query: bytes = scope.get("query_string", b"")
        """As it came."""
        self.route_path = route_path(scope) if scope.get("root_path") else self.path
        """The path as the app's router sees it, without `root_path`."""
        self.target_bytes = len(self.raw_path) + len(self.query)
        self.http_version: str = scope.get("http_version", "1.1")
        self.chunked = b"transfer-encoding" in headers
        self.host = headers.get(b"host")
        """The host that the client asked for: the Host header, or what a trusted proxy says of it."""
        self.tls: bool = scope.get("scheme", "http") in {"https", "wss"}
        """Whether the client speaks TLS, to this server or to a trusted proxy."""
        peer = scope.get("client")
        self.peer: str = peer[0] if peer else ""
        """The address at the other end of the connection; empty where the server does not know it."""
        self.client = self.peer
        """The sender's address: the peer's, or what trusted proxies say of it."""
        self.trusted = False
        """Whether the peer is a trusted proxy."""


def read_facts(scope: Scope) -> Facts:
    """Read the facts of a scope."""
    return Facts(scope)


def _first_duplicate(headers: list[tuple[bytes, bytes]]) -> bytes:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in SINGLE_VALUED and name in seen:
            return name
        seen.add(name)
    return b""
