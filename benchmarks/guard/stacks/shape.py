"""The least that any guard of this kind costs: what one must do around the checks, and no check.

It reads the header fields once into a dict, keeps an object of the request where the app finds it, sends the same
headers as our guard with each reply, counts and notes each request for a log that is never written. So what our guard
costs beyond it is what the checks cost; and what it costs beyond nothing on a server is mostly the server's, for the
headers.
"""

from collections import deque
from collections.abc import Awaitable
from contextvars import ContextVar
from time import monotonic
from typing import Final

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Shape"]

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
    (b"strict-transport-security", b"max-age=63072000; includeSubDomains"),
    (b"cache-control", b"no-store"),
    (b"access-control-allow-origin", b"https://app.example.com"),
    (b"access-control-allow-credentials", b"true"),
    (b"vary", b"Origin"),
    (b"ratelimit-policy", b'"caller";q=100000000;w=60'),
    (b"ratelimit", b'"caller";r=99999999;t=1'),
)
"""As many and as long as those of our guard."""
NOTED: Final = 1_000

_CURRENT: Final[ContextVar["Request"]] = ContextVar("benchmark_request")


class Request:
    """One request and its reply."""

    __slots__ = ("_send", "arrived", "headers", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self.arrived = monotonic()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.status = 0

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, with the headers on the reply's start."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = (b"x-request-id", self.headers[b"traceparent"][3:35])
            return self._send({**message, "headers": [*message["headers"], *HEADERS, named]})
        return self._send(message)


class Shape:
    """A layer of pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._noted: deque[tuple[str, int, float]] = deque(maxlen=NOTED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, send)
        token = _CURRENT.set(request)
        try:
            await self._app(scope, receive, request.send)
        finally:
            _CURRENT.reset(token)
            self._noted.append((scope["path"], request.status, monotonic() - request.arrived))
