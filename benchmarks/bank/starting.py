"""How soon the embedded servers are there: in a new folder (cold), and in one that they ran in before (warm)."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workhorse.embedded import attach, status

__all__ = ["Starts", "measure_starts"]


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds until Postgres and the cache were ready, in each round."""

    cold: Sequence[float]
    """The folder, the database cluster and its first start."""
    warm: Sequence[float]


def measure_starts(rounds: int) -> Starts:
    """Start the servers in a new folder, stop them, and start them again, so many times."""
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench-start-") as scratch:
            folder = Path(scratch) / "servers"
            for times in (cold, warm):
                began = time.perf_counter()
                with attach(folder, linger_seconds=0):
                    times.append(time.perf_counter() - began)
                _until_ended(folder)
    return Starts(cold, warm)


def _until_ended(folder: Path, deadline_seconds: float = 30.0) -> None:
    """Wait for the servers to end.

    Raises:
        TimeoutError: they did not.
    """
    deadline = time.monotonic() + deadline_seconds
    while any(server.pid is not None for server in status(folder).servers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the servers of {folder} did not end within {deadline_seconds:g} s")
        time.sleep(0.05)
