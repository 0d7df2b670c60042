"""A store that is away is asked now and then, not by everybody: so it costs a time-out once, not once a call.

The first failure opens the circuit for half a second, each further one for twice as long, up to a bound. When that time
is over one call goes through as a probe. If the store answers the circuit is closed; if the probe is given up before
it knows, the next one goes after a moment.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

__all__ = ["Circuit"]

# How long after a probe the next one goes, if nothing was heard of the first.
PROBE_SECONDS: Final = 1.0


class Circuit:
    """Whether to ask the store.

    Args:
        first_seconds: how long it is not asked after it failed for the first time.
        most_seconds: the same after it failed many times.
        clock: seconds on a clock that never goes back.
    """

    __slots__ = ("_clock", "_failures", "_first", "_most", "_probing", "_until")

    def __init__(
        self, *, first_seconds: float = 0.5, most_seconds: float = 8.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._first = first_seconds
        self._most = most_seconds
        self._failures = 0
        self._until = 0.0
        self._probing = False

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self._failures else 'closed'} after {self._failures} failures>"

    @property
    def closed(self) -> bool:
        """Whether the store answered when it was last asked."""
        return self._failures == 0

    def admits(self) -> bool:
        """Whether to ask now. A yes while the circuit is open is a probe's."""
        if not self._failures:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._until = now + PROBE_SECONDS
        self._probing = True
        return True

    def succeeded(self) -> bool:
        """Note an answer. Returns whether it is the first after failures."""
        back, self._failures, self._probing = self._failures > 0, 0, False
        return back

    def failed(self) -> bool:
        """Note that none came. Returns whether it is the first failure."""
        if self._failures and not self._probing:
            return False  # it was under way when the circuit opened, and says nothing new
        self._until = self._clock() + min(self._first * 2 ** min(self._failures, 20), self._most)
        self._failures += 1
        self._probing = False
        return self._failures == 1
