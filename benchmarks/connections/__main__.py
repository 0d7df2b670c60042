"""What many idle and slow clients do to the others, on each server.

    python -m connections --idle 10000 --slow 1000 --seconds 20

A normal client is timed alone; then beside 10,000 idle connections; then, twice as long, beside those and 1,000
clients that send a head a byte a second, or a body at ten bytes a second, or do not read a reply of ten megabytes, and
that come again whenever they are cut off. The crowd is a process of its own, and so is the server: `workhorse run` with
its default limits.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.connections.crowd import CrowdResult
from benchmarks.connections.normal import Experience, be_normal
from benchmarks.figures import Claim
from benchmarks.processes import MeasurementError, read_stat, run_server, stop_session
from benchmarks.program import conduct
from workhorse.embedded import attach

__all__ = ["ServerFigures", "main", "measure", "report"]

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
SERVERS: Final = ("granian", "uvicorn")
CROWD_SECONDS: Final = 150.0
WARM_UP_SECONDS: Final = 2.0
SPARE_FILES: Final = 256
TARGET_P99_MS: Final = 250
TARGET_IDLE_KB: Final = 64
TARGET_GROWTH_MB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """One server. Memory is the resident memory of all its processes, in megabytes."""

    name: str
    alone: Experience
    beside_idle: Experience
    beside_all: Experience
    memory_before: float
    memory_idle: float
    memory_peak: float
    """The highest seen in the last part."""
    idle: int
    slow: int
    crowd: CrowdResult

    @property
    def idle_kb(self) -> float:
        """Memory per idle connection, in kilobytes."""
        return (self.memory_idle - self.memory_before) * 1024 / self.idle


class Crowd:
    """The crowd's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    async def hear(self, word: str) -> None:
        """Wait until it says `word`."""
        said = await self._line()
        if said.strip() != word.encode():
            raise MeasurementError(f"the crowd said {said!r} where {word!r} was due; see its message above")

    async def go_on(self) -> None:
        """Tell it to go on."""
        self._in.write(b"\n")
        await self._in.drain()

    async def end(self) -> CrowdResult:
        """Send it away, and hear what became of it."""
        self._in.close()
        return msgspec.json.decode(await self._line(), type=CrowdResult)

    async def _line(self) -> bytes:
        async with asyncio.timeout(CROWD_SECONDS):
            return await self._out.readline()


