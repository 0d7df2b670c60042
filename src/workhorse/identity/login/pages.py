"""The pages of the login as plain ASGI: what is read of a request, and what a page's answer is made of.

Starlette and FastAPI take a `LoginPage` as it is, because an endpoint that is no function is an ASGI app to them. So
nothing of a framework is imported here, and any other ASGI app finds its way by `Pages`.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode

from workhorse.asgi import Receive, Reply, Scope, Send, send_reply
from workhorse.context import RequestContext
from workhorse.identity.cookies import is_loopback
from workhorse.identity.login.problems import Stop, Stopped
from workhorse.problems import plain_problem, request_instance

__all__ = [
    "LoginPage",
    "Pages",
    "Routed",
    "continue_at",
    "header",
    "is_plain_http",
    "origin_of",
    "page_prefix",
    "read_form",
    "read_query",
    "redirect",
    "with_query",
]

MAX_QUERY_BYTES: Final = 16 * 1024
MAX_FORM_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 30
FORM_TYPE: Final = b"application/x-www-form-urlencoded"
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
NO_STORE: Final = (b"cache-control", b"no-store")

Answer = Callable[[Scope, Receive], Awaitable[Reply]]


class Routed(Protocol):
    """An app that routes can be added to, as Starlette and FastAPI."""

    def add_route(
        self,
        path: str,
        route: Any,
        methods: list[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,  # noqa: FBT001, FBT002 - the framework's words
    ) -> None:
        """Add one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoginPage:
    """One page of the login. It is an ASGI app."""

    method: str
    path: str
    """Complete, with what the app is mounted at."""
    name: str
    answer: Answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif scope["method"] != self.method:
            # HEAD neither: it would use up a code, or begin a login that nobody sees.
            refusal = plain_problem(405, headers=((b"allow", self.method.encode()),), instance=request_instance())
            await send_reply(refusal, send, head=scope["method"] == "HEAD")
        else:
            await send_reply(await self.answer(scope, receive), send)


class Pages:
    """All pages as one ASGI app, to be mounted or called by an app's own router."""

    def __init__(self, pages: Sequence[LoginPage]) -> None:
        self._pages = tuple(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; 404 for what is no page of the login."""
        if scope["type"] in {"http", "websocket"}:
            here = [page for page in self._pages if page_prefix(scope, page.path) is not None]
            if here:
                page = next((page for page in here if page.method == scope.get("method")), here[0])
                await page(scope, receive, send)
                return
        if scope["type"] == "http":
            await send_reply(plain_problem(404, instance=request_instance()), send, head=scope["method"] == "HEAD")
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})


def page_prefix(scope: Scope, path: str) -> str | None:
    """What stands before `path` where the request is for it: nothing, or the prefix of a proxy's; else None."""
    asked: str = scope["path"]
    before = asked.removesuffix(path)
    # A mount adds what it took to `root_path`, so that this may hold more than the proxy's prefix.
    root: str = scope.get("root_path", "")
    return before if before != asked and root.startswith(before) else None


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header; None if it is not there, or there more than once."""
    values = [value for key, value in scope["headers"] if key == name]
    if name == b"cookie" and values:
        return b"; ".join(values)  # HTTP/2 and 3 may cut it up (RFC 9113, section 8.2.3)
    return values[0] if len(values) == 1 else None


def origin_of(scope: Scope, *, plain: bool) -> str:
    """The origin that the browser asked, by its Host header, which the guard has checked.

    Args:
        scope: the request.
        plain: whether it does not use TLS. What a proxy took off is not seen here, and so TLS is the rule.

    Raises:
        Stopped: request: there is no host, or none that can stand in an address.
    """
    host = (header(scope, b"host") or b"").decode("latin-1")
    if _AUTHORITY.fullmatch(host) is None:
        raise Stopped(Stop.REQUEST)
    return f"{'http' if plain else 'https'}://{host}"


def is_plain_http(scope: Scope, request: RequestContext) -> bool:
    """Whether the request came from this very machine, and not over TLS."""
    tls: bool = getattr(request, "tls", scope["scheme"] == "https")
    return is_loopback(request.client) and not tls


def read_query(scope: Scope) -> Mapping[str, str]:
    """The query's parameters.

    Raises:
        Stopped: request: too many or too long, no UTF-8, or one is there twice (RFC 6749, section 3.1).
    """
    query: bytes = scope.get("query_string") or b""
    return _read_pairs(query, MAX_QUERY_BYTES)


async def read_form(scope: Scope, receive: Receive) -> Mapping[str, str]:
    """The form that is the request's body.

    Raises:
        Stopped: request: it is of another type, or as for `read_query`.
    """
    content_type = header(scope, b"content-type") or b""
    if content_type.partition(b";")[0].strip().lower() != FORM_TYPE:
        raise Stopped(Stop.REQUEST)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Stopped(Stop.REQUEST)
        body += message.get("body", b"")
        if len(body) > MAX_FORM_BYTES:
            raise Stopped(Stop.REQUEST)
        if not message.get("more_body", False):
            return _read_pairs(bytes(body), MAX_FORM_BYTES)


def _read_pairs(encoded: bytes, max_bytes: int) -> Mapping[str, str]:
    if len(encoded) > max_bytes:
        raise Stopped(Stop.REQUEST)
    try:
        pairs = parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:  # also UnicodeDecodeError
        raise Stopped(Stop.REQUEST) from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Stopped(Stop.REQUEST)
    return found


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """The address with these parameters added; what its query holds already stays (RFC 6749, section 3.1)."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def redirect(address: str, *, cookies: Iterable[bytes] = ()) -> Reply:
    """Send the browser on, with GET. Nothing keeps it, since both address and cookies are for one time."""
    headers = ((b"location", address.encode("ascii")), NO_STORE, *((b"set-cookie", line) for line in cookies))
    return Reply(status=303, headers=headers, body=b"")


def continue_at(address: str) -> Reply:
    """Send the browser on to another origin after a form.

    Not by a redirect: a browser holds those to the `form-action` of the page that the form was on, which allows this
    very origin only. A page that goes on by itself begins a navigation of its own.
    """
    page = f'<!doctype html><title>Logged out</title><p><a href="{escape(address)}">Continue</a>'
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"refresh", b"0; url=" + address.encode("ascii")),
        NO_STORE,
    )
    return Reply(status=200, headers=headers, body=page.encode())
