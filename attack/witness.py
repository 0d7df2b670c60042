"""A client that behaves, all the while: what the attacks cost those who did nothing, and how large the server grew."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from attack.checks import Check
from attack.target import Target
from attack.wire import talk
from benchmarks.figures import percentile
from benchmarks.processes import read_stat

__all__ = ["Witness", "resident_megabytes"]

PAUSE_SECONDS: Final = 0.1
SAMPLE_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 10.0
LEAST_AVAILABLE: Final = 0.99
MOST_P99_MS: Final = 2000.0
MOST_GROWTH_MB: Final = 300.0
PAGE_BYTES: Final = 4096
LEAST_ASKED: Final = 10


@dataclass(slots=True)
class Witness:
    """Asks again and again for one account, and looks at the server's memory."""

    target: Target
    took_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask())
            tasks.create_task(self._measure())

    async def _ask(self) -> None:
        request = (
            f"GET /accounts/1 HTTP/1.1\r\nHost: {self.target.authority}\r\nConnection: close\r\n".encode()
            + self.target.head()
            + b"\r\n"
        )
        while True:
            seen = await talk(self.target.port, request, seconds=PATIENCE_SECONDS)
            if seen.statuses == (200,):
                self.took_ms.append(seen.seconds * 1000)
            else:
                self.failed.append(str(seen))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _measure(self) -> None:
        while True:
            self.megabytes.append(await asyncio.to_thread(resident_megabytes, self.target.session))
            await asyncio.sleep(SAMPLE_SECONDS)

    def report(self) -> dict[str, object]:
        """For the report."""
        asked = len(self.took_ms) + len(self.failed)
        times = sorted(self.took_ms)
        return {
            "requests": asked,
            "available": round(len(times) / asked, 5) if asked else 0,
            "p50_ms": round(percentile(times, 0.5), 1) if times else None,
            "p99_ms": round(percentile(times, 0.99), 1) if times else None,
            "failures": self.failed[:10],
            "resident_megabytes": {
                "first": round(self.megabytes[0], 1) if self.megabytes else None,
                "most": round(max(self.megabytes, default=0), 1),
                "last": round(self.megabytes[-1], 1) if self.megabytes else None,
            },
        }

    def checks(self) -> list[Check]:
        """What is expected of a server under attack."""
        asked = len(self.took_ms) + len(self.failed)
        if asked < LEAST_ASKED or not self.megabytes:
            return []
        available = len(self.took_ms) / asked
        p99 = percentile(sorted(self.took_ms), 0.99) if self.took_ms else float("inf")
        growth = max(self.megabytes) - self.megabytes[0]
        return [
            Check(
                name="a well-behaved client is answered",
                expected=f"{LEAST_AVAILABLE:.0%} of its requests or more",
                observed=f"{available:.2%} of {asked}{': ' + self.failed[0] if self.failed else ''}",
                held=available >= LEAST_AVAILABLE,
            ),
            Check(
                name="it does not wait for long",
                expected=f"p99 of {MOST_P99_MS:g} ms or less",
                observed=f"{p99:.0f} ms",
                held=p99 <= MOST_P99_MS,
            ),
            Check(
                name="the server does not grow",
                expected=f"by {MOST_GROWTH_MB:g} MB at most",
                observed=f"from {self.megabytes[0]:.0f} by {growth:.0f} MB",
                held=growth <= MOST_GROWTH_MB,
            ),
        ]


def resident_megabytes(session: int) -> float:
    """Resident memory of all processes of a session."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = stat.read_text(encoding="utf-8", errors="replace")
            if read_stat(text).session == session:
                total += int((stat.parent / "statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    return total / 1e6
