"""Leases between the tasks of one process. What each promises, it promises for this process only.

Tokens begin at the time, in microseconds, so that those of a process that is started again go on growing: what a
database remembers of the last ones would refuse smaller ones for ever.
"""

from collections.abc import Callable
from time import monotonic, time_ns
from typing import Final, NamedTuple

from workhorse.contracts import LeaseAnswer, LeaseGuarantee
from workhorse.errors import StoreUnavailable

__all__ = ["MemoryLeases"]

# Names held at once.
MAX_LEASES: Final = 65_536


class Held(NamedTuple):
    """One lease."""

    holder: bytes
    token: int
    ends: float


class MemoryLeases:
    """A `contracts.LeaseStore` of one process. It is used from one thread, that of the event loop.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._last = 0

    @property
    def guarantees(self) -> LeaseGuarantee:
        """In one process: one count serves all names, so its tokens only grow."""
        return LeaseGuarantee.FENCED

    async def acquire(self, name: str, holder: bytes, *, seconds: float) -> LeaseAnswer:
        """Take the lease if nobody has it.

        Raises:
            StoreUnavailable: 65,536 others are held.
        """
        now = self._clock()
        held = self._held.get(name)
        if held is not None and held.ends > now:
            return LeaseAnswer(held.token if held.holder == holder else 0, held.ends - now)
        if len(self._held) >= MAX_LEASES:
            await self.purge()
            if len(self._held) >= MAX_LEASES:
                raise StoreUnavailable("Nothing was done: there are too many leases.")
        self._last = max(self._last + 1, time_ns() // 1_000)
        self._held[name] = Held(holder, self._last, now + seconds)
        return LeaseAnswer(self._last, seconds)

    async def renew(self, name: str, holder: bytes, *, seconds: float) -> bool:
        """Let it end `seconds` from now."""
        held = self._mine(name, holder)
        if held is None:
            return False
        self._held[name] = held._replace(ends=self._clock() + seconds)
        return True

    async def release(self, name: str, holder: bytes) -> bool:
        """End it."""
        if self._mine(name, holder) is None:
            return False
        del self._held[name]
        return True

    async def purge(self) -> int:
        """Forget all that have ended."""
        now = self._clock()
        over = [name for name, held in self._held.items() if held.ends <= now]
        for name in over:
            del self._held[name]
        return len(over)

    def _mine(self, name: str, holder: bytes) -> Held | None:
        held = self._held.get(name)
        return held if held is not None and held.holder == holder and held.ends > self._clock() else None
