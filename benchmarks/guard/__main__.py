"""What the guard costs a request, beside the stacks of middlewares that do the same, in one run.

    python -m guard
    python -m guard --quick
    python -m guard --only layers
    python -m guard --profile 25

Three tables: what each layer adds without a server (in instructions, where valgrind is installed, and in CPU time);
what it adds on whole servers; what asking a rate limit costs by store. Then a line per claim. Whatever failed is named,
and the claim that needs it is short.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.guard import callgrind, subject
from benchmarks.guard.contestants import ALL, CLAIMED, Contestant
from benchmarks.guard.credentials import make_credentials
from benchmarks.guard.hatching import hatch
from benchmarks.guard.messages import Figure, Mode, Order
from benchmarks.guard.profiling import read_profiles
from benchmarks.guard.report import (
    Costs,
    Measured,
    Row,
    claims,
    compiled_line,
    costs_of,
    failures,
    layer_table,
    profile_table,
    server_table,
    take_table,
)
from benchmarks.guard.serving import SERVED, SERVERS, measure_servers
from benchmarks.guard.takes import TakeCost, measure_takes
from benchmarks.guard.traffic import Credentials
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct

__all__ = ["main"]

SERVICES: Final = Path(__file__).resolve().parents[1] / ".workhorse"
QUICK_CONTESTANTS: Final = (
    *("null", "null+guard", "fastapi", "fastapi+guard", CLAIMED),
    *("litestar", "litestar+all", "django", "django+all"),
)
PARTS: Final = ("layers", "servers", "takes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured. The figures are less exact with less; the instructions hardly are."""

    contestants: Sequence[str]
    counted: int
    """Requests of each method whose instructions are counted."""
    warmup: int
    timed: int
    """Requests of each method, contestant and round whose time is taken."""
    rounds: int
    served: int
    """Requests of each method, server and round."""
    served_rounds: int
    takes: int
    """Of each store and round."""
    take_rounds: int


FULL: Final = Effort(
    contestants=tuple(ALL),
    counted=40,
    warmup=80,
    timed=200,
    rounds=7,
    served=1_500,
    served_rounds=6,
    takes=2_000,
    take_rounds=3,
)
QUICK: Final = Effort(
    contestants=QUICK_CONTESTANTS,
    counted=25,
    warmup=40,
    timed=60,
    rounds=2,
    served=500,
    served_rounds=1,
    takes=300,
    take_rounds=1,
)


async def compare(effort: Effort, parts: Sequence[str]) -> str:
    """Measure, and return what is to be printed."""
    credentials = await asyncio.to_thread(make_credentials)
    figures: dict[str, list[Figure]] = {}
    reason = ""
    if "layers" in parts:
        reason = callgrind.missing()
        if not reason:
            try:
                figures["instructions"] = await _hatch("count", effort.contestants, effort, credentials)
            except MeasurementError as error:
                reason = str(error)
        figures["CPU time"] = await _hatch("time", effort.contestants, effort, credentials)
        if subject.has_compiled_build():
            pair = [name for name in ("fastapi", "fastapi+guard") if name in effort.contestants]
            mode: Mode = "time" if reason else "count"
            figures["compiled"] = await _hatch(mode, pair, effort, credentials, compiled=True)
    if "servers" in parts:
        for kind in SERVERS:
            _note(f"{', '.join(SERVED)} on {kind}")
            with tempfile.TemporaryDirectory(prefix="bench-guard-") as folder:
                figures[kind] = await measure_servers(
                    kind, credentials, folder=Path(folder), requests=effort.served, rounds=effort.served_rounds
                )
    takes: list[TakeCost] = []
    if "takes" in parts:
        _note("rate limits")
        takes = await measure_takes(SERVICES, takes=effort.takes, rounds=effort.take_rounds)
    return _report(figures, takes, effort, parts, reason)


