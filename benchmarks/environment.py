"""Makes the benchmarks' own environment, benchmarks/.venv, and brings it up to date.

The peers are libraries that Workhorse itself does not need, so they stay out of its environment. What is installed is
locked by hash in requirements.txt, and Workhorse itself, editable, so that what is timed is what is in src/. A note of
what was installed is left at the end: the second run reads it and does nothing, a run that was cut off leaves none.

    python benchmarks/environment.py

Runs under the project's environment (its `uv` stands beside its python) and uses nothing but the standard library.
"""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["fingerprint", "main", "make", "python_of"]

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
INSTALL_SECONDS: Final = 600


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / "bin" / "python"


def fingerprint() -> str:
    """What the environment depends on, as a digest: a change of any of it makes the environment anew."""
    digest = hashlib.sha256(f"{platform.python_version()} {ROOT}".encode())
    for source in (FOLDER / "requirements.txt", ROOT / "pyproject.toml", Path(__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def make(environment: Path) -> bool:
    """Bring `environment` up to date. Returns whether anything had to be done.

    Raises:
        FileNotFoundError: there is no `uv` beside this python.
        subprocess.CalledProcessError: `uv` failed; it has said why.
        subprocess.TimeoutExpired: it took longer than ten minutes.
    """
    note, wanted = environment / ".ready", fingerprint()
    if note.is_file() and note.read_text(encoding="utf-8") == wanted and python_of(environment).exists():
        return False
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        raise FileNotFoundError(f"{uv} is not there: run this with the project's python, as `make bench-bank` does")
    python = str(python_of(environment))
    # Compiled now, so that the first start of a server is timed like the next ones.
    install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", python)
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment))
    _run(uv, *install, "--require-hashes", "--requirements", str(FOLDER / "requirements.txt"))
    _run(uv, *install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    # The benchmarks import each other as `benchmarks.…`, from whichever folder they are started.
    for packages in environment.glob("lib/python*/site-packages"):
        (packages / "benchmarks.pth").write_text(f"{ROOT}\n", encoding="utf-8")
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
