"""How many requests may be under way in one process, found out by how long they take.

Beyond what a service can do at once, another request makes no more replies: it makes all of them later, until they come
after their clients have given up, and then everything is done in vain. So there is a limit, and what is over it is told
at once to come again. Its right value changes with every release and every database; so it is measured.

**The rule** is that of Netflix's Gradient2: the limit is multiplied by how far the latency is above the one without
queues, and a little is added, so that a limit that is too low grows. Half as much again is allowed before it counts.

**The latency without queues** is where the known rules go wrong. Gradient2 takes a long average, which under a long
overload becomes the overload's own, so the limit creeps up without end. Vegas takes the least latency seen, which on a
service with fast and slow routes is the fastest route's, so the limit collapses. Here it is an average while there is
little to do, and while the limit is used up it is measured by a probe, as in BBR: the limit is halved for as long as it
takes to drain the queues, and what the requests that begin then take tells one of two things. Where half of the
requests take half of the time each, the other half has only queued: the limit stays halved, and is probed again. Where
they do not, nothing queued, and what they take is the new measure; that is also how a backend that has become slower is
told from a queue. A probe takes some three rounds in sixty, and costs about a fifth of the replies of these.

**A round** is as many replies as there were requests under way when it began, and a minimum. By Little's law that is
the time of one reply, whatever that is, so the limiter needs no clock. A very slow reply counts at most eight times
the usual, so that it does not outweigh a round; the time of a stream counts until it begins.

**Priorities.** Each has a share of the limit that it may fill together with those below it, so what is under way for
lower ones always leaves room for higher ones. When the limit falls, critical requests are held to it a round later,
when the others have left.
"""

from collections.abc import Mapping
from enum import Enum
from math import inf, sqrt
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.problems import Overloaded
from workhorse.guard.verdict import Refusal
from workhorse.policy import Priority

__all__ = ["SHARES", "SHED", "Limiter"]

SHED: Final = Refusal("overload", Overloaded())
"""What a request is told for which there is no place."""

SHARES: Final[Mapping[Priority, float]] = {"low": 0.6, "normal": 0.8, "high": 0.9, "critical": 1.0}
"""The part of the limit up to which requests of each priority are let in."""

TOLERANCE: Final = 1.5
"""Latency, as a multiple of that without queues, up to which the limit is not lowered."""
LEAST_GRADIENT: Final = 0.5
SMOOTHING: Final = 0.4
"""Part of the way to the new limit that is gone in a round: at most a fifth down."""
START: Final = 32
"""The first limit, if the bounds allow it: with fewer under way, the first rounds would take long."""
MIN_ROUND: Final = 50
"""Replies below which an average says too little."""
ROUNDS_BETWEEN_PROBES: Final = 60
FIRST_PROBE: Final = 5
"""Rounds before the first one: the first measure may have been taken of queues."""
PROBE_ROUND: Final = 100
QUEUED: Final = 0.62
"""Latency that changes with the limit to this power or more is taken for queues; without noise, it would be 1 for
queues and 0 for none. To take a queue for none does more harm than to look once more."""
OUTLIER: Final = 8.0
WEIGHT: Final = 0.2
"""How much the average of one round counts for the latency without queues."""


class Phase(Enum):
    """What the replies of a round are for."""

    ORDINARY = 1
    SETTLE = 2
    """The limit is that of the probe, but these requests began before."""
    PROBE = 3


