"""How soon a service is there: what `import workhorse` costs, and when `workhorse run` first answers.

    python -m start --rounds 5

The import must load no driver, no framework and no pydantic: a tool or a test that only wants a name from the front
door pays for nothing else. The first reply is that of a FastAPI app of five lines on embedded servers that run
already, with every migration applied; the same app on bare granian stands beside it.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.figures import Claim, Spread
from benchmarks.processes import MeasurementError, run_server
from benchmarks.program import conduct
from workhorse.embedded import attach

__all__ = ["APP", "ImportCost", "Start", "heavy_modules", "main", "measure_import", "report"]

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
IMPORT_SECONDS: Final = 60
TARGET_IMPORT_MS: Final = 100
TARGET_REPLY_SECONDS: Final = 3

HEAVY: Final = frozenset(
    {
        *("asyncpg", "django", "fastapi", "granian", "hypercorn", "psycopg", "psycopg_pool", "pydantic"),
        *("pydantic_settings", "sqlalchemy", "starlette", "uvicorn", "valkey"),
    }
)
"""Drivers, frameworks, servers: what `import workhorse` must not load."""

APP: Final = """\
from fastapi import FastAPI
from workhorse import Service
app = FastAPI()
app.get("/")(lambda: {"hello": "world"})
service = Service(app)
"""

# Run in an interpreter of its own, so that it prints what one import did, in milliseconds and module names.
PROBE: Final = """\
import sys, time
before = time.perf_counter()
import workhorse
after = time.perf_counter()
import json
print(json.dumps({"milliseconds": (after - before) * 1000, "modules": sorted(sys.modules)}))
"""


class ImportCost(msgspec.Struct, frozen=True):
    """What one `import workhorse` did."""

    milliseconds: float
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """All rounds."""

    imports_ms: Sequence[float]
    heavy: Sequence[str]
    """Modules that the import should not have loaded."""
    service_seconds: Sequence[float]
    """From the start of `workhorse run` to its first reply."""
    granian_seconds: Sequence[float]


def heavy_modules(modules: Sequence[str]) -> list[str]:
    """Those of `modules` that are drivers, frameworks or servers, by their top package."""
    return sorted({name.partition(".")[0] for name in modules} & HEAVY)


def measure_import() -> ImportCost:
    """Import Workhorse in a fresh interpreter.

    Raises:
        MeasurementError: it could not be imported.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise MeasurementError(f"`import workhorse` failed: {done.stderr.strip()[-2000:]}")
    return msgspec.json.decode(done.stdout, type=ImportCost)


async def measure_first_reply(
    name: str, command: Sequence[str | Path], folder: Path, settings: dict[str, str]
) -> float:
    """Seconds from the start of a server to its first reply to GET /."""
    started = time.perf_counter()
    async with run_server(name, command, folder=folder, environment=settings, ready="/"):
        return time.perf_counter() - started


async def measure(rounds: int) -> Start:
    """Measure everything `rounds` times, the servers in turn."""
    costs = [await asyncio.to_thread(measure_import) for _ in range(rounds)]
    servers = BENCHMARKS / ".workhorse"
    service_seconds: list[float] = []
    granian_seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-start-") as scratch, await asyncio.to_thread(attach, servers):
        folder = Path(scratch)
        (folder / "hello.py").write_text(APP, encoding="utf-8")
        settings = {"WORKHORSE_EMBEDDED__FOLDER": str(servers)}
        listen = ("--host", "127.0.0.1", "--port", "{port}")
        service = (BIN / "workhorse", "run", "hello:service", *listen)
        granian = (BIN / "granian", "--interface", "asgi", *listen, "hello:app")
        # The first one applies the migrations and compiles the modules; it does not count.
        await measure_first_reply("workhorse", service, folder, settings)
        for _ in range(rounds):
            service_seconds.append(await measure_first_reply("workhorse", service, folder, settings))
            granian_seconds.append(await measure_first_reply("granian", granian, folder, settings))
    heavy = heavy_modules([name for cost in costs for name in cost.modules])
    return Start([cost.milliseconds for cost in costs], heavy, service_seconds, granian_seconds)


def report(start: Start) -> str:
    """What is printed: the medians with their spread, then the claims."""
    imports = Spread.of(start.imports_ms)
    service, granian = Spread.of(start.service_seconds), Spread.of(start.granian_seconds)
    lines = [
        _line("import workhorse", imports, "ms", 0),
        _line("workhorse run, first reply", service, "s", 2),
        _line("bare granian, first reply", granian, "s", 2),
        f"{'loaded that should not be':<28} {', '.join(start.heavy) or 'nothing'}",
        "",
        str(Claim("start.import_ms", imports.median, TARGET_IMPORT_MS, "<")),
        str(Claim("start.import_heavy_modules", len(start.heavy), 1, "<")),
        str(Claim("start.first_reply_s", service.median, TARGET_REPLY_SECONDS, "<")),
    ]
    return "\n".join(lines)


def _line(name: str, spread: Spread, unit: str, digits: int) -> str:
    low, high = f"{spread.lowest:.{digits}f}", f"{spread.highest:.{digits}f}"
    return f"{name:<28} {spread.median:.{digits}f} {unit} ({low}..{high})"


async def compare(rounds: int) -> str:
    """Measure, and return what is to be printed."""
    return report(await measure(rounds))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m start", description="Time import and start of a service.")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("it takes a round at least")
    return conduct(compare(given.rounds))


if __name__ == "__main__":
    sys.exit(main())
