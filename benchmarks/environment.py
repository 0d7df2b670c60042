"""Makes environments beside the project's own, such as benchmarks/.venv, and brings them up to date.

The peers of the benchmarks, the fuzzer and the tools of the attacks are libraries that Workhorse itself does not need,
so they stay out of its environment. What is installed is locked by hash in a requirements.txt; for the benchmarks also
Workhorse itself, editable, so that what is timed is what is in src/. A note of what was installed is left at the end:
the second run reads it and does nothing, a run that was cut off leaves none.

    python benchmarks/environment.py

Runs under the project's environment (its `uv` stands beside its python) and uses nothing but the standard library.
"""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["fingerprint", "main", "make", "python_of"]

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
REQUIREMENTS: Final = FOLDER / "requirements.txt"
INSTALL_SECONDS: Final = 600


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / "bin" / "python"


def fingerprint(requirements: Path = REQUIREMENTS, *settings: str) -> str:
    """What an environment depends on, as a digest: a change of any of it makes the environment anew."""
    digest = hashlib.sha256(" ".join((platform.python_version(), str(ROOT), *settings)).encode())
    for source in (requirements, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def make(
    environment: Path,
    *,
    requirements: Path = REQUIREMENTS,
    python: str = sys.executable,
    workhorse: bool = True,
    path: Sequence[str] = (str(ROOT),),
) -> bool:
    """Bring `environment` up to date. Returns whether anything had to be done.

    Args:
        environment: its folder.
        requirements: what it holds, locked by hash.
        python: its interpreter, or what `uv` should look for, such as `>=3.12`; it never downloads one.
        workhorse: whether it holds Workhorse itself, for which the requirements must name all that builds it.
        path: lines of a .pth file. By default, one by which the benchmarks import each other as `benchmarks.…`, from
            whichever folder they are started.

    Raises:
        FileNotFoundError: there is no `uv` beside this python.
        subprocess.CalledProcessError: `uv` failed; it has said why.
        subprocess.TimeoutExpired: it took longer than ten minutes.
    """
    note, wanted = environment / ".ready", fingerprint(requirements, python, *path)
    if note.is_file() and note.read_text(encoding="utf-8") == wanted and python_of(environment).exists():
        return False
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        raise FileNotFoundError(f"{uv} is not there: run this with the project's python, as `make` does")
    inside = str(python_of(environment))
    # Compiled now, so that the first start of a server is timed like the next ones.
    install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", inside)
    _run(uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", python, str(environment))
    _run(uv, *install, "--require-hashes", "--requirements", str(requirements))
    if workhorse:
        _run(uv, *install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    for packages in environment.glob("lib/python*/site-packages"):
        (packages / "benchmarks.pth").write_text("".join(f"{line}\n" for line in path), encoding="utf-8")
    note.write_text(wanted, encoding="utf-8")
    return True


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True, timeout=INSTALL_SECONDS)


def main() -> int:
    """Make the environment, and return the exit code."""
    try:
        if make(FOLDER / ".venv"):
            sys.stdout.write(f"made {FOLDER / '.venv'}\n")
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"the benchmarks' environment could not be made: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
