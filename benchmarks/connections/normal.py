"""A normal client among the others: some requests on connections it keeps, some on new ones, none in a hurry."""

import asyncio
import time
from dataclasses import dataclass, field
from math import inf
from typing import Final

from benchmarks.figures import percentile
from benchmarks.processes import HOST

__all__ = ["Experience", "be_normal"]

KEPT: Final = 2
NEW: Final = 2
PAUSE_SECONDS: Final = 0.005
PATIENCE_SECONDS: Final = 10.0
"""A request that is not answered within it has failed."""
REQUEST: Final = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Experience:
    """What the client met with."""

    kept_ms: list[float] = field(default_factory=list)
    """Requests on kept connections, in milliseconds."""
    new_ms: list[float] = field(default_factory=list)
    """Requests on new connections, connecting included."""
    failed: int = 0
    """Requests that were refused, cut off, or not answered in time."""

    def percentile_ms(self, share: float) -> float:
        """Of all requests; one that failed has taken for ever, or refusing most would look fast."""
        return percentile([*sorted(self.kept_ms + self.new_ms), *[inf] * self.failed], share)


async def be_normal(port: int, seconds: float) -> Experience:
    """Make requests for `seconds`."""
    experience = Experience()
    until = time.perf_counter() + seconds
    await asyncio.gather(
        *(_keep(port, until, experience) for _ in range(KEPT)), *(_renew(port, until, experience) for _ in range(NEW))
    )
    return experience


async def _keep(port: int, until: float, experience: Experience) -> None:
    streams: _Streams | None = None
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                streams = streams or await asyncio.open_connection(HOST, port)
                await _ask(streams)
            experience.kept_ms.append((time.perf_counter() - began) * 1000)
        except (OSError, EOFError):
            experience.failed += 1
            _close(streams)
            streams = None
        await asyncio.sleep(PAUSE_SECONDS)
    _close(streams)


async def _renew(port: int, until: float, experience: Experience) -> None:
    while time.perf_counter() < until:
        began, streams = time.perf_counter(), None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                streams = await asyncio.open_connection(HOST, port)
                await _ask(streams)
            experience.new_ms.append((time.perf_counter() - began) * 1000)
        except (OSError, EOFError):
            experience.failed += 1
        finally:
            _close(streams)
        await asyncio.sleep(PAUSE_SECONDS)


async def _ask(streams: _Streams) -> None:
    reader, writer = streams
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200 "):
        raise ConnectionError(f"refused with {head[:16]!r}")


def _close(streams: _Streams | None) -> None:
    if streams is not None:
        streams[1].transport.abort()