async def _hatch(
    mode: Mode, names: Sequence[str], effort: Effort, credentials: Credentials, *, compiled: bool = False
) -> list[Figure]:
    order = Order(
        mode=mode,
        contestants=tuple(names),
        credentials=credentials,
        requests=effort.counted if mode == "count" else effort.timed,
        warmup=effort.warmup,
        rounds=1 if mode == "count" else effort.rounds,
        source_only=not compiled,
    )
    what = "instructions" if mode == "count" else "CPU time"
    _note(f"{what} of {len(names)} contestants{', compiled' if compiled else ''}")
    with tempfile.TemporaryDirectory(prefix="bench-guard-") as folder:
        return await hatch(order, Path(folder))


async def profile(most: int) -> str:
    """Where the guard's instructions go: its `most` dearest functions, for each method.

    Raises:
        MeasurementError: it cannot be told here; the message says why.
    """
    reason = callgrind.missing() or ("" if sys.version_info >= (3, 12) else "it takes Python 3.12 or newer")
    if reason:
        raise MeasurementError(f"no profile: {reason}")
    credentials = await asyncio.to_thread(make_credentials, FULL.counted)
    order = Order(
        mode="profile",
        contestants=("null+guard",),
        credentials=credentials,
        requests=FULL.counted,
        warmup=FULL.warmup,
    )
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-guard-") as folder:
        found = await hatch(order, Path(folder))
        for figure in found:
            functions = read_profiles(Path(folder), figure.method, order.requests)
            if figure.failed or not functions:
                raise MeasurementError(f"no profile of {figure.method}: {figure.failed or 'callgrind left none'}")
            lines += [profile_table(figure.method, functions[:most], figure.per_request), ""]
    return "\n".join(lines)


def _report(
    figures: dict[str, list[Figure]], takes: Sequence[TakeCost], effort: Effort, parts: Sequence[str], reason: str
) -> str:
    costs = {what: costs_of(found) for what, found in figures.items()}
    nothing: Costs = {}
    measured = Measured(
        instructions=costs.get("instructions", nothing),
        microseconds=costs.get("CPU time", nothing),
        compiled=costs.get("compiled", nothing),
        servers={kind: costs[kind] for kind in SERVERS if kind in costs},
    )
    titles = {name: one.title for name, one in ALL.items()}
    lines = [_machine()]
    if "layers" in parts:
        counted = f"counted over {effort.counted} requests by valgrind" if not reason else f"not counted: {reason}"
        lines += [
            f"instructions: {counted}; CPU time: medians of {effort.rounds} rounds of {effort.timed} requests",
            "",
            layer_table([_row(name, ALL[name]) for name in effort.contestants], measured),
            "",
        ]
    if measured.compiled:
        lines += [compiled_line(measured), ""]
    if measured.servers:
        lines += [server_table(measured, titles), ""]
    if takes:
        lines += [take_table(takes), ""]
    for what, found in figures.items():
        lines += failures(found, titles, what)
    lines += [f"failed rate limits: {take.title}: {take.failed}" for take in takes if take.failed]
    lines += claims(measured, layers="layers" in parts, servers="servers" in parts)
    return "\n".join(lines)


def _row(name: str, contestant: Contestant) -> Row:
    return Row(name=name, title=contestant.title, base=contestant.base)


def _machine() -> str:
    libraries = ("fastapi", "starlette", "litestar", "django", "granian", "uvicorn", "limits", "redis")
    named = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {named}"


def _note(line: str) -> None:
    sys.stderr.write(line + " ...\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m guard", description="Measure what the guard costs a request.")
    parser.add_argument("--quick", action="store_true", help="the contestants of the claims, a few requests each")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be given several times")
    parser.add_argument("--profile", type=int, metavar="N", help="only the N dearest functions of our guard")
    given = parser.parse_args()
    if given.profile is not None and given.profile < 1:
        parser.error("a profile has one function at least")
    if given.profile:
        return conduct(profile(given.profile))
    return conduct(compare(QUICK if given.quick else FULL, given.only or PARTS))


if __name__ == "__main__":
    sys.exit(main())
