"""What follows an attempt to deliver, decided without touching anything."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

__all__ = ["RETRY_SECONDS", "Next", "Outcome", "next_step", "retry_after"]

RETRY_SECONDS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The pauses between attempts that Standard Webhooks recommends: ten attempts in about three days."""

SPREAD: Final = 0.2
MAX_RETRY_AFTER: Final = 86_400
GONE: Final = 410
MAX_ERROR: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    status: int = 0
    """Of the reply; 0: there was none."""
    error: str = ""
    """Why there was none."""
    retry_after: float | None = None
    """Seconds, if the reply said so."""

    @property
    def taken(self) -> bool:
        """Whether the endpoint has taken it: any 2xx. A redirect is none."""
        return 200 <= self.status < 300

    @property
    def said(self) -> str:
        """For people."""
        return (self.error or f"the reply was {self.status}")[:MAX_ERROR]


class Next(Enum):
    """What is done with a delivery after an attempt."""

    FORGET = auto()
    """It was taken."""
    RETRY = auto()
    """It is tried again after the pause."""
    BURY = auto()
    """It is a dead letter: kept, and not tried again by itself."""
    DISABLE = auto()
    """Nothing more is sent to the endpoint; the delivery waits with the others."""


def next_step(
    outcome: Outcome, attempts: int, pauses: Sequence[float], *, ordered: bool, chance: float | None = None
) -> tuple[Next, float]:
    """What follows, and for a retry the pause in seconds.

    Args:
        outcome: of the last attempt.
        attempts: how many there were.
        pauses: after each that failed; one attempt more than there are pauses.
        ordered: what comes later must not pass it by, so that it cannot be buried: the endpoint is disabled.
        chance: 0 to 1, which spreads those who wait; by default random.
    """
    if outcome.taken:
        return Next.FORGET, 0.0
    if outcome.status == GONE:
        return Next.DISABLE, 0.0
    if attempts > len(pauses):
        return (Next.DISABLE if ordered else Next.BURY), 0.0
    spread = random.random() if chance is None else chance  # noqa: S311 - spreads load, hides nothing
    pause = pauses[attempts - 1] * (1 - SPREAD + 2 * SPREAD * spread)
    return Next.RETRY, max(pause, min(outcome.retry_after or 0.0, MAX_RETRY_AFTER))


def retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After (RFC 9110, section 10.2.3). A date is not taken: clocks differ."""
    return float(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 9 else None
