"""Fuzzes every parser that reads what a stranger sends.

    make fuzz                                   all, ten minutes together
    make fuzz SECONDS=60 ARGS="heads.path credentials"
    make fuzz ARGS="--replay heads.path .fuzz/heads.path/findings/crash-..."

The exit code is 0 where nothing was found, 1 where something was, 2 where the command line is wrong, and 3 where
something could not be fuzzed: then nothing is known of it.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fuzz import environment
from fuzz.catalogue import CANARY, HARNESSES, UnknownHarness, chosen
from fuzz.harness import Harness
from fuzz.runner import Outcome, explain, fuzz

__all__ = ["main", "report"]

ROOT: Final = Path(__file__).resolve().parents[1]
STORE: Final = ROOT / ".fuzz"
TOTAL_SECONDS: Final = 600
LEAST_SECONDS: Final = 5
START_SECONDS: Final = 3
"""What the start of a worker takes from its share."""
CANARY_SECONDS: Final = 30
SHOWN_CHARACTERS: Final = 1500


async def run(python: Path, harnesses: Sequence[Harness], *, seconds: int, jobs: int) -> list[Outcome]:
    """Fuzz them all within `seconds`, `jobs` at a time."""
    each = max(LEAST_SECONDS, seconds * jobs // len(harnesses) - START_SECONDS)
    places = asyncio.Semaphore(jobs)

    async def one(harness: Harness) -> Outcome:
        async with places:
            outcome = await fuzz(python, harness, STORE / harness.name, root=ROOT, seconds=each)
        sys.stdout.write(line_of(outcome) + "\n")
        sys.stdout.flush()
        return outcome

    return await asyncio.gather(*[one(harness) for harness in harnesses])


async def prove(python: Path) -> str:
    """Look that the fuzzer finds a planted fault. Returns why nothing it says would count, or nothing."""
    folder = STORE / CANARY.name
    shutil.rmtree(folder, ignore_errors=True)
    outcome = await fuzz(python, CANARY, folder, root=ROOT, seconds=CANARY_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    return "" if outcome.findings else f"the fuzzer did not find the planted fault. {outcome.failed}".rstrip()


def line_of(outcome: Outcome) -> str:
    """One line of the table."""
    verdict = f"{len(outcome.findings)} FOUND" if outcome.findings else "NOT FUZZED" if outcome.failed else "nothing"
    return f"{outcome.name:<28} {outcome.runs:>12,} inputs {outcome.covered:>6,} edges  {verdict}"


def report(outcomes: Sequence[Outcome]) -> str:
    """What is printed at the end: each finding with how to see it again, and what could not be fuzzed."""
    lines: list[str] = []
    for outcome in outcomes:
        for found in outcome.findings:
            name = found.relative_to(ROOT) if found.is_relative_to(ROOT) else found
            reason = explain(HARNESSES[outcome.name], found.read_bytes()) if found.name.startswith("crash-") else ""
            lines += [
                "",
                f"{outcome.name}: {found.read_bytes()[:200]!r}",
                reason[-SHOWN_CHARACTERS:] or "it takes too long, or too much memory",
                f"again: make fuzz ARGS='--replay {outcome.name} {name}'",
            ]
        if outcome.failed:
            lines += ["", f"{outcome.name} could not be fuzzed: {outcome.failed}"]
    found_in = sum(bool(outcome.findings) for outcome in outcomes)
    failed = sum(bool(outcome.failed) for outcome in outcomes)
    inputs = sum(outcome.runs for outcome in outcomes)
    lines += ["", f"{len(outcomes)} harnesses, {inputs:,} inputs: {found_in} with findings, {failed} not fuzzed"]
    return "\n".join(lines).lstrip("\n")


def replay(name: str, file: Path) -> int:
    """Drive one input through one harness."""
    harness = HARNESSES.get(name)
    if harness is None:
        raise UnknownHarness(f"there is no harness {name!r}; there are {', '.join(HARNESSES)}")
    reason = explain(harness, file.read_bytes())
    sys.stdout.write((reason or "the input breaks nothing") + "\n")
    return 1 if reason else 0


def start(harnesses: Sequence[Harness], *, seconds: int, jobs: int) -> int:
    """Make the environment, see that the fuzzer finds what is planted, fuzz, and return the exit code."""
    try:
        python = environment.make()
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"the fuzzer's environment could not be made: {error}\n")
        return 3
    STORE.mkdir(exist_ok=True)
    (STORE / ".gitignore").write_text("*\n", encoding="utf-8")
    blind = asyncio.run(prove(python))
    if blind:
        sys.stderr.write(blind + "\n")
        return 3
    outcomes = asyncio.run(run(python, harnesses, seconds=seconds, jobs=jobs))
    sys.stdout.write("\n" + report(outcomes) + "\n")
    if any(outcome.findings for outcome in outcomes):
        return 1
    return 3 if any(outcome.failed for outcome in outcomes) else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what reads what a stranger sends.")
    parser.add_argument("names", nargs="*", help="harnesses or groups of them, such as heads; none: all")
    parser.add_argument("--seconds", type=int, default=TOTAL_SECONDS, help="time for all of them together")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="how many at a time")
    parser.add_argument("--list", action="store_true", help="list the harnesses")
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "FILE"), help="drive one input through one harness")
    given = parser.parse_args()
    if given.seconds < 1 or given.jobs < 1:
        parser.error("it takes a second and a job at least")
    if given.list:
        sys.stdout.write("".join(f"{name}\n" for name in HARNESSES))
        return 0
    try:
        if given.replay:
            return replay(given.replay[0], Path(given.replay[1]))
        return start(chosen(given.names), seconds=given.seconds, jobs=given.jobs)
    except (UnknownHarness, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
