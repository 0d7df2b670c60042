"""The words of ASGI 3 that the rooms share, and a reply as a value.

A refusal, a replayed reply and a health report are all decided by pure functions that return a `Reply`; one
function sends it. So nothing but the edge of a room ever touches `send`.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ASGIApp", "Headers", "Message", "Receive", "Reply", "Scope", "Send", "route_path", "send_reply"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole HTTP reply: what a room answers by itself, or what it kept of an app's answer.

    Header names are lower case, as ASGI demands. `headers` holds neither Date nor Server, which are the server's.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def route_path(scope: Scope) -> str:
    """The path as the app's router takes it.

    A server or proxy that mounts the app under a prefix says so in `root_path`, and ASGI has the prefix in `path` as
    well; routers, and so policies, are written without it.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


async def send_reply(reply: Reply, send: Send, *, head: bool = False) -> None:
    """Send `reply`. With `head`, the body is left out and its length still told (RFC 9110, section 9.3.2)."""
    headers = list(reply.headers)
    if not any(name == b"content-length" for name, _ in headers) and reply.status not in {204, 304}:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})
