"""What is decided about a connection, from how it looked a moment ago and how it looks now. Nothing here does I/O.

A server hides its connections, but the kernel counts the bytes of each, and the app knows which of them it works for.
The two together tell everything apart:

| the app works for it | bytes wait to be sent | bytes came since it was last at rest | it is |
|---|---|---|---|
| yes or no | yes | yes or no | a client that takes its reply, or does not |
| yes | no | yes or no | a request under way: the guard's deadlines hold |
| no | no | yes | a head that is still coming |
| no | no | no | idle |

A connection that has never sent anything is idle too: balancers and browsers open some in advance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from workhorse.servers.limits import ConnectionLimits

__all__ = ["Connection", "Cut", "Look", "Peer", "choose_victims"]

Peer = tuple[str, int]
"""A client's address and port, which no two open connections to one port share."""

IDLE_MARGIN_SECONDS: Final = 5.0
"""How much longer an idle connection stays than it may: the servers close those by themselves, and more gently."""
CROWDED: Final = 0.9
RELIEVED: Final = 0.8
"""Shares of max_connections: where idle connections begin to be closed, and how far down."""


class Cut(Enum):
    """Why a connection is cut."""

    HEAD = "slow heads"
    READER = "readers that did not take their reply"
    IDLE = "idle for too long"
    CROWD = "idle while connections run out"


class Look(NamedTuple):
    """A connection as the kernel describes it (tcp_info of tcp(7))."""

    received: int
    """Bytes that came, in all."""
    acknowledged: int
    """Bytes that the client's kernel took, in all."""
    unsent: int
    """Bytes that wait in this kernel because the client has no room for them."""
    unacknowledged: int
    """Segments on their way."""
    quiet_seconds: float
    """Since bytes went one way or the other."""


@dataclass(slots=True)
class Connection:
    """What is remembered of one connection between two looks at it."""

    peer: Peer
    inode: int
    descriptor: int = -1
    received: int = 0
    multiplexed: bool = False
    """HTTP/2: bytes come between requests (pings, windows), so they are no heads."""
    rest: int = 0
    """The bytes that had come when it was last at rest: before its first request, or after its last."""
    head_since: float | None = None
    behind_since: float | None = None
    """Since when the client is behind with taking its reply, or last kept up with the least rate."""
    behind_from: int = 0
    """What it had acknowledged then."""
    waiting_seconds: float | None = None
    """How long it has been idle, or sending a head; None while a request or a reply is under way."""

    def judge(
        self, look: Look, *, busy: bool, finished: bool, stalled: bool, now: float, limits: ConnectionLimits
    ) -> Cut | None:
        """Remember `look`, and say whether the connection is to be cut.

        Args:
            look: the connection now.
            busy: the app works for it.
            finished: the app has ended a request of it since the last look.
            stalled: the app's loop does not get on, so what is not answered is this side's fault.
            now: monotonic time, in seconds.
            limits: what holds.
        """
        pending = look.unsent > 0 or look.unacknowledged > 0
        if busy or finished or stalled or self.multiplexed:
            self.head_since = None
        if busy or finished or self.multiplexed:
            self.rest = look.received
        self.received = look.received
        self.waiting_seconds = None
        if pending:
            return self._judge_reader(look, now, limits)
        self.behind_since = None
        if busy or stalled:
            return None
        if look.received > self.rest:
            return self._judge_head(now, limits)
        self.waiting_seconds = look.quiet_seconds
        return Cut.IDLE if look.quiet_seconds >= limits.keep_alive_seconds + IDLE_MARGIN_SECONDS else None

    def _judge_head(self, now: float, limits: ConnectionLimits) -> Cut | None:
        if self.head_since is None:
            self.head_since = now
        self.waiting_seconds = now - self.head_since
        return Cut.HEAD if self.waiting_seconds >= limits.head_timeout_seconds else None

    def _judge_reader(self, look: Look, now: float, limits: ConnectionLimits) -> Cut | None:
        """A reply that is on its way need only get on; one that waits for the client must do so at the least rate."""
        if self.behind_since is None:
            self.behind_since, self.behind_from = now, look.acknowledged
        took, since = look.acknowledged - self.behind_from, now - self.behind_since
        if since < limits.reply_pause_seconds:
            return None
        if took < max(1, limits.reply_bytes_per_second * since if look.unsent else 0):
            return Cut.READER
        self.behind_since, self.behind_from = now, look.acknowledged
        return None


def choose_victims(connections: Sequence[Connection], limits: ConnectionLimits) -> list[Connection]:
    """Those to close because connections run out: the ones that wait longest. None while there is room."""
    if len(connections) < limits.max_connections * CROWDED:
        return []
    waiting = [one for one in connections if one.waiting_seconds is not None]
    waiting.sort(key=lambda one: one.waiting_seconds or 0.0, reverse=True)
    return waiting[: len(connections) - int(limits.max_connections * RELIEVED)]
