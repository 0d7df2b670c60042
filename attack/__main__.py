"""Attacks the example bank on servers of its own, while a well-behaved client goes on asking.

    make attack
    make attack ARGS="--only framing --only sqlmap"
    make attack ARGS=--list

Each attack runs against the bank and against an app of planted weaknesses; it counts only if it finds some of those.
The exit code is 0 where every expectation held, 1 where one did not or nothing can be said, 130 where it was stopped.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attack import environment
from attack.checks import Attack, AttackError, Check, Outcome, judge
from attack.environment import Tool, find_tools
from attack.hostile import bodies, framing, heads, http2, slow
from attack.report import table, write
from attack.scanners.tools import scanner_attacks
from attack.target import Target, read_books, serve_bank, serve_planted
from attack.witness import Witness
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct

__all__ = ["HOSTILE", "main", "run"]

REPORT: Final = Path(__file__).resolve().parent / "report.json"
HOSTILE: Final = (
    framing.ATTACK,
    heads.BOMBS,
    heads.HOSTS,
    heads.TRAVERSAL,
    heads.INJECTION,
    heads.METHODS,
    bodies.ATTACK,
    slow.ATTACK,
    http2.NOT_OFFERED,
)
SCANNERS: Final = ("schemathesis", "wapiti", "sqlmap", "slowhttptest")
NAMES: Final = (*(one.name for one in HOSTILE), http2.ATTACK.name, *SCANNERS)
WITNESS: Final = "witness"
BOOKS: Final = "books"


async def run(only: Sequence[str]) -> tuple[str, bool]:
    """Attack, and write the report. Returns what is printed, and whether every expectation held."""
    tools = await asyncio.to_thread(_tools, only)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        folder = Path(scratch)
        (folder / "bank").mkdir()
        async with serve_planted(folder) as planted, serve_bank(folder / "bank") as bank:
            witness = Witness(bank)
            watching = asyncio.create_task(witness.watch())
            attacks = [*HOSTILE, *scanner_attacks(tools, folder / "tools")]
            # One after the other, so that each sees what it did itself.
            outcomes += [await _make(attack, bank, planted) for attack in attacks if attack.name in only]
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            outcomes += [_witnessed(witness), await _books(bank)]
            if http2.ATTACK.name in only:
                outcomes.append(await _http2(folder / "bank", planted))
    write(REPORT, outcomes, tools, witness.report())
    return table(outcomes, tools) + f"\nreport: {REPORT}", all(one.passed for one in outcomes)


async def _make(attack: Attack, bank: Target, planted: Target) -> Outcome:
    """Attack the bank and the planted weaknesses at the same time."""
    _note(f"{attack.name}: {attack.threat}")
    began = time.perf_counter()
    try:
        if attack.planted:
            checks, control = await asyncio.gather(attack.run(bank), attack.run(planted))
        else:
            checks, control = await attack.run(bank), ()
    except (AttackError, OSError) as error:
        return Outcome(
            name=attack.name, threat=attack.threat, seconds=time.perf_counter() - began, error=str(error) or repr(error)
        )
    return judge(attack, checks, control, seconds=time.perf_counter() - began)


async def _http2(folder: Path, planted: Target) -> Outcome:
    """Attack the bank on a server that offers HTTP/2; where it does not start, what the others found is not lost."""
    try:
        async with serve_bank(folder, server="hypercorn") as bank:
            return await _make(http2.ATTACK, bank, planted)
    except (MeasurementError, OSError) as error:
        return Outcome(name=http2.ATTACK.name, threat=http2.ATTACK.threat, error=str(error))


def _witnessed(witness: Witness) -> Outcome:
    checks = witness.checks()
    return Outcome(
        name=WITNESS,
        threat="others who pay for the attack",
        checks=tuple(checks),
        error="" if checks else "the witness asked too seldom to say anything",
    )


async def _books(bank: Target) -> Outcome:
    """What matters most in the end: not a cent is missing."""
    try:
        books = await asyncio.to_thread(read_books, bank)
    except OSError as error:
        return Outcome(name=BOOKS, threat="money made or lost", error=f"the bank does not show its books: {error}")
    check = Check(name="the books balance", expected="balanced", observed=books.text[:200], held=books.balanced)
    return Outcome(name=BOOKS, threat="money made or lost", checks=(check,))


def _tools(only: Sequence[str]) -> Mapping[str, Tool]:
    """The tools that are asked for, in an environment that is made where there is none."""
    if not set(only) & set(SCANNERS):
        return {}
    why = ""
    made: Path | None = None
    try:
        made = environment.make()
    except (OSError, subprocess.SubprocessError) as error:
        why = f"their environment could not be made: {error}"
    return {name: tool for name, tool in find_tools(made, why=why).items() if name in only}


def _note(line: str) -> None:
    sys.stderr.write(line + " ...\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m attack", description="Attack the example bank.")
    parser.add_argument("--only", choices=NAMES, action="append", help="only this attack; may be given several times")
    parser.add_argument("--list", action="store_true", help="list the attacks")
    given = parser.parse_args()
    if given.list:
        sys.stdout.write("".join(f"{name}\n" for name in NAMES))
        return 0

    held = False

    async def attacking() -> str:
        nonlocal held
        printed, held = await run(given.only or NAMES)
        return printed

    return conduct(attacking()) or (0 if held else 1)


if __name__ == "__main__":
    sys.exit(main())
