"""How long a migrator waits, and for what."""

import random
import time
from dataclasses import dataclass
from typing import Final

from workhorse.errors import StartupError

__all__ = ["Deadline", "Patience"]

FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The bounds of one run, in seconds."""

    turn_seconds: float = 60.0
    """For another process that migrates the same database."""
    lock_seconds: float = 2.0
    """For one lock, in one try: so long do requests wait behind it, at most."""
    retry_seconds: float = 120.0
    """For the locks of one migration, in all its tries."""
    deadline_seconds: float = 3600.0
    """For everything. What runs then is cancelled."""

    def pause(self, tries: int) -> float:
        """The pause after so many tries: it doubles, and is drawn by lot, so that it meets no other clock's beat."""
        longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 10), LAST_PAUSE_SECONDS)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing


class Deadline:
    """The end of a run."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then.

        Raises:
            StartupError: it has come.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise StartupError(
                f"the migrations took longer than {self._seconds:g} s. What is done stands; run it again, with a later"
                " deadline (`workhorse migrate --deadline SECONDS`), and it goes on from there"
            )
        return left
