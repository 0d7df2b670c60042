"""When a failed job is tried again: after a pause that doubles, and that chance spreads.

Jobs that fail together (their mail server is away) would come back together, at the very moment when the server has
trouble enough. So each pause is drawn from a range: from half of the nominal pause to all of it ("equal jitter",
Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015).
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["ONCE", "Retries"]

MAX_ATTEMPTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a job is tried, and how long it rests in between.

    Args:
        attempts: in all, the first one included.
        first_seconds: the pause after the first failure.
        factor: by which each further pause is longer.
        most_seconds: the longest pause.

    Raises:
        ValueError: a number is out of its range; the message names it.
    """

    attempts: int = 8
    first_seconds: float = 1.0
    factor: float = 4.0
    most_seconds: float = 3_600.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts is {self.attempts}; it must be 1 to {MAX_ATTEMPTS}")
        if not 0 <= self.first_seconds <= self.most_seconds:
            raise ValueError(
                f"first_seconds is {self.first_seconds:g}; it must be 0 to most_seconds, which is {self.most_seconds:g}"
            )
        if self.factor < 1:
            raise ValueError(f"factor is {self.factor:g}; a pause cannot become shorter, so it must be at least 1")

    def pause_seconds(self, failures: int, chance: float) -> float:
        """How long to wait after so many failed attempts. `chance` is drawn from 0 to 1."""
        # The exponent is bounded: a float overflows at a few hundred.
        nominal = min(self.most_seconds, self.first_seconds * self.factor ** min(failures - 1, 64))
        return nominal * (0.5 + chance / 2)


ONCE: Final = Retries(attempts=1)
"""A job that is not tried again."""
