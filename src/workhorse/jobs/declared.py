"""What is said of a job where it is declared and where it is enqueued, checked there.

Whatever the database would refuse is refused here: a statement that fails at the commit undoes the whole request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from workhorse.jobs.retries import Retries

__all__ = ["SMALLINT", "Definition", "EnqueueOptions", "Upgrade", "check_queue"]

Upgrade = Callable[[int, dict[str, Any]], Mapping[str, Any]]
"""Gives the arguments of today for a version of before and its arguments."""

_QUEUE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,49}")
MAX_KEY: Final = 200
SMALLINT: Final = 32_767
LONGEST: Final = timedelta(days=36_525)


def check_queue(name: str) -> None:
    """Refuse what is no name of a queue.

    Raises:
        ValueError: it is none.
    """
    if not _QUEUE.fullmatch(name):
        raise ValueError(f"the queue {name[:80]!r} is no name: write at most 50 of a-z 0-9 _ . -, a-z first")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """How one job is enqueued."""

    queue: str
    priority: int
    delay: timedelta | None = None
    at: datetime | None = None
    key: str | None = None
    unique: str | None = None
    unique_window: timedelta | None = None

    def __post_init__(self) -> None:
        check_queue(self.queue)
        if not -SMALLINT <= self.priority <= SMALLINT:
            raise ValueError(f"the priority {self.priority} is not within {-SMALLINT} and {SMALLINT}")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError(f"at={self.at.isoformat()} has no time zone; give it one, such as datetime.now(UTC)")
        if self.at is not None and self.delay is not None:
            raise ValueError("at and delay both say when the job is run; give one of them")
        if self.unique_window is not None and self.unique is None:
            raise ValueError("unique_window says for how long a unique key holds; give the key as unique=...")
        if self.delay is not None and abs(self.delay) > LONGEST:
            raise ValueError(f"delay={self.delay} is longer than {LONGEST.days} days, which is more than is taken")
        if self.unique_window is not None and not timedelta(0) < self.unique_window <= LONGEST:
            raise ValueError(f"unique_window={self.unique_window} is not above 0 and {LONGEST.days} days at most")
        for name, value in (("key", self.key), ("unique", self.unique)):
            if value is not None and not (1 <= len(value) <= MAX_KEY and value.isprintable()):
                raise ValueError(f"{name}={value[:220]!r} is not 1 to {MAX_KEY} printable characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is declared of a job with its function."""

    name: str
    version: int
    retries: Retries
    deadline_seconds: float
    blocks: bool
    upgrade: Upgrade | None
