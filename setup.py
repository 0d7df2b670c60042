"""Compiles the modules that decide on every request, where WORKHORSE_COMPILE=1 asks for it. All else: pyproject.toml.

Without it the wheel is plain Python and runs everywhere. With it, mypyc makes an extension of each of these modules
and leaves the .py beside it, so that one that cannot be loaded is no loss. What waits (`await`) is not compiled: mypyc
passes a cancellation on in a way that Python has deprecated.
"""

import os
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
ROOMLESS = ["context", "networks", "policy", "rate"]
GUARD = [
    "access",
    "admission",
    "entrance",
    "exchange",
    "facts",
    "headers",
    "limits",
    "permit",
    "problems",
    "routes",
    "shedding",
    "verdict",
    "watch",
]
# No page is served by it a thousand times a second, and it uses what mypyc does not know.
PLAIN_CHECKS = {"__init__", "csrf_token"}

HOT = [
    *(f"src/workhorse/{name}.py" for name in ROOMLESS),
    *(f"src/workhorse/guard/{name}.py" for name in GUARD),
    *(
        f"src/workhorse/guard/checks/{path.stem}.py"
        for path in sorted((ROOT / "src/workhorse/guard/checks").glob("*.py"))
        if path.stem not in PLAIN_CHECKS
    ),
    # Not telemetry/lines: what costs there is msgspec's, and mypyc takes a frozenset `&` keys for a frozenset.
    "src/workhorse/identity/known.py",
    "src/workhorse/state/clock.py",
    "src/workhorse/state/gcra.py",
    "src/workhorse/state/memory/cells.py",
    "src/workhorse/telemetry/metrics.py",
    "src/workhorse/telemetry/trace.py",
]

if os.environ.get("WORKHORSE_COMPILE") == "1":
    # Only here: whoever installs the plain wheel needs no compiler.
    from mypyc.build import mypycify

    setup(ext_modules=mypycify(["--config-file=mypyc.ini", *HOT], opt_level="3", debug_level="0"))
else:
    setup()
