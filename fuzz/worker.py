"""One harness under libFuzzer: `python -m fuzz.worker NAME [options of libFuzzer] CORPUS`.

Runs under the fuzzer's own environment, which the runner makes. Only what is under test and its oracles are
instrumented, so that what libFuzzer takes for new is new in there, and not in the interpreter's library.
"""

import importlib
import sys
from typing import Any, Final

__all__ = ["main"]

INSTRUMENTED: Final = ("workhorse", "bank", "fuzz")


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough. Ends the process."""
    # Not at the top: the tests, and the runner's environment, do not have it; and what is imported before it is not
    # instrumented.
    engine: Any = importlib.import_module("atheris")
    with engine.instrument_imports(include=list(INSTRUMENTED)):
        from fuzz.catalogue import CANARY, HARNESSES  # noqa: PLC0415

    harness = CANARY if sys.argv[1] == CANARY.name else HARNESSES[sys.argv[1]]
    engine.Setup([sys.argv[0], *sys.argv[2:]], harness.run)
    engine.Fuzz()


if __name__ == "__main__":
    main()
