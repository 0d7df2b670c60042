"""Which processes an earlier steward left behind in a data folder.

A pid in a file proves nothing: it may be another program's by now, and Postgres itself, which trusts such a file,
then refuses to start. On Linux every process of both servers stays in its data folder, so what is there, and runs the
server's program, is a left-over, whatever any file says; and when nothing is there, the pid file is stale. macOS has no
/proc, so there the pid in the file is believed only where `ps` shows the server's program under it.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["left_overs"]

DELETED: Final = " (deleted)"
PS_SECONDS: Final = 5.0


def left_overs(data: Path, programs: frozenset[str], pid_file: Path) -> list[int]:
    """The pids that run one of `programs` in the folder `data`."""
    if sys.platform != "linux":
        return _named_by(pid_file, programs)
    wanted = os.fspath(data)
    return [pid for pid in _all_pids() if _is_in(pid, wanted, programs)]


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - half a thousand Paths less


def _is_in(pid: int, data: str, programs: frozenset[str]) -> bool:
    # A process that ends meanwhile, or that is somebody else's, cannot be read and is none of ours.
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/cwd").removesuffix(DELETED) == data:  # noqa: PTH115 - as above
            return Path(os.readlink(f"/proc/{pid}/exe").removesuffix(DELETED)).name in programs  # noqa: PTH115
    return False


def _named_by(pid_file: Path, programs: frozenset[str]) -> list[int]:
    # Only here, because it takes as long to import as the rest of the steward together.
    import subprocess  # noqa: PLC0415

    try:
        pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
        shown = subprocess.run(  # noqa: S603
            ["/bin/ps", "-o", "comm=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=PS_SECONDS,
            check=False,
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return []
    return [pid] if Path(shown.stdout.strip()).name in programs else []
