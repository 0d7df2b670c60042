"""The environment of other people's tools, attack/.venv, and where each tool is.

They pin what they need, so they share nothing with the project. A tool that is missing is never passed over: what it
would have shown is not known, and the report says so.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.environment import make as make_environment

__all__ = ["Tool", "find_tools", "make"]

FOLDER: Final = Path(__file__).resolve().parent
LEAST_PYTHON: Final = (3, 12)
"""What the tools together run on, which is more than Workhorse needs."""
VERSION_SECONDS: Final = 60

_OWN: Final = ("schemathesis", "wapiti", "sqlmap")
_OF_THE_SYSTEM: Final = ("slowhttptest",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool, there or not."""

    name: str
    path: Path | None
    version: str
    """What it says of itself; why it is missing, where it is."""


def make() -> Path:
    """Bring the environment up to date, and return its folder.

    Raises:
        OSError: there is no interpreter for them, or the project's environment lacks what is needed to make it.
        subprocess.SubprocessError: it could not be made; `uv` has said why.
    """
    environment = FOLDER / ".venv"
    make_environment(
        environment, requirements=FOLDER / "requirements.txt", python=_interpreter(), workhorse=False, path=()
    )
    return environment


def _interpreter() -> str:
    """This interpreter, or another one on the path that is new enough and runs."""
    if sys.version_info >= LEAST_PYTHON:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3"):
        path = shutil.which(name)
        if path is not None and _runs(path):
            return path
    raise FileNotFoundError(
        f"the tools need Python {'.'.join(map(str, LEAST_PYTHON))} or newer, and there is none on the path; install one"
    )


def _runs(path: str) -> bool:
    """Whether it runs at all, which a version manager's stand-in may not, and is new enough."""
    said = _say(path, "-c", f"import sys; sys.exit(sys.version_info < {LEAST_PYTHON})")
    return not isinstance(said, str) and said.returncode == 0


def find_tools(environment: Path | None, *, why: str = "") -> Mapping[str, Tool]:
    """Look for every tool, and ask each that is there for its version.

    Args:
        environment: what `make` returned; None where it failed.
        why: why it failed.
    """
    found: dict[str, Tool] = {}
    for name in _OWN:
        path = environment / "bin" / name if environment is not None else None
        found[name] = _tool(name, path if path is not None and path.exists() else None, why or "it was not installed")
    for name in _OF_THE_SYSTEM:
        which = shutil.which(name)
        found[name] = _tool(name, Path(which) if which else None, f"it is not installed; on Debian: apt install {name}")
    return found


def _tool(name: str, path: Path | None, why: str) -> Tool:
    if path is None:
        return Tool(name=name, path=None, version=f"missing: {why}")
    said = _say(path, "-h" if name == "slowhttptest" else "--version")
    if isinstance(said, str):
        return Tool(name=name, path=None, version=f"missing: it does not run ({said})")
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines()]
    last = next((line for line in reversed(lines) if any(letter.isdigit() for letter in line)), "")
    if name == "slowhttptest":
        last = next((line for line in lines if "version" in line), last)
    return Tool(name=name, path=path, version=last.rpartition(" ")[2] or "unknown")


def _say(*command: str | Path) -> subprocess.CompletedProcess[str] | str:
    """What a short command says; why it could not be run, where it could not."""
    try:
        return subprocess.run(  # noqa: S603 - of ours, or found on the path by its name
            command, capture_output=True, text=True, timeout=VERSION_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
