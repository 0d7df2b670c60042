"""Heads of requests: too much of them, hosts that are not ours, paths out of the folder, and line ends in values."""

from typing import Final

from attack.checks import Attack, Checks
from attack.hostile.shapes import REFUSED, Shape, run_shapes
from attack.target import Target
from attack.wire import Conversation

__all__ = ["BOMBS", "HOSTS", "INJECTION", "METHODS", "TRAVERSAL"]

GET: Final = b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}"
EVIL: Final = "evil.example"
SERVED: Final = frozenset({200})
TRAVERSALS: Final = (
    b"/../../../../../../etc/passwd",
    b"/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    b"/..%2f..%2f..%2f..%2fetc/passwd",
    b"/%252e%252e/%252e%252e/etc/passwd",
    b"/..;/..;/..;/etc/passwd",
    b"/..\\..\\..\\etc\\passwd",
    b"/..%5c..%5c..%5cetc%5cpasswd",
    b"/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    b"/page.svg/../../../../etc/passwd",
    b"//etc/passwd",
    b"/./././etc/passwd",
    b"/page.svg%00.html",
    b"/%2fetc%2fpasswd",
    b"/file:///etc/passwd",
    b"/docs/..%00/etc/passwd",
)


def _no_secret(seen: Conversation) -> str:
    return "the file is there" if b"root:" in seen.replies[0].body else ""


def _no_evil(seen: Conversation) -> str:
    return f"the reply names {EVIL}" if EVIL.encode() in seen.raw.lower() else ""


def _no_cookie(seen: Conversation) -> str:
    reply = seen.replies[0]
    return "a header was injected" if reply.header("set-cookie") or reply.header("x-injected") else ""


def _bodyless(seen: Conversation) -> str:
    return "a reply to HEAD has a body" if not seen.raw.endswith(b"\r\n\r\n") else ""


def _no_echo(seen: Conversation) -> str:
    return "the request is sent back, credentials and all" if b"x-secret-probe" in seen.raw.lower() else ""