class Limiter:
    """Limits the requests under way in one process. Not for several threads.

    Args:
        minimum: the limit never goes below this, but for the halved shares of a probe.
        maximum: nor above this. The same as the minimum: it stays fixed.

    Raises:
        SettingsError: the limits are out of order.
    """

    __slots__ = (
        "_adaptive",
        "_baseline",
        "_ceilings",
        "_doubling",
        "_latency_before",
        "_left",
        "_limit",
        "_maximum",
        "_minimum",
        "_most_seconds",
        "_peak",
        "_phase",
        "_probed",
        "_round",
        "_rounds",
        "_shed_before",
        "_sum",
        "in_flight",
        "shed",
    )

    def __init__(self, minimum: int, maximum: int) -> None:
        if not 1 <= minimum <= maximum:
            raise SettingsError(
                f"guard.min_concurrent_requests is {minimum} and guard.max_concurrent_requests {maximum};"
                " the first is 1 or more, and not above the second"
            )
        self.in_flight = 0
        """Requests under way."""
        self.shed = 0
        """Requests not let in since the start."""
        self._minimum = float(minimum)
        self._maximum = float(maximum)
        self._adaptive = minimum < maximum
        self._limit = float(min(maximum, max(minimum, START)))
        self._doubling = True
        self._ceilings: dict[str, int] = {}
        self._hold(self._limit, critical=self._limit)
        self._baseline = 0.0
        self._most_seconds = inf
        self._phase = Phase.ORDINARY
        self._round = self._left = MIN_ROUND
        self._sum = 0.0
        self._shed_before = 0
        self._rounds = ROUNDS_BETWEEN_PROBES - FIRST_PROBE
        self._peak = 0.0
        self._probed = 0.0
        self._latency_before = 0.0

    def __repr__(self) -> str:
        return (
            f"<Limiter {self.in_flight} of {self.limit} under way, {self.shed} shed,"
            f" {self._baseline:.4f} s without queues, {self._phase.name.lower()}>"
        )

    @property
    def limit(self) -> int:
        """How many requests may be under way at present, all priorities together."""
        return int(self._limit)

    @property
    def baseline_seconds(self) -> float:
        """The latency without queues, as far as it is known; 0: not yet."""
        return self._baseline

    def try_enter(self, priority: Priority) -> bool:
        """Let a request in, if there is room for its priority. Whoever was let in must leave, once."""
        if self.in_flight < self._ceilings[priority]:
            self.in_flight += 1
            return True
        self.shed += 1
        return False

    def leave(self, latency_seconds: float, *, dropped: bool = False) -> None:
        """Note that a request is under way no more: its reply begins, or it has ended.

        Args:
            latency_seconds: how long the service worked for it, without the time that it waited for the client.
            dropped: it was ended because it took too long, and nobody knows how long it would have taken.
        """
        self.in_flight -= 1
        most = self._most_seconds
        if latency_seconds > most or (dropped and most < inf):
            latency_seconds = most
        self._sum += latency_seconds
        self._left -= 1
        if self._left <= 0:
            self._end_round()

    def leave_unmeasured(self) -> None:
        """Note that a request is under way no more which tells nothing of how long they take: its client has left."""
        self.in_flight -= 1

    def _end_round(self) -> None:
        if self._adaptive:
            latency = self._sum / self._round
            if self._phase is Phase.ORDINARY:
                self._adapt(latency)
            elif self._phase is Phase.SETTLE:
                self._phase = Phase.PROBE
            else:
                self._end_probe(latency)
            # Of the last round, too: a queue that makes all of them slow is no outlier.
            self._most_seconds = max(self._baseline, latency) * OUTLIER or inf
        self._sum = 0.0
        if self._phase is Phase.ORDINARY:
            self._round = max(MIN_ROUND, self.in_flight)
        elif self._phase is Phase.SETTLE:
            # Until nearly all have left that were under way when the probe began; they do not leave in order.
            self._round = max(MIN_ROUND, self.in_flight * 2)
        else:
            self._round = max(PROBE_ROUND, self.in_flight)
        self._left = self._round
        self._shed_before = self.shed

    def _adapt(self, latency: float) -> None:
        limit = self._limit
        used_up = self.in_flight * 2 >= limit or self.shed != self._shed_before
        if self._baseline == 0:
            self._baseline = latency
        elif not used_up or latency < self._baseline:
            self._baseline += (latency - self._baseline) * WEIGHT
        if not used_up:
            self._hold(limit, critical=limit)
            return
        gradient = max(LEAST_GRADIENT, min(1.0, TOLERANCE * self._baseline / latency)) if latency > 0 else 1.0
        if gradient < 1:
            self._doubling = False
        change = limit if self._doubling else (limit * gradient + sqrt(limit) - limit) * SMOOTHING
        self._limit = min(self._maximum, max(self._minimum, limit + change))
        self._hold(self._limit, critical=max(limit, self._limit))
        self._rounds += 1
        # A limit that falls and falls: the sooner it is known whether these are queues at all, the better.
        self._peak = max(self._peak, self._limit)
        if self._rounds >= ROUNDS_BETWEEN_PROBES or self._limit * 2 < self._peak:
            self._begin_probe(latency, critical=max(limit, self._limit))

    def _begin_probe(self, latency: float, *, critical: float) -> None:
        half = self._limit / 2
        self._probed = half if half >= self._minimum else min(self._limit * 2, self._maximum)
        self._latency_before = latency
        self._peak = self._limit
        self._rounds = 0
        self._phase = Phase.SETTLE
        self._hold(self._probed, critical=max(critical, self._probed))

    def _end_probe(self, latency: float) -> None:
        self._phase = Phase.ORDINARY
        before = max(self._latency_before, 1e-9)
        lower = self._probed < self._limit
        ratio = (self._probed / self._limit) ** QUEUED
        if lower == (latency / before > ratio):
            # No queue at the lower of the two limits.
            known, self._baseline = self._baseline, latency if lower else before
            # Slower by itself: the limit was lowered in error, and is found anew.
            self._doubling = self._baseline > known * TOLERANCE
        elif lower:
            self._limit = self._probed
            self._rounds = ROUNDS_BETWEEN_PROBES
        self._hold(self._limit, critical=max(self._limit, self._probed))

    def _hold(self, limit: float, *, critical: float) -> None:
        """Set up to how many requests each priority is let in."""
        for priority, share in SHARES.items():
            self._ceilings[priority] = max(1, int(limit * share))
        self._ceilings["critical"] = max(1, int(critical))
