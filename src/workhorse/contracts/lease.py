"""The right to be the only one, for a while.

A lease ends by itself when its holder dies, so for a moment two may believe to be the holder: one whose process was
paused, and the next. No clock can prevent that. What can is a **fencing token**: a number that is larger for each
holder than for all before it, which goes along with every write, and whose writes are refused where a larger one has
been seen (Kleppmann, *How to do distributed locking*, 2016; Chubby calls it a sequencer, Burrows, OSDI 2006).
"""

from enum import Flag, auto
from typing import NamedTuple, Protocol

from workhorse.errors import WorkhorseError

__all__ = ["LeaseAnswer", "LeaseGuarantee", "LeaseHeld", "LeaseLost", "LeaseStore"]


class LeaseHeld(WorkhorseError):
    """Somebody else has the lease, and went on having it for as long as was waited."""


class LeaseLost(WorkhorseError):
    """The lease ended while it was held: it could not be renewed in time, or somebody else has it now."""


class LeaseGuarantee(Flag):
    """What a store of leases can promise. A wish that is none of its promises is refused at start-up."""

    SHARED = auto()
    """One holder over all processes."""
    FENCED = auto()
    """Tokens of a name only grow, as long as the store keeps its data and its clock is not set back."""
    DURABLE = auto()
    """Leases and tokens outlive a crash of the store: tokens only grow, whatever its clock does."""


class LeaseAnswer(NamedTuple):
    """The answer to `acquire`."""

    token: int
    """The fencing token, above 0; 0: somebody else has the lease."""
    left_seconds: float
    """Until the lease ends if nobody renews it."""


class LeaseStore(Protocol):
    """A store of leases. Every method raises StoreUnavailable if the store does not answer in time.

    `holder` is 16 bytes, new for each try to hold a lease: a method that is run twice says the same both times.
    """

    @property
    def guarantees(self) -> LeaseGuarantee:
        """What it promises."""
        ...

    async def acquire(self, name: str, holder: bytes, *, seconds: float) -> LeaseAnswer:
        """Take the lease if nobody has it."""
        ...

    async def renew(self, name: str, holder: bytes, *, seconds: float) -> bool:
        """Let it end `seconds` from now. False if it has ended, or another holder has it."""
        ...

    async def release(self, name: str, holder: bytes) -> bool:
        """End it. False if it had ended, or another holder has it."""
        ...

    async def purge(self) -> int:
        """Forget some names that nobody has held for long; 0 when there are none left, or by itself."""
        ...
