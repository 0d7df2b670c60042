"""What is asked of every engine. One object of it lives in one process, in one of its roles."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

__all__ = ["AT_ONCE", "Begin", "Engine", "Enqueuer", "Gate", "Servers"]

AT_ONCE: Final = 200
"""Jobs that a worker runs at once, where an engine has a setting for it: enough for all of them to be quick."""

GATE_SECONDS: Final = 60.0

Begin = Callable[[int], None]
"""What a job calls first, with its number: writes the mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where an engine keeps its jobs."""

    database: str
    cache: str


class Enqueuer(Protocol):
    """Enqueues jobs that do nothing. Each call has committed when it returns."""

    async def many(self, numbers: Sequence[int], /) -> None:
        """A thousand or so, in the quickest way that the engine offers."""
        ...

    async def one(self, number: int, /) -> None:
        """One."""
        ...


class Engine(ABC):
    """An engine with the defaults that its own pages show for durable jobs."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    @abstractmethod
    async def prepare(self) -> None:
        """Make its tables."""

    @abstractmethod
    def enqueuer(self) -> AbstractAsyncContextManager[Enqueuer]:
        """Connected, during the block."""

    @abstractmethod
    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker until SIGTERM. Calls `gate` once, as late as it can be before the first job is taken."""


class Gate:
    """Holds several workers until all are there, so that none has the queue to itself while another still starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arrive(self, worker: str) -> None:
        """Say that this worker is there, and wait for the others.

        Raises:
            TimeoutError: nobody opened the gate for a minute.
        """
        (self._folder / f"there-{worker}").touch()
        deadline = time.monotonic() + GATE_SECONDS
        while not (self._folder / "open").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the gate {self._folder} was not opened within {GATE_SECONDS:g} s")
            time.sleep(0.002)

    @property
    def waiting(self) -> int:
        """How many have arrived."""
        return len(list(self._folder.glob("there-*")))

    def open(self) -> None:
        """Let them go."""
        (self._folder / "open").touch()
