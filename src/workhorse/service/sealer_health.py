"""Whether a worker's sealer keeps up with the journal, for `/-/ready` of that worker.

It is the process that seals that says so, and not every app server: those answer requests as well as ever, and taking
them all away from a load balancer because the log stands still would make an outage of it.
"""

from typing import TYPE_CHECKING

from workhorse.errors import WorkhorseError

if TYPE_CHECKING:
    from workhorse.sealer import Sealer

__all__ = ["SealerHealth"]


class SealerHealth:
    """Looks at one sealer, once there is one."""

    def __init__(self) -> None:
        self._sealer: Sealer | None = None
        self._most = 0.0

    def watch(self, sealer: "Sealer | None", most_seconds: float) -> None:
        """Look at this one from now on.

        Args:
            sealer: which; None: the process seals nothing.
            most_seconds: how long an event may wait, and how long the sealer may have done nothing.
        """
        self._sealer, self._most = sealer, most_seconds

    async def keeps_up(self) -> bool | None:
        """Whether it has turned lately and no event waits for too long; None: there is no sealer, or not yet."""
        if self._sealer is None:
            return None
        if self._sealer.still_seconds > self._most:
            return False
        try:
            return not await self._sealer.is_behind(self._most)
        except WorkhorseError:
            return False  # nobody knows, and the next probe asks again
