"""The right to be the only one, held while a block runs.

    async with leases.hold("end-of-day", ttl=30) as lease:
        await close_books(fence=lease.token)

The lease is renewed in the background at a third of its time. It counts as lost when the store says so, and when it
could not be renewed in time by this process's own clock, which begins before the store's: so whoever runs the block
never believes in it for longer than the store does, unless the whole process is paused. For that there is the token.

A lost lease ends the block: what runs in it is cancelled, as by a time-out, and `LeaseLost` is raised. With
`on_loss="tell"` the block goes on, and asks `lease.check()` before each step that others must not take too.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass
from secrets import token_bytes
from time import monotonic
from types import TracebackType
from typing import Final, Literal

from workhorse.context import CURRENT
from workhorse.contracts import LeaseGuarantee, LeaseHeld, LeaseLost, LeaseStore
from workhorse.errors import StartupError, StoreUnavailable

__all__ = ["Lease", "LeaseCounts", "LeaseHold", "Leases"]

MAX_NAME_CHARACTERS: Final = 200
LEAST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 3_600.0
# A lease is renewed each time that this part of it has passed.
RENEW_PART: Final = 3
# This part of it is given up at the end, for clocks that do not run alike.
MARGIN_PART: Final = 20
# The pauses of one who waits for a lease.
FIRST_PAUSE_SECONDS: Final = 0.05
LAST_PAUSE_SECONDS: Final = 1.0


class Lease:
    """A lease that is held. From `Leases.hold`."""

    __slots__ = ("_ends", "_lost", "name", "token")

    def __init__(self, name: str, token: int, ends: float) -> None:
        self.name = name
        self.token = token
        """The fencing token: larger than that of every holder before. Hand it over with each write."""
        self._ends = ends
        self._lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Lease {self.name} token={self.token} {'lost' if self.lost else f'{self.left_seconds:.1f} s left'}>"

    @property
    def left_seconds(self) -> float:
        """For how long it is held for sure, if it is not renewed; 0: it is lost."""
        return 0.0 if self._lost.is_set() else max(0.0, self._ends - monotonic())

    @property
    def lost(self) -> bool:
        """Whether it is not held any more, or not for sure."""
        return self.left_seconds == 0.0

    def check(self) -> None:
        """Go on only if it is held.

        Raises:
            LeaseLost: it is not, or not for sure.
        """
        if self.lost:
            raise LeaseLost(
                f"the lease {self.name!r} (token {self.token}) was lost: it was not renewed in time, or is another's"
            )

    async def wait_lost(self) -> None:
        """Return when it is lost."""
        while not self.lost:
            try:
                async with asyncio.timeout(self.left_seconds):
                    await self._lost.wait()
            except TimeoutError:
                continue  # it may have been renewed

    def renewed(self, ends: float) -> None:
        """Note that it is held until `ends`."""
        self._ends = ends

    def lose(self) -> None:
        """Note that it is lost, for good."""
        self._lost.set()


@dataclass(slots=True)
class LeaseCounts:
    """What happened since the start, in this process."""

    acquired: int = 0
    refused: int = 0
    """Tries that ended because somebody else had the lease."""
    lost: int = 0
    """Leases that ended while their block ran."""
    held: int = 0
    """Blocks that run now."""


class Leases:
    """Leases by name, over one store.

    Args:
        store: who has which lease; closing it is its owner's. None: where the service says, once it has started.
    """

    __slots__ = ("_borrowed", "_store", "counts")

    def __init__(self, store: LeaseStore | None = None) -> None:
        self._store = store
        self._borrowed = False
        self.counts = LeaseCounts()
        """What happened since the start, in this process. It goes on counting."""

    def bind(self, store: LeaseStore) -> None:
        """Take the service's store; of no effect where the code names one."""
        if self._store is None or self._borrowed:
            self._store, self._borrowed = store, True

    @property
    def guarantees(self) -> LeaseGuarantee:
        """What the store promises.

        Raises:
            StartupError: there is none.
        """
        return self._given_store().guarantees

    def _given_store(self) -> LeaseStore:
        if self._store is None:
            raise StartupError(
                "Leases() has no store yet: give it to the service, Service(app, leases=leases), and use it once that"
                " has started; or name a store, Leases(PostgresLeases(database))"
            )
        return self._store

    def hold(
        self, name: str, *, ttl: float = 30.0, wait: float = 0.0, on_loss: Literal["cancel", "tell"] = "cancel"
    ) -> "LeaseHold":
        """A block that runs while the lease is held.

        Args:
            name: of what one alone may do; at most 200 characters, in no log's way.
            ttl: seconds after which the lease of a dead process ends, from 0.1 to an hour.
            wait: seconds to wait while somebody else has it; never longer than the request has time.
            on_loss: whether a lost lease cancels the block, or only tells who asks.

        Raises:
            LeaseHeld: as the block is entered: somebody else has it.
            LeaseLost: as the block is left: it was lost meanwhile (`cancel`).
            StoreUnavailable: the store is away.
            ValueError: the name or a time is out of range.
        """
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise ValueError(
                f"a lease cannot be named {name[:50]!r}: use 1 to {MAX_NAME_CHARACTERS} printable characters"
            )
        if not LEAST_SECONDS <= ttl <= MOST_SECONDS or wait < 0:
            raise ValueError(f"ttl={ttl:g}, wait={wait:g}: a lease lives for {LEAST_SECONDS} to {MOST_SECONDS:g} s")
        store = self._given_store()
        return LeaseHold(store, name, ttl=ttl, wait=wait, cancels=on_loss == "cancel", counts=self.counts)


