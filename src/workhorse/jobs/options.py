"""How a worker works, and who calls it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from workhorse.errors import SettingsError
from workhorse.jobs.upkeep import History

__all__ = ["CHANNEL", "Notices", "WorkerOptions"]

CHANNEL: Final = "workhorse_jobs"
"""Where workers are called: the channel for `state.postgres.notices`."""


class Notices(Protocol):
    """Where calls come from (`state.postgres.notices`)."""

    async def follow(self, heard: Callable[[str], None]) -> None:
        """Listen until cancelled; call `heard` with each payload, and with an empty one when listening has begun.

        Raises:
            DatabaseUnavailable: the connection could not be had, or was lost.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works.

    Args:
        concurrency: jobs that run at once, at most.
        threads: of those that are not async, at most so many.
        lease_seconds: a worker that was not heard of for so long is taken for dead.
        beat_seconds: between two signs of life. A dead worker's jobs are back after at most the sum of the two.
        drain_seconds: how long jobs may go on at a stop; what is not done then is given back.
        history: how long finished and dead jobs are kept.
    """

    concurrency: int = 50
    threads: int = 8
    lease_seconds: float = 10.0
    beat_seconds: float = 4.0
    drain_seconds: float = 20.0
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= 1_000:
            raise SettingsError(f"a worker's concurrency is {self.concurrency}; it must be 1 to 1000")
        if not 1 <= self.threads <= 256:
            raise SettingsError(f"a worker's threads are {self.threads}; there must be 1 to 256")
        if not 0 < self.beat_seconds <= self.lease_seconds / 2:
            raise SettingsError(
                f"beat_seconds is {self.beat_seconds:g}; it must be over 0 and at most half of lease_seconds, which is"
                f" {self.lease_seconds:g}, so that one late beat kills nobody"
            )
