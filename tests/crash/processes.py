"""The processes of this machine, as far as the siege needs to know them."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["alive", "processes", "session"]


def processes() -> list[tuple[int, int, str]]:
    """Pid, parent and command line of every process."""
    if sys.platform != "linux":
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        return [(int(pid), int(parent), command) for pid, parent, command in rows]
    found: list[tuple[int, int, str]] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # After the command in parentheses, which may hold anything: state, parent, ... (proc_pid_stat(5)).
                _, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found.append((int(folder.name), int(parent), command))
    return found


def session(leader: int) -> list[int]:
    """The processes of a session."""
    pids: list[int] = []
    for pid, _, _ in processes():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader:
                pids.append(pid)
    return pids


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has asked about has no command line any more."""
    return any(other == pid and command for other, _, command in processes())
