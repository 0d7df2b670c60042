"""The fuzzer's own environment, fuzz/.venv: atheris, and whatever the project's environment has.

It borrows the project's packages instead of installing them a second time, so what is fuzzed is what is tested, to the
version. atheris stays out of the project's environment because there are wheels for Linux only.
"""

import sysconfig
from pathlib import Path
from typing import Final

from benchmarks.environment import make as make_environment
from benchmarks.environment import python_of

__all__ = ["make"]

FOLDER: Final = Path(__file__).resolve().parent


def make() -> Path:
    """Bring the environment up to date, and return its interpreter.

    Raises:
        OSError: the project's environment lacks what is needed to make it.
        subprocess.SubprocessError: it could not be made; `uv` has said why, for one that there is no wheel of atheris
            for this system.
    """
    environment = FOLDER / ".venv"
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    make_environment(
        environment,
        requirements=FOLDER / "requirements.txt",
        workhorse=False,
        path=[f"import site; site.addsitedir({package!r})" for package in sorted(packages)],
    )
    return python_of(environment)
