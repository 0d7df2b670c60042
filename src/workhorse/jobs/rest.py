"""When a worker that found nothing looks again: pure decisions, without a clock of their own.

A worker that sleeps is woken by a notice of whoever enqueues. But NOTIFY takes a lock of the whole cluster at COMMIT,
which would make the commits of a busy service stand in line. So while jobs come often, a worker does not sleep: it
looks again after a few milliseconds, and nobody has to call it.

No wake-up is lost. Whoever enqueued before he could see the worker sleeping wrote before the worker lay down; so the
worker looks again until every transaction has ended that was writing then (`View`), and only then relies on being
called. A long poll is the net below that, for what nobody thought of.
"""

import math
from typing import Final

from workhorse.jobs.engine import View

__all__ = ["LOOK_AGAIN_SECONDS", "NET_SECONDS", "POLL_SECONDS", "Pace", "Rest"]

POLL_SECONDS: Final = 0.004
"""Between two looks while jobs come often."""
NET_SECONDS: Final = 10.0
"""Between two looks while nothing happens."""
LOOK_AGAIN_SECONDS: Final = 0.05
"""Between two looks while somebody writes who may not have seen the worker sleeping."""
LONGEST_LOOK_AGAIN_SECONDS: Final = 1.0
BUSY_PER_SECOND: Final = 200.0
QUIET_PER_SECOND: Final = 100.0


class Pace:
    """How many jobs come a second, of late: an average that forgets with a half-life of a third of a second."""

    __slots__ = ("_at", "_rate")

    TAU: Final = 0.5

    def __init__(self) -> None:
        self._rate = 0.0
        self._at = 0.0

    def add(self, jobs: int, now: float) -> None:
        """Count jobs that came."""
        self._rate = self.per_second(now) + jobs / self.TAU
        self._at = now

    def per_second(self, now: float) -> float:
        """The average at a time that is not before the last one."""
        return self._rate * math.exp((self._at - now) / self.TAU)


class Rest:
    """Whether the worker sleeps, and when it looks again."""

    __slots__ = ("_again", "_horizon", "settled", "sleeping")

    def __init__(self) -> None:
        self.sleeping = False
        """Whether the database says so."""
        self.settled = False
        """Whether everybody who writes now sees it."""
        self._horizon: int | None = None
        self._again = LOOK_AGAIN_SECONDS

    def should_sleep(self, per_second: float) -> bool:
        """Whether to be called rather than to look."""
        return per_second < (BUSY_PER_SECOND if self.sleeping else QUIET_PER_SECOND)

    def lay_down(self) -> None:
        """The database says now that the worker sleeps."""
        self.sleeping, self.settled, self._horizon, self._again = True, False, None, LOOK_AGAIN_SECONDS

    def get_up(self) -> None:
        """The database says now that it does not."""
        self.sleeping = self.settled = False

    def see(self, view: View) -> bool:
        """Take in a view that is later than the lying down. True: one more look for jobs, and then all is settled."""
        if self.settled:
            return False
        if self._horizon is None:
            self._horizon = view.newest
        self.settled = view.oldest >= self._horizon
        return self.settled

    def pause_seconds(self, view: View) -> float:
        """How long to wait for a call."""
        pause = NET_SECONDS
        if not self.settled:
            pause, self._again = self._again, min(self._again * 2, LONGEST_LOOK_AGAIN_SECONDS)
        if view.due_in is not None:
            pause = min(pause, max(0.0, view.due_in))
        return pause
