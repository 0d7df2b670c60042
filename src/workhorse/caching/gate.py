"""What stands between a store of cached values and those who ask it.

Every call passes here (`_ask`): the circuit says whether the store is asked at all, what is left of the request's
deadline bounds the wait, and deletions that are owed go first. What the callers are told when the store is away is the
policy's to say: to do without (`bypass`), or that the request failed (`raise`).

**Near values.** With `near` each process keeps what it read for a moment more, and asks nobody meanwhile. What this
process deletes is gone from there at once; what others delete, after that moment.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from secrets import token_bytes
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from workhorse.caching.circuit import Circuit
from workhorse.caching.flights import Flights
from workhorse.caching.owed import Owed
from workhorse.context import CURRENT
from workhorse.contracts import (
    CacheClaim,
    CacheClaiming,
    CacheEntry,
    CacheHit,
    CacheStore,
    TransactionalCache,
)
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.state.memory.cache import MemoryCache

__all__ = ["CacheCounts", "Gate", "Near", "Report", "StoreAwayPolicy", "WorkLike"]

R = TypeVar("R")

StoreAwayPolicy: TypeAlias = Literal["bypass", "raise"]
"""What happens while the store cannot be reached: values are made and not kept, or StoreUnavailable is raised."""

Report: TypeAlias = Callable[[str, BaseException | None], object]
"""Told what an operator should hear of: `store_away`, `store_back`, `make_failed`, `too_large`, `undecodable`."""

# A hold outlives the transaction that it is for by this much; one of unknown length counts as one of a minute.
HOLD_SECONDS: Final = 60.0
HOLD_SLACK_SECONDS: Final = 5.0
# Claims that are given back in the background; more are left to their own end.
MAX_LEAVING: Final = 256

NEAR_HEAD: Final = struct.Struct("<d")


class WorkLike(Protocol):
    """What the caches need of a unit."""

    async def execute(self, sql: str, params: Sequence[object] = ...) -> Any:
        """Run one statement in the unit's transaction."""
        ...

    def after_commit(self, callback: Callable[[], Awaitable[object]]) -> None:
        """Call `callback` once it has committed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """Values kept in the process itself, in front of the store.

    Args:
        seconds: how long; for so long a value that another process has deleted may still be given.
        max_bytes: of all of them together.

    Raises:
        SettingsError: `seconds` is not above 0 and up to 60.
    """

    seconds: float
    max_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 60:
            raise SettingsError(f"near values of {self.seconds:g} s: it has to be above 0 and 60 at most; or use none")


@dataclass(slots=True)
class CacheCounts:
    """What happened since the start, in this process."""

    hits: int = 0
    """Values that were there and not over, near ones included."""
    stale: int = 0
    """Values that were over, and given because another was being made or could not be made."""
    misses: int = 0
    made: int = 0
    """Values that were made, for whatever reason."""
    early: int = 0
    """Of these, those that were made before the former was over."""
    shared: int = 0
    """Calls that got what another call of this process was already fetching."""
    waited: int = 0
    """Calls that waited for what another process was already making, and got it."""
    unkept: int = 0
    """Values that were made and not kept: their key or tag was deleted or held meanwhile, or the store was away."""
    away: int = 0
    """Calls to which the store did not answer, or was not even asked."""


class Made(NamedTuple):
    """A value that was fetched or made, and its bytes; no bytes: it is absent."""

    payload: bytes | None
    value: Any
    as_of: float
    """When the making or the asking began, on the clock of `time.monotonic`: what was deleted before is not in it."""


@dataclass(slots=True)
class Gate:
    """The way to one store. It is used from one event loop. Names are whole keys.

    Args:
        store: where the values are.
        away: what happens while the store cannot be reached.
        near: keep values in the process for a moment as well; None: do not.
        max_value_bytes: larger values are not kept.
        within_units: the store is in the database on which units run, so deletions can commit with their rows.
        report: told what an operator should hear of.
        circuit: whether to ask the store.

    Raises:
        SettingsError: `within_units` of a store that is in no database.
    """

    store: CacheStore
    _: KW_ONLY
    away: StoreAwayPolicy
    near: Near | None
    max_value_bytes: int
    within_units: bool
    report: Report
    circuit: Circuit
    counts: CacheCounts = field(default_factory=CacheCounts, init=False)
    flights: Flights[Made] = field(default_factory=Flights[Made], init=False)
    _near: MemoryCache | None = field(default=None, init=False)
    _changes: int = field(default=0, init=False)
    """Deletions and writes of this process: a read that began before one of them is not kept near."""
    _owed: Owed = field(default_factory=Owed, init=False)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], init=False)

    def __post_init__(self) -> None:
        if self.within_units and not isinstance(self.store, TransactionalCache):
            raise SettingsError(
                f"a {type(self.store).__name__} cannot delete within a unit; use the cache in Postgres, or leave it out"
            )
        if self.near is not None:
            self._near = MemoryCache(max_bytes=self.near.max_bytes)

    async def close(self) -> None:
        """Wait for what is under way in the background. It is bounded by the store's time-outs."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def get_names(self, names: Sequence[str]) -> list[CacheHit | None]:
        """What is kept under each name; nothing if the store is away."""
        found = [self._find_near(name) for name in names]
        missing = [place for place, hit in enumerate(found) if hit is None]
        if not missing:
            return found
        changes = self._changes
        wanted = [names[place] for place in missing]
        answers = await self._or_bypass(lambda: self.store.get(wanted))
        for place, hit in zip(missing, answers or (), strict=False):
            found[place] = hit
            if hit is not None and changes == self._changes:
                self._put_near(names[place], hit)
        return found

    async def set_entries(self, entries: Sequence[CacheEntry]) -> bool:
        """Keep them. False if the store is away."""
        names = [entry.key for entry in entries]
        self._change(names)
        try:
            done = await self._or_bypass(lambda: self._done(self.store.set(entries)))
        except BaseException:
            self._owed.note(names, ())
            raise
        finally:
            self._change(names)
        if done is None:
            # What was there is not the newest any more.
            self._owed.note(names, ())
        return done is not None

    async def delete_names(self, names: Sequence[str], *, tags: Sequence[str] = (), token: bytes = b"") -> bool:
        """Delete. False if the store is away: then it is owed."""
        self._change(names, tags)
        try:
            # Not bounded by the request's deadline: after its commit, this is still to be done.
            done = await self._or_bypass(
                lambda: self._done(self.store.delete(names, tags=tags, token=token)), hurried=False
            )
        except BaseException:
            self._owed.note(names, tags)
            raise
        finally:
            self._change(names, tags)
        if done is None:
            self._owed.note(names, tags)
        return done is not None

    async def delete_names_with(self, work: WorkLike, names: Sequence[str], *, tags: Sequence[str] = ()) -> None:
        """Delete when the unit commits."""
        self._change(names, tags)
        if self.within_units and isinstance(self.store, TransactionalCache):
            await self.store.delete_within(work, names, tags=tags)

            async def forget() -> None:
                self._change(names, tags)

            work.after_commit(forget)
            return
        token = token_bytes(16)
        current = CURRENT.get(None)
        seconds = HOLD_SLACK_SECONDS + (HOLD_SECONDS if current is None else current.remaining_seconds(HOLD_SECONDS))
        await self._or_bypass(lambda: self._done(self.store.hold(names, tags=tags, token=token, seconds=seconds)))

        async def delete() -> None:
            await self.delete_names(names, tags=tags, token=token)

        work.after_commit(delete)

    async def claim(self, name: str, tags: Sequence[str], *, seconds: float) -> CacheClaiming | None:
        """Claim the making of a value; None if the store is away."""
        token = token_bytes(16)
        try:
            return await self._or_bypass(lambda: self.store.claim(name, tags, token=token, seconds=seconds))
        except asyncio.CancelledError:
            # The store may have heard of it.
            self.abandon_later(name, CacheClaim(token, {}))
            raise

    async def fill(self, entry: CacheEntry, claim: CacheClaim) -> bool:
        """Keep what was made, if the claim stands and the store answers."""
        if self._near is not None:
            self._near.drop(entry.key)
        try:
            return await self._ask(lambda: self.store.fill(entry, claim), hurried=True)
        except StoreUnavailable:
            self.abandon_later(entry.key, claim)
            return False  # it was made, and the caller gets it
        except BaseException:
            self.abandon_later(entry.key, claim)
            raise

    def abandon_later(self, name: str, claim: CacheClaim) -> None:
        """Let others make it, without waiting for that. What does not get through ends by itself."""
        if len(self._leaving) >= MAX_LEAVING or not self.circuit.closed:
            return

        async def leave() -> None:
            try:
                await self.store.abandon(name, claim)
            except StoreUnavailable:
                self._failed()

        task = asyncio.create_task(leave(), name="abandon a claim")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _or_bypass(self, call: Callable[[], Awaitable[R]], *, hurried: bool = True) -> R | None:
        try:
            return await self._ask(call, hurried=hurried)
        except StoreUnavailable:
            if self.away == "raise":
                raise
            return None

    async def _ask(self, call: Callable[[], Awaitable[R]], *, hurried: bool) -> R:
        """Ask the store, if the circuit admits it, for no longer than the request has time."""
        current = CURRENT.get(None) if hurried else None
        limit = current.remaining_seconds(HOLD_SECONDS) if current is not None else None
        if not self.circuit.admits():
            self.counts.away += 1
            raise StoreUnavailable("The cache did not answer lately. Send the request again.")
        try:
            async with asyncio.timeout(limit):
                while self._owed:
                    debt = self._owed.some()
                    await self.store.delete(tuple(debt.keys), tags=tuple(debt.tags))
                    self._owed.settle(debt)
                result = await call()
        except TimeoutError as error:
            # The request's time, not the store's: it says nothing of the store.
            self.counts.away += 1
            raise StoreUnavailable from error
        except StoreUnavailable as error:
            self.counts.away += 1
            self._failed(error)
            raise
        if self.circuit.succeeded():
            self.report("store_back", None)
        return result

    def _failed(self, error: BaseException | None = None) -> None:
        if self.circuit.failed():
            self.report("store_away", error)

    @staticmethod
    async def _done(call: Awaitable[None]) -> Literal[True]:
        await call
        return True

    def _find_near(self, name: str) -> CacheHit | None:
        if self._near is None:
            return None
        hit = self._near.find(name)
        if hit is None:
            return None
        (ends,) = NEAR_HEAD.unpack_from(hit.data)
        return CacheHit(hit.data[NEAR_HEAD.size :], ends - monotonic())

    def _put_near(self, name: str, hit: CacheHit) -> None:
        if self._near is not None and self.near is not None:
            seconds = min(self.near.seconds, hit.left_seconds)
            data = NEAR_HEAD.pack(monotonic() + hit.left_seconds) + hit.data
            self._near.put(CacheEntry(name, data, seconds))

    def _change(self, names: Sequence[str], tags: Sequence[str] = ()) -> None:
        """Forget what is near, and what is just being read."""
        self._changes += 1
        if self._near is not None:
            if tags:
                self._near.clear()  # near values do not know their tags
            for name in names:
                self._near.drop(name)
