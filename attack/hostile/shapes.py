"""Single hostile requests: what is sent, and what may come back.

A shape fails where the reply is another than one of those that are allowed, or where the server answered more requests
than there were. `SMUGGLED` is a request for a page hidden in another request's body: whoever answers it has cut the
bytes elsewhere than the sender's proxy would.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from attack.checks import Check, Checks, shown
from attack.target import Target
from attack.wire import Conversation, talk

__all__ = ["REFUSED", "SMUGGLED", "Shape", "good_request", "run_shapes"]

REFUSED: Final = frozenset({400, 404, 405, 411, 413, 414, 415, 421, 422, 431, 501, 505})
AT_ONCE: Final = 8
SMUGGLED: Final = b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One hostile request."""

    name: str
    data: bytes | Sequence[bytes]
    """`{host}` stands for the target's authority, `{auth}` for its credentials' header lines."""
    allowed: frozenset[int] = REFUSED
    """Statuses that may come back. A connection that is closed without a word is always allowed."""
    silent: bool = True
    """Whether no reply at all is allowed."""
    also: Callable[[Conversation], str] | None = None
    """A further look, which returns what is wrong."""
    head: bool = False
    half_close: bool = False
    seconds: float = 6.0


def good_request(target: Target, method: str = "GET", path: str = "", *, more: bytes = b"", body: bytes = b"") -> bytes:
    """An ordinary request."""
    length = f"Content-Length: {len(body)}\r\n".encode() if body else b""
    line = f"{method} {path or target.page} HTTP/1.1\r\nHost: {target.authority}\r\n".encode()
    return line + target.head() + more + length + b"\r\n" + body


async def run_shapes(target: Target, shapes: Iterable[Shape]) -> Checks:
    """Send them all, a few at a time, and then a good request."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(shape: Shape) -> Check:
        async with places:
            return await _run(target, shape)

    checks = await asyncio.gather(*(one(shape) for shape in shapes))
    return [*checks, await good_is_served(target)]


async def good_is_served(target: Target) -> Check:
    """The control beside the refusals: two good requests on one connection are both answered."""
    seen = await talk(target.port, good_request(target) * 2)
    held = seen.statuses == (200, 200)
    return Check(
        name="good requests are answered",
        expected="200, 200",
        # Which control refused it is in the body of the last.
        observed=str(seen) if held else f"{seen}: {seen.raw[-300:]!r}",
        held=held,
    )


async def _run(target: Target, shape: Shape) -> Check:
    pieces = [shape.data] if isinstance(shape.data, bytes) else shape.data
    filled = (piece.replace(b"{host}", target.authority.encode()).replace(b"{auth}", target.head()) for piece in pieces)
    seen = await talk(target.port, filled, seconds=shape.seconds, head=shape.head, half_close=shape.half_close)
    wrong = fault_of(shape, seen)
    expected = f"one of {', '.join(map(str, sorted(shape.allowed)))}" + (", or closed" if shape.silent else "")
    return Check(name=shape.name, expected=expected, observed=shown(wrong or str(seen)), held=not wrong)


def fault_of(shape: Shape, seen: Conversation) -> str:
    """What is wrong with what came back; empty where nothing is."""
    if not seen.replies:
        if seen.raw and not seen.raw.startswith(b"HTTP/1."):
            return f"the reply is none: {seen.raw[:60]!r}"
        return "" if shape.silent else "no reply"
    first, *others = seen.replies
    if others:
        return f"{len(seen.replies)} replies to one request: {seen}"
    wrong = shape.also(seen) if shape.also is not None else ""
    return wrong or ("" if first.status in shape.allowed else f"status {first.status}")
