"""What a cache costs and keeps apart, beside other caches for asyncio, on one Valkey over TCP, in one run.

    python -m cache
    python -m cache --calls 2000

`get`: microseconds of wall time per hit, one after the other, and of CPU time with 50 at once. `makes`: how often a
value that 100 tasks want at once is made. `old kept`: whether a value that was being made as its key was deleted is
kept, though it is old. `tag`: milliseconds to forget 2,000 entries of one tag.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.cache.contestants import CONTESTANTS, Contestant
from benchmarks.figures import Claim
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.embedded.binaries import find_valkey

__all__ = ["Figures", "main", "measure", "report"]

VALUE = b"x" * 1_000
WANTING = 100
TAGGED = 2_000
AT_ONCE = 50
ROUNDS = 10
START_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One cache."""

    name: str
    get_us: float
    get_cpu_us: float
    makes: int
    old_kept: bool
    tag_ms: float | None


@asynccontextmanager
async def valkey() -> AsyncIterator[int]:
    """A server of this run's own; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(find_valkey()), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            await reachable(port)
            yield port
        finally:
            process.kill()
            process.wait()


async def reachable(port: int) -> None:
    """Wait until something listens there.

    Raises:
        MeasurementError: nothing does, for long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise MeasurementError(f"Valkey did not listen within {START_SECONDS} s")


async def measure(name: str, contestant: Contestant, calls: int) -> Figures:
    """Measure one cache."""
    await contestant.set("key", VALUE)
    for _ in range(100):
        await contestant.get("key")
    rounds = [await time_gets(contestant, max(calls // ROUNDS, AT_ONCE)) for _ in range(ROUNDS)]
    # The least that any round took: what others do on the machine only adds.
    get_us, get_cpu_us = (min(figures) for figures in zip(*rounds, strict=True))
    return Figures(
        name=name,
        get_us=get_us,
        get_cpu_us=get_cpu_us,
        makes=await count_makes(contestant),
        old_kept=await keeps_old(contestant),
        tag_ms=await time_tag(contestant),
    )


async def time_gets(contestant: Contestant, calls: int) -> tuple[float, float]:
    """Microseconds of wall time per get, one after the other, and of CPU time with many at once."""
    began = time.perf_counter()
    for _ in range(calls):
        await contestant.get("key")
    wall_us = (time.perf_counter() - began) / calls * 1e6

    async def some() -> None:
        for _ in range(calls // AT_ONCE):
            await contestant.get("key")

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return wall_us, (time.process_time() - began) / (calls // AT_ONCE * AT_ONCE) * 1e6


async def count_makes(contestant: Contestant) -> int:
    """How often a value that many want at once is made."""
    makes = 0

    async def make() -> bytes:
        nonlocal makes
        makes += 1
        await asyncio.sleep(0.1)
        return VALUE

    await asyncio.gather(*(contestant.once("wanted", make) for _ in range(WANTING)))
    return makes


async def keeps_old(contestant: Contestant) -> bool:
    """Whether what was read before a deletion is found after it."""
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def make() -> bytes:
        reading.set()
        await go_on.wait()
        return b"old"

    async def newer() -> bytes:
        return b"new"

    task = asyncio.ensure_future(contestant.once("raced", make))
    await reading.wait()
    await contestant.delete("raced")
    go_on.set()
    await task
    return await contestant.once("raced", newer) != b"new"


async def time_tag(contestant: Contestant) -> float | None:
    """Milliseconds to forget the entries of one tag."""
    if contestant.set_tagged is None or contestant.invalidate is None:
        return None
    for number in range(TAGGED):
        await contestant.set_tagged(str(number), VALUE)
    began = time.perf_counter()
    await contestant.invalidate()
    return (time.perf_counter() - began) * 1e3


def report(figures: Sequence[Figures]) -> str:
    """The table and the claims."""
    lines = [f"{'':16} {'get us':>8} {'CPU us':>8} {'makes':>6} {'old kept':>9} {'tag ms':>8}"]
    for one in figures:
        tag = "-" if one.tag_ms is None else f"{one.tag_ms:.2f}"
        old = "yes" if one.old_kept else "no"
        lines.append(f"{one.name:16} {one.get_us:8.0f} {one.get_cpu_us:8.0f} {one.makes:6} {old:>9} {tag:>8}")
    by_name = {one.name: one for one in figures}
    ours, near = by_name["workhorse"], by_name["workhorse, near"]
    others = [one for one in figures if not one.name.startswith("workhorse")]
    claims = [
        Claim("cache.makes_of_one_value", ours.makes, 2, "<"),
        Claim("cache.old_values_kept", float(ours.old_kept or near.old_kept), 1, "<"),
        Claim("cache.near_gets_per_get", ours.get_us / near.get_us, 10),
    ]
    if others:
        quickest = min(one.get_cpu_us for one in others)
        claims.append(Claim("cache.get_cpu_beside_quickest_other", ours.get_cpu_us / quickest, 1.5, "<"))
    return "\n".join([*lines, "", *map(str, claims)])


async def compare(names: Sequence[str], calls: int) -> str:
    """Measure them one after the other, each on a server of its own."""
    figures: list[Figures] = []
    for name in names:
        try:
            async with valkey() as port, CONTESTANTS[name](port) as contestant:
                figures.append(await measure(name, contestant, calls))
        except ImportError as error:
            raise MeasurementError(f"{name} is not installed ({error}); install it, or use --alone") from error
    return report(figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m cache", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=5_000, help="gets per cache and way (5000)")
    parser.add_argument("--alone", action="store_true", help="leave the other libraries out")
    given = parser.parse_args(arguments)
    names = [name for name in CONTESTANTS if not given.alone or name.startswith("workhorse")]
    return conduct(compare(names, given.calls))


if __name__ == "__main__":
    sys.exit(main())