@contextlib.asynccontextmanager
async def gather_crowd(port: int, idle: int, slow: int) -> AsyncGenerator[Crowd]:
    """Start the crowd; at the end it is gone."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.connections.crowd", str(port), str(idle), str(slow)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Crowd(process)
    finally:
        await stop_session(process)


def session_memory(leader: int) -> float:
    """Resident memory of all processes in a session, in megabytes."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if read_stat(stat.read_text(encoding="utf-8", errors="replace")).session == leader:
                pages += int((stat.parent / "statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure_server(name: str, *, idle: int, slow: int, seconds: float) -> ServerFigures:
    """Measure one server."""
    listen = ("--host", "127.0.0.1", "--port", "{port}", "--server", name)
    command = (BIN / "workhorse", "run", "benchmarks.connections.served:service", *listen)
    settings = {"WORKHORSE_EMBEDDED__FOLDER": str(BENCHMARKS / ".workhorse"), "WORKHORSE_LOG__ACCESS": "false"}
    async with run_server(name, command, folder=BENCHMARKS, environment=settings, ready="/-/ready") as server:
        await be_normal(server.port, WARM_UP_SECONDS)
        alone = await be_normal(server.port, seconds)
        memory_before = session_memory(server.process.pid)
        async with gather_crowd(server.port, idle, slow) as crowd:
            await crowd.hear("idle")
            _note(f"{name}: {idle:,} idle connections are there")
            beside_idle = await be_normal(server.port, seconds)
            memory_idle = session_memory(server.process.pid)
            await crowd.go_on()
            await crowd.hear("slow")
            _note(f"{name}: {slow:,} slow clients are there")
            peaks = [memory_idle]
            sampling = asyncio.create_task(_sample(server.process.pid, peaks))
            beside_all = await be_normal(server.port, 2 * seconds)  # long enough for the server's limits to be met
            sampling.cancel()
            became = await crowd.end()
        if server.process.returncode is not None:
            raise MeasurementError(f"the server {name} ended. Its log ends:\n{server.log_tail()}")
    return ServerFigures(
        name=name,
        alone=alone,
        beside_idle=beside_idle,
        beside_all=beside_all,
        memory_before=memory_before,
        memory_idle=memory_idle,
        memory_peak=max(peaks),
        idle=idle,
        slow=slow,
        crowd=became,
    )


async def _sample(leader: int, peaks: list[float]) -> None:
    while True:
        peaks.append(session_memory(leader))
        await asyncio.sleep(0.5)


async def measure(*, idle: int, slow: int, seconds: float) -> list[ServerFigures]:
    """Measure every server.

    Raises:
        MeasurementError: so many connections cannot be made here, or a server failed.
    """
    needed = idle + slow + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise MeasurementError(f"{idle + slow} clients need {needed} open files, and this system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))
    with await asyncio.to_thread(attach, BENCHMARKS / ".workhorse"):
        return [await measure_server(name, idle=idle, slow=slow, seconds=seconds) for name in SERVERS]


def report(servers: Sequence[ServerFigures]) -> str:
    """What is printed: a table, what became of the crowd, the claims."""
    lines = [f"{'normal client, ms':<34} {'p50':>8} {'p99':>8} {'longest':>8} {'requests':>9} {'failed':>7}"]
    for one in servers:
        for title, experience in (
            ("alone", one.alone),
            (f"beside {one.idle:,} idle", one.beside_idle),
            (f"beside those and {one.slow:,} slow", one.beside_all),
        ):
            lines.append(_row(f"{one.name} {title}", experience))
    lines.append("")
    for one in servers:
        crowd = one.crowd
        lines.append(
            f"{one.name}: {one.memory_before:.0f} MB alone, {one.memory_idle:.0f} MB beside idle ones"
            f" ({one.idle_kb:.1f} KB each), {one.memory_peak:.0f} MB at most beside all"
        )
        lines.append(
            f"{one.name}: cut off {crowd.heads_cut} slow heads, {crowd.bodies_cut} slow bodies,"
            f" {crowd.readers_cut} slow readers, {crowd.idle_lost} idle connections"
        )
    lines.append("")
    for one in servers:
        lines += [
            str(Claim(f"connections.{one.name}_p99_ms", one.beside_all.percentile_ms(0.99), TARGET_P99_MS, "<")),
            str(Claim(f"connections.{one.name}_failed", one.beside_idle.failed + one.beside_all.failed, 1, "<")),
            str(Claim(f"connections.{one.name}_idle_kb", one.idle_kb, TARGET_IDLE_KB, "<")),
            str(Claim(f"connections.{one.name}_growth_mb", one.memory_peak - one.memory_before, TARGET_GROWTH_MB, "<")),
        ]
    return "\n".join(lines)


def _row(title: str, experience: Experience) -> str:
    answered = experience.kept_ms + experience.new_ms
    if not answered:
        return f"{title:<34} {'-':>8} {'-':>8} {'-':>8} {0:>9} {experience.failed:>7}"
    return (
        f"{title:<34} {experience.percentile_ms(0.5):>8.1f} {experience.percentile_ms(0.99):>8.1f}"
        f" {max(answered):>8.1f} {len(answered):>9,} {experience.failed:>7}"
    )


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def compare(*, idle: int, slow: int, seconds: float) -> str:
    """Measure, and return what is to be printed."""
    return report(await measure(idle=idle, slow=slow, seconds=seconds))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m connections", description="Time a client among idle and slow ones."
    )
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each part lasts")
    given = parser.parse_args()
    if given.idle < 1 or given.slow < 3 or given.seconds < 1:
        parser.error("it takes one idle client, three slow ones and a second at least")
    return conduct(compare(idle=given.idle, slow=given.slow, seconds=given.seconds))


if __name__ == "__main__":
    sys.exit(main())
