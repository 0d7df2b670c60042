"""Counts instructions by valgrind's callgrind, from inside of the program that is counted.

A program under valgrind speaks to it by client requests: a few instructions that do nothing on a real processor and
that valgrind recognises (its manual, section 3.1). Here they are machine code in a page of memory, called as a C
function: so neither a compiler nor valgrind's headers are needed, and what is counted is exactly what lies between two
calls, without the imports and the warm-up. Those run uncounted, at a fifth of the usual speed instead of a fiftieth.

What is counted is the program's own instructions, on all its threads; not the kernel's. They repeat to within a
percent whatever else the machine does, which times do not.
"""

import ctypes
import mmap
import platform
import re
import shutil
import string
from pathlib import Path
from typing import Final

__all__ = ["Counter", "command", "missing", "read_total"]

# mov rax, rdi; xor edx, edx; rol rdi by 3, 13, 61 and 51; xchg rbx, rbx; mov rax, rdx; ret: rax points to the request
# and its five arguments, rdx is the answer where nobody listens (valgrind.h, for amd64).
CODE: Final = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
MACHINE: Final = "x86_64"
RUNNING_ON_VALGRIND: Final = 0x1001
CALLGRIND: Final = ord("C") << 24 | ord("T") << 16
ZERO_STATS, DUMP_STATS_AT, START, STOP = CALLGRIND | 1, CALLGRIND | 3, CALLGRIND | 4, CALLGRIND | 5

# The beginnings of all functions that have a name; but for the dynamic linker's (_dl), which callgrind must not skip.
NAMED: Final = (*string.ascii_letters, "__", *(f"_{letter}" for letter in string.ascii_letters if letter != "d"))
_TOTAL: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)
_NAME: Final = re.compile(r"^desc: Trigger: Client Request: (.*)$", re.MULTILINE)


def missing() -> str:
    """Why instructions cannot be counted here; empty if they can."""
    if platform.machine() != MACHINE:
        return f"they are counted on {MACHINE} only, and this is {platform.machine()}"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (apt install valgrind)"
    return ""


def command(output: Path, *, functions_of_python: bool = False) -> tuple[str, ...]:
    """What to put before a program's command line, so that its counts land in the folder `output`.

    With `functions_of_python`, whatever the interpreter's own functions do is counted to the Python function that they
    do it for (see `profiling`).
    """
    skipped = [f"--fn-skip={start}*" for start in NAMED] if functions_of_python else []
    return (
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--quiet",
        f"--callgrind-out-file={output}/%p",
        f"--log-file={output}/log.%p",
        *skipped,
    )


class Counter:
    """Says to callgrind what to count.

    Raises:
        OSError: the system allows no page of code.
        RuntimeError: this program does not run under valgrind, or not on the processor that the code is for.
    """

    def __init__(self) -> None:
        if platform.machine() != MACHINE:
            raise RuntimeError(f"instructions are counted on {MACHINE} only, and this is {platform.machine()}")
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)
        if not self._ask(RUNNING_ON_VALGRIND):
            raise RuntimeError("this program does not run under valgrind")

    def start(self) -> None:
        """Count from here on."""
        self._ask(START)
        self._ask(ZERO_STATS)

    def stop(self, name: str) -> None:
        """Count no more, and write what was counted as `name`."""
        self._ask(STOP)
        label = ctypes.create_string_buffer(name.encode())
        self._ask(DUMP_STATS_AT, ctypes.addressof(label))

    def _ask(self, request: int, argument: int = 0) -> int:
        words = (ctypes.c_uint64 * 6)(request, argument)
        return int(self._call(ctypes.addressof(words)))


def read_total(text: str) -> tuple[str, int] | None:
    """The name and the number of instructions in one of callgrind's files; None where it has none."""
    name, total = _NAME.search(text), _TOTAL.search(text)
    return (name[1], int(total[1])) if name and total else None