BOMB_SHAPES: Final = (
    Shape(name="one header of 1 MB", data=GET + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    Shape(name="one header of 40 kB", data=GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n"),
    Shape(name="120 headers", data=GET + b"".join(b"X-%d: a\r\n" % n for n in range(120)) + b"\r\n"),
    Shape(name="20,000 headers", data=GET + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n"),
    Shape(name="headers without end", data=[GET, *[b"X: " + b"a" * 60_000 + b"\r\n"] * 400], seconds=15.0),
    Shape(name="a header's name of 100 kB", data=GET + b"a" * 100_000 + b": x\r\n\r\n"),
    Shape(name="a target of 100 kB", data=b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    Shape(name="a target of 9 kB", data=b"GET /page.svg?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n"),
    Shape(name="a method of 100 kB", data=b"G" * 100_000 + b" / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    Shape(name="a cookie of 60 kB", data=GET + b"Cookie: " + b"a=b; " * 12_000 + b"\r\n\r\n"),
    Shape(name="line ends without end", data=[b"\r\n" * 30_000] * 400, seconds=15.0),
)

HOST_SHAPES: Final = (
    Shape(name="another host", data=b"GET / HTTP/1.1\r\nHost: evil.example\r\n{auth}\r\n", also=_no_evil),
    Shape(name="no host", data=b"GET / HTTP/1.1\r\n{auth}\r\n"),
    Shape(name="an empty host", data=b"GET / HTTP/1.1\r\nHost:\r\n{auth}\r\n"),
    Shape(name="two hosts", data=b"GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n{auth}\r\n", also=_no_evil),
    Shape(name="a host with a user", data=b"GET / HTTP/1.1\r\nHost: {host}@evil.example\r\n{auth}\r\n", also=_no_evil),
    Shape(
        name="a host with a path", data=b"GET / HTTP/1.1\r\nHost: evil.example/.localhost\r\n{auth}\r\n", also=_no_evil
    ),
    Shape(name="a host of the machine's inside", data=b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n{auth}\r\n"),
    Shape(
        name="a target of another host", data=b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n{auth}\r\n"
    ),
    Shape(
        name="a target of another host, and ours as Host",
        data=b"GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        # The target's host should count (RFC 9112, section 3.2.2). Where Host does, it is ours that counts.
        allowed=REFUSED | SERVED,
        also=_no_evil,
    ),
    Shape(
        name="a forwarded host of a stranger's",
        data=b"GET /accounts/ HTTP/1.1\r\nHost: {host}\r\n{auth}X-Forwarded-Host: evil.example\r\n"
        b"Forwarded: for=1.2.3.4;host=evil.example\r\n\r\n",
        allowed=REFUSED | {200, 307, 308},
        also=_no_evil,
        silent=False,
    ),
)

TRAVERSAL_SHAPES: Final = tuple(
    Shape(
        name=path.decode("latin-1"),
        data=b"GET " + path + b" HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        also=_no_secret,
        silent=False,
    )
    for path in TRAVERSALS
)

INJECTION_SHAPES: Final = (
    Shape(
        name="line ends in the path",
        data=b"GET /go%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        also=_no_cookie,
    ),
    Shape(
        name="line ends in the query",
        data=b"GET /go?to=/x%0d%0aX-Injected:%20a HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        also=_no_cookie,
    ),
    Shape(
        name="line ends as characters beyond ASCII",
        data=b"GET /accounts/%E5%98%8A%E5%98%8DX-Injected:a HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        also=_no_cookie,
    ),
    Shape(
        name="a bare line feed in the request id",
        data=GET + b"X-Request-Id: a\nX-Injected: b\r\n\r\n",
        allowed=REFUSED | SERVED,
        also=_no_cookie,
    ),
    Shape(
        name="a request id that is none",
        data=GET + b"X-Request-Id: a b<script>\r\n\r\n",
        allowed=SERVED,
        also=lambda seen: "the request id is sent back" if b"<script>" in seen.raw else "",
        silent=False,
    ),
)

METHOD_SHAPES: Final = (
    *(
        Shape(
            name=method.decode(),
            data=method + b" / HTTP/1.1\r\nHost: {host}\r\nX-Secret-Probe: 1\r\n\r\n",
            also=_no_echo,
        )
        for method in (b"TRACE", b"TRACK", b"DEBUG", b"get", b"FOO", b"PROPFIND", b"PRI")
    ),
    Shape(name="CONNECT", data=b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
    Shape(name="a method in a header", data=GET + b"X-HTTP-Method-Override: DELETE\r\n\r\n"),
    Shape(name="a method with a tab", data=b"GET\t/page.svg HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    Shape(name="DELETE of a page", data=b"DELETE /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n"),
    Shape(
        name="HEAD has no body",
        data=b"HEAD /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n",
        allowed=SERVED | {405},
        also=_bodyless,
        head=True,
        silent=False,
    ),
    Shape(
        name="an unknown Expect",
        data=GET.replace(b"GET", b"POST") + b"Expect: nonsense\r\nContent-Length: 0\r\n\r\n",
        allowed=REFUSED | {417},
    ),
    Shape(
        name="an upgrade to what is not spoken",
        data=GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        allowed=REFUSED | SERVED,
    ),
)


async def bombs(target: Target) -> Checks:
    """Send heads that are too large."""
    return await run_shapes(target, BOMB_SHAPES)


async def hosts(target: Target) -> Checks:
    """Ask for hosts that are not ours."""
    return await run_shapes(target, HOST_SHAPES)


async def traversal(target: Target) -> Checks:
    """Ask for files out of the folder."""
    return await run_shapes(target, TRAVERSAL_SHAPES)


async def injection(target: Target) -> Checks:
    """Send line ends where values are."""
    return await run_shapes(target, INJECTION_SHAPES)


async def methods(target: Target) -> Checks:
    """Use methods that nothing here answers."""
    return await run_shapes(target, METHOD_SHAPES)


BOMBS: Final = Attack(name="bombs", threat="memory and time for heads that no client sends (CWE-400)", run=bombs)
HOSTS: Final = Attack(name="hosts", threat="rebound DNS, poisoned caches and links (CWE-644)", run=hosts)
TRAVERSAL: Final = Attack(name="traversal", threat="files out of their folder (CWE-22)", run=traversal)
INJECTION: Final = Attack(name="injection", threat="reply headers of the attacker's own (CWE-113)", run=injection)
METHODS: Final = Attack(name="methods", threat="rules by method that a word passes (CWE-650, CWE-749)", run=methods)
