"""Runs a tool for a bounded time, in a folder of its own, and keeps what it said."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Said", "run_tool"]

GRACE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a tool printed, and how it ended."""

    output: str
    code: int
    timed_out: bool

    def tail(self, lines: int = 15) -> str:
        """The end of its output."""
        return "\n".join(self.output.strip().splitlines()[-lines:])


async def run_tool(command: Sequence[str | Path], *, folder: Path, seconds: float) -> Said:
    """Run a tool for at most `seconds`, which it should keep to by itself, and half a minute of grace."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        # Nothing of the caller's: no settings, and a home of its own for what the tool keeps.
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(folder), "TERM": "dumb", "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    timed_out = False
    output = b""
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        timed_out = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
    return Said(output.decode("utf-8", "replace"), code, timed_out)
