"""Where the guard's instructions go, by Python function.

Callgrind sees the functions of the interpreter, not those of Python. But since 3.12 CPython can give each Python
function a few bytes of machine code to be called through (`sys.activate_stack_trampoline`), and writes down which bytes
are whose. Callgrind is told to look through all functions that have a name (`--fn-skip`), so that what remains are
these trampolines: what they cost is what their function costs, with all that the interpreter does for it.

The trampolines cost something themselves, the more the more functions are called, and prevent the inlining of calls: so
these are shares, and the sum is some fifteen percent too high.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["FunctionCost", "read_map", "read_profile", "read_profiles"]

_NAMED: Final = re.compile(r"\((\d+)\)(?: (.*))?")
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
HERE: Final = f"{Path(__file__).resolve().parents[2]}/"
NOT_PYTHON: Final = "not Python"
_COST: Final = re.compile(r"[+*-]?\d|[*]")


class FunctionCost(NamedTuple):
    """One Python function."""

    name: str
    """Its qualified name and its file."""
    own: float
    """Instructions per request, without those of Python functions that it called."""
    calls: float
    """Per request. A coroutine is called anew when it goes on after a wait."""


def read_map(text: str) -> list[tuple[int, int, str]]:
    """A perf map: per function its first address, its length and its name, sorted."""
    lines = (line.split(" ", 2) for line in text.splitlines() if line.count(" ") >= 2)
    return sorted(
        (int(start, 16), int(length, 16), name.removeprefix("py::").replace(HERE, "")) for start, length, name in lines
    )


def read_profile(text: str, functions: Sequence[tuple[int, int, str]], requests: int) -> list[FunctionCost]:
    """The cost of each function of `functions` in one of callgrind's files, the dearest first.

    What is none of Python's functions (the event loop's C code, say) comes as `not Python`.
    """
    starts = [start for start, _, _ in functions]
    names: dict[str, str] = {}

    def resolve(given: str) -> str:
        match = _NAMED.fullmatch(given)
        assert match is not None, f"callgrind's format has another name compression: {given!r}"
        if match[2] is not None:
            names[match[1]] = match[2]
        name = names[match[1]].partition("'")[0]  # a recursion has its number behind it
        if _ADDRESS.fullmatch(name):
            address = int(name, 16)
            index = bisect_right(starts, address) - 1
            if index >= 0 and address < functions[index][0] + functions[index][1]:
                return functions[index][2]
        return NOT_PYTHON

    own: defaultdict[str, int] = defaultdict(int)
    calls: defaultdict[str, int] = defaultdict(int)
    function = callee = NOT_PYTHON
    calling = False
    for line in text.splitlines():
        if line.startswith("fn="):
            function = resolve(line[3:])
        elif line.startswith("cfn="):
            callee = resolve(line[4:])
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
            calling = True
        elif _COST.match(line):
            if not calling:  # the line after a call has the callee's cost, which stands at the callee, too
                own[function] += int(line.split()[-1])
            calling = False
    found = [FunctionCost(name, cost / requests, calls[name] / requests) for name, cost in own.items()]
    return sorted(found, key=lambda function: -function.own)


def read_profiles(folder: Path, method: str, requests: int) -> list[FunctionCost]:
    """The profile that a nest left in `folder` for one method; nothing where it left none."""
    for file in folder.glob("*.map"):
        functions = read_map(file.read_text(encoding="utf-8", errors="replace"))
        for counts in folder.glob(f"{file.stem}.[0-9]*"):
            text = counts.read_text(encoding="utf-8", errors="replace")
            if f"\ndesc: Trigger: Client Request: {method}\n" in text:
                return read_profile(text, functions, requests)
    return []
