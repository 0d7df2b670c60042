"""The peer in Node: a copy of it, with its packages, in the benchmarks' own environment.

The packages are those of its lock file, by version and by hash (`npm ci`); which registry they come from is left to
npm's own settings. A note of what was installed is left at the end, so that the next run does nothing.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.bank.databases import BENCHMARKS
from benchmarks.processes import MeasurementError

__all__ = ["node_version", "prepare_fastify"]

SOURCE: Final = BENCHMARKS / "peers" / "fastify"
FILES: Final = ("package.json", "package-lock.json", "bank.mjs")
INSTALL_SECONDS: Final = 300


def prepare_fastify(folder: Path) -> str:
    """Bring the peer's copy in `folder` up to date. Returns why it cannot be run; empty if it can.

    Raises:
        MeasurementError: npm is there, and could not install its packages.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    wanted = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()
    note = folder / ".ready"
    if note.is_file() and note.read_text(encoding="utf-8") == wanted:
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(SOURCE / name, folder / name)
    command = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"`{' '.join(command)}` failed in {folder}: {done.stderr.strip()[-2000:]}")
    note.write_text(wanted, encoding="utf-8")
    return ""


def node_version() -> str:
    """Node's version, without the letter before it; empty where there is no Node."""
    program = shutil.which("node")
    if program is None:
        return ""
    done = subprocess.run((program, "--version"), capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip().removeprefix("v")