class LeaseHold:
    """The block of `Leases.hold`. It is entered once."""

    __slots__ = (
        "_cancelled",
        "_cancelling",
        "_cancels",
        "_counts",
        "_holder",
        "_lease",
        "_name",
        "_renewal",
        "_store",
        "_task",
        "_ttl",
        "_wait",
    )

    def __init__(
        self, store: LeaseStore, name: str, *, ttl: float, wait: float, cancels: bool, counts: LeaseCounts
    ) -> None:
        self._store = store
        self._counts = counts
        self._name = name
        self._ttl = ttl
        self._wait = wait
        self._cancels = cancels
        self._holder = token_bytes(16)
        self._cancelled = False

    async def __aenter__(self) -> Lease:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        try:
            self._lease = await self._acquire()
        except BaseException as error:
            self._counts.refused += isinstance(error, LeaseHeld)
            # The store may have heard of it all the same: then it ends by itself, or sooner.
            await self._release()
            raise
        self._renewal = asyncio.create_task(self._renew(self._lease), name=f"renew the lease {self._name}")
        self._counts.acquired += 1
        self._counts.held += 1
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewal.cancel()
        lost = self._lease.lost
        self._counts.held -= 1
        self._counts.lost += lost
        self._lease.lose()
        if not lost:
            await self._release()
        late: asyncio.CancelledError | None = None
        if self._cancelled:
            if error is None:
                # The block ended as it was to be cancelled: take that here, so that it hits nobody else.
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError as caught:
                    late = caught
            by_others = self._task.uncancel() > self._cancelling
            if by_others and late is not None:
                raise late
            if by_others or not (error is None or isinstance(error, asyncio.CancelledError)):
                return
        if self._cancelled or (lost and self._cancels and error is None):
            raise LeaseLost(
                f"the lease {self._name!r} (token {self._lease.token}) was lost while it was held: what was done since"
                " may have been done by another as well"
            ) from error

    async def _acquire(self) -> Lease:
        current = CURRENT.get(None)
        give_up = monotonic() + (self._wait if current is None else current.remaining_seconds(self._wait))
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = monotonic()
            answer = await self._store.acquire(self._name, self._holder, seconds=self._ttl)
            if answer.token:
                # Of an answer to a second run, less may be left.
                held_seconds = min(answer.left_seconds, self._ttl) - self._ttl / MARGIN_PART
                return Lease(self._name, answer.token, began + held_seconds)
            left = give_up - monotonic()
            if left <= 0:
                raise LeaseHeld(
                    f"somebody else has the lease {self._name!r}, for {answer.left_seconds:.1f} s if it is not renewed;"
                    " wait for longer, or leave it to them"
                )
            await asyncio.sleep(min(left, answer.left_seconds + 0.001, pause * random.uniform(0.5, 1)))  # noqa: S311
            pause = min(pause * 1.5, LAST_PAUSE_SECONDS)

    async def _renew(self, lease: Lease) -> None:
        """Renew it until it is lost; then say so."""
        try:
            while not lease.lost:
                await asyncio.sleep(min(self._ttl / RENEW_PART, lease.left_seconds))
                if not await self._renew_once(lease):
                    break
        finally:
            if not self._renewal.cancelling():
                lease.lose()
                if self._cancels:
                    self._cancelled = True
                    self._task.cancel(f"the lease {lease.name!r} was lost")

    async def _renew_once(self, lease: Lease) -> bool:
        """Whether it may still be held."""
        began = monotonic()
        try:
            async with asyncio.timeout(lease.left_seconds):
                if not await self._store.renew(self._name, self._holder, seconds=self._ttl):
                    return False
        except (StoreUnavailable, TimeoutError):
            return True  # tried again, as long as it is held
        lease.renewed(began + self._ttl - self._ttl / MARGIN_PART)
        return True

    async def _release(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # it ends by itself
            await self._store.release(self._name, self._holder)
