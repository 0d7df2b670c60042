"""Contestants in processes of their own that take turns: each is told how often to act, and tells its own CPU time.

    > 100
    < cpu 812.4        microseconds of CPU time for each of them

What slows the machine for a while slows all of them, and none sees what another has imported or configured.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.processes import MeasurementError

__all__ = ["Contestant", "act", "started"]

ROOT: Final = Path(__file__).parents[1]
SECONDS: Final = 120.0
STOP_SECONDS: Final = 10.0


class Contestant:
    """A contestant in a process of its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    async def act(self, times: int) -> float:
        """Have it act so often. Returns microseconds of CPU time each.

        Raises:
            MeasurementError: it failed, or did not answer in time.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{times}\n".encode())
        async with asyncio.timeout(SECONDS):
            while line := (await stdout.readline()).decode():
                if line.startswith("cpu "):
                    return float(line.split()[1])
        raise MeasurementError(f"{self._name}: it ended before it had acted {times} times")


@asynccontextmanager
async def started(
    module: str, name: str, environment: Mapping[str, str], *, warm_up: int = 20
) -> AsyncGenerator[Contestant]:
    """`python -m module name`, warm; it is ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        name,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        contestant = Contestant(name, process)
        await contestant.act(warm_up)
        yield contestant
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def act(once: Callable[[], Awaitable[None]]) -> None:
    """In the contestant's process: do what is asked for, line by line, until there is no more."""
    while asked := (await asyncio.to_thread(sys.stdin.readline)).strip():
        gc.collect()
        began = time.process_time()
        for _ in range(int(asked)):
            await once()
        spent = (time.process_time() - began) / int(asked) * 1e6
        sys.stdout.write(f"cpu {spent:.3f}\n")
        sys.stdout.flush()
