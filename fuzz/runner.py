"""Runs harnesses under libFuzzer, several at a time, and tells what they found.

Each has a folder of its own below .fuzz: `corpus` holds the inputs that reached something new, and is where the next
run goes on; `findings` holds those that broke an oracle, hung or ran out of memory, for ever, until somebody removes
them. A finding of an earlier run that still breaks is one of this run as well, so that nothing is forgotten.
"""

import asyncio
import contextlib
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.harness import Broken, Harness

__all__ = ["Outcome", "broken_inputs", "command", "explain", "fuzz", "read_outcome"]

MEMORY_MB: Final = 2048
HANG_SECONDS: Final = 10
START_SECONDS: Final = 60
"""How long a worker may take beside the time that it fuzzes: its imports, and minimising at the end."""
TAIL_LINES: Final = 30
LEAST_RUNS: Final = 100

_RUNS: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)|Done (\d+) runs")
_COVERED: Final = re.compile(r"\bcov: (\d+)")
_ERROR: Final = re.compile(r"^ === Uncaught Python exception: ===\n(.+?)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one harness."""

    name: str
    runs: int
    covered: int
    """Edges of the code under test that were reached."""
    findings: tuple[Path, ...]
    """Inputs that break it."""
    failed: str = ""
    """Why nothing can be said; empty where it was fuzzed."""


def command(python: Path, harness: Harness, folder: Path, *, seconds: int) -> list[str]:
    """The command line that fuzzes one harness for so many seconds."""
    return [
        str(python),
        *("-m", "fuzz.worker", harness.name),
        f"-max_total_time={seconds}",
        f"-max_len={harness.max_bytes}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={folder / 'findings'}/",
        "-print_final_stats=1",
        "-use_value_profile=1",
        str(folder / "corpus"),
        str(folder / "seeds"),
    ]


def broken_inputs(harness: Harness, folder: Path) -> list[Path]:
    """Those of the inputs found so far that break the harness. One that no longer does is removed."""
    findings = folder / "findings"
    broken: list[Path] = []
    for found in sorted(findings.iterdir()) if findings.is_dir() else ():
        if explain(harness, found.read_bytes()) or not found.name.startswith("crash-"):
            broken.append(found)
        else:
            found.unlink()
    return broken


def explain(harness: Harness, data: bytes) -> str:
    """How an input breaks the harness; empty where it does not."""
    try:
        harness.run(data)
    except Broken as broken:
        return str(broken)
    except Exception as error:  # noqa: BLE001 - whatever it raises is what was looked for
        return "".join(traceback.format_exception(error)).rstrip()
    return ""


def read_outcome(harness: Harness, output: str, code: int, findings: Sequence[Path]) -> Outcome:
    """What the output of a worker says."""
    runs = max((int(first or second) for first, second in _RUNS.findall(output)), default=0)
    covered = max(map(int, _COVERED.findall(output)), default=0)
    failed = ""
    if not findings and code != 0:
        error = _ERROR.search(output)
        tail = "\n".join(output.splitlines()[-TAIL_LINES:])
        failed = f"the fuzzer ended with code {code}: {error[1] if error else tail}"
    elif not findings and runs < LEAST_RUNS:
        failed = f"it ran {runs} inputs only, which says nothing"
    return Outcome(name=harness.name, runs=runs, covered=covered, findings=tuple(findings), failed=failed)


async def fuzz(python: Path, harness: Harness, folder: Path, *, root: Path, seconds: int) -> Outcome:
    """Fuzz one harness. `folder` is its own; `root` is the project's."""
    for part in ("corpus", "findings", "seeds"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.seeds):
        (folder / "seeds" / f"{number}").write_bytes(seed)
    process = await asyncio.create_subprocess_exec(
        *command(python, harness, folder, seconds=seconds),
        cwd=root,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{root}:{root / 'examples' / 'bank'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds + START_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        output = b"it did not end in time"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
    findings = await asyncio.to_thread(broken_inputs, harness, folder)
    return read_outcome(harness, output.decode("utf-8", "replace"), code, findings)
