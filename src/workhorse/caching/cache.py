"""A cache of values of one kind, and how a value comes to be made once.

`once` looks; what it finds and is not over, it returns. Else, or by chance a little before the end, it claims the
making. Who gets the claim makes the value and keeps it. Who does not gets the former value if that may still be given,
or waits for the new one, or, after a bounded time, makes one for itself that is not kept. So however many ask, over all
processes one makes, and nobody waits for longer than said.

A claim ends when the key or one of its tags is deleted (`contracts.cache`): what was read from a database before a
change is used by who asked for it before the change, and never kept after it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final, Generic, NamedTuple, TypeVar, cast

import msgspec

from workhorse.caching.early import due_early, jittered
from workhorse.caching.gate import Gate, Made, WorkLike
from workhorse.caching.values import Codec, Found, Kept, open_kept, seal
from workhorse.context import CURRENT
from workhorse.contracts import CacheClaim, CacheEntry
from workhorse.errors import Problem, SettingsError

__all__ = ["Cache", "Timing", "checked_tags"]

T = TypeVar("T")
Make = Callable[[], Awaitable[T]]

MAX_TAGS: Final = 16
MAX_TAG_CHARACTERS: Final = 256
MAX_KEY_CHARACTERS: Final = 1_024
# Keys of one call that asks for many.
MAX_KEYS: Final = 1_000
# The pauses of one who waits for another's making: from the first, each half as long again, up to the last.
FIRST_PAUSE_SECONDS: Final = 0.01
LAST_PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things last, in seconds.

    Raises:
        SettingsError: one is out of range.
    """

    ttl: float
    """For how long a value is good."""
    jitter: float = 0.1
    """By which part of it that is shortened at most, by chance; from 0 to 0.9."""
    stale: float = 0.0
    """For how long after its end a value is still given to those for whom another is being made, or cannot be made
    (stale-while-revalidate and stale-if-error, RFC 5861)."""
    making: float = 10.0
    """For how long one who makes a value has it for itself. Longer than making ever takes."""
    waiting: float = 5.0
    """For how long others wait for it, before each makes its own."""
    early: float = 1.0
    """How eagerly a value is made again before it is over (the beta of XFetch); 0: never."""

    def __post_init__(self) -> None:
        if not (
            0 < self.ttl <= 30 * 86_400
            and 0 <= self.jitter <= 0.9
            and 0 <= self.stale <= 86_400
            and 0 < self.making <= 3_600
            and 0 <= self.waiting <= 3_600
            and 0 <= self.early <= 100
        ):
            raise SettingsError(
                f"{self}: ttl is above 0 and up to 30 days, jitter 0 to 0.9, stale 0 to a day, making above 0 and up to"
                " an hour, waiting 0 to an hour, early 0 to 100"
            )


class Order(NamedTuple, Generic[T]):
    """One call of `once`."""

    name: str
    make: Callable[[], Awaitable[T | None]]
    ttl: float
    none_ttl: float | None
    """For how long None is kept as absent; None: it is a value like others."""
    tags: Sequence[str]

    @property
    def flight(self) -> str:
        """Whom it may share the making with: those to whom None means the same."""
        return f"{self.name}\0{self.none_ttl is not None}"


class Cache(Generic[T]):
    """Values of one kind. From `Caches.open`.

    A value that was read is the caller's own, never an object that others have as well.
    """

    __slots__ = ("_codec", "_gate", "_prefix", "_timing")

    def __init__(self, gate: Gate, prefix: str, codec: Codec[T], timing: Timing) -> None:
        self._gate = gate
        self._prefix = prefix
        self._codec = codec
        self._timing = timing

    def __repr__(self) -> str:
        return f"<Cache {self._prefix} of {self._timing.ttl:g} s on {type(self._gate.store).__name__}>"

    async def get(self, key: str) -> T | None:
        """The value; None if there is none, it is over or known to be absent, or the store is away.

        Raises:
            StoreUnavailable: the store is away, and the policy is to raise. So for other methods.
            ValueError: a key is longer than 1,024 characters, or there are more than 1,000. So for other methods.
        """
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, T]:
        """The values that are there, by key, in one call to the store."""
        hits = await self._gate.get_names(self._names(keys))
        values: dict[str, T] = {}
        for key, hit in zip(keys, hits, strict=True):
            found = self._decode(open_kept(hit))
            if found is None:
                self._gate.counts.misses += 1
                continue
            self._gate.counts.hits += 1
            if not found.absent:
                values[key] = cast("T", found.value)
        return values

    async def set(self, key: str, value: T, *, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep a value that is the newest there is, whatever was there. False if the store is away.

        For what was read from a database use `once`: between that reading and this call the value may have become old.

        Raises:
            ValueError: the value is larger than `max_value_bytes`.
        """
        return await self.set_many({key: value}, ttl=ttl, tags=tags)

    async def set_many(self, values: Mapping[str, T], *, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep several, in one call to the store."""
        named = zip(self._names(tuple(values)), values.values(), strict=True)
        kept_tags = checked_tags(tags)
        entries: list[CacheEntry] = []
        for name, value in named:
            data = seal(self._codec.encode(value), make_seconds=0, stale_seconds=self._timing.stale)
            if len(data) > self._gate.max_value_bytes:
                raise ValueError(
                    f"a value of {len(data)} bytes is larger than a cache keeps ({self._gate.max_value_bytes});"
                    " keep less of it, or raise max_value_bytes"
                )
            entries.append(CacheEntry(name, data, self._life(ttl), kept_tags))
        return await self._gate.set_entries(entries)

    async def delete(self, *keys: str) -> bool:
        """Forget them, and what is being made of them. False if the store is away, which is made up for later."""
        return await self._gate.delete_names(self._names(keys))

    async def delete_with(self, work: WorkLike, *keys: str) -> None:
        """Forget them when the unit commits. Call it after the write that it is for, in the same unit.

            work = await unit()
            await work.execute("UPDATE prices SET ...")
            await prices.delete_with(work, sku)

        In the units' own Postgres the deletion is part of the transaction. In other stores the keys are deleted and
        held now, and released after the commit: from now on nothing is kept under them, so neither the old row that
        others still read, nor a crash after the commit, leaves an old value behind.
        """
        await self._gate.delete_names_with(work, self._names(keys))

    async def once(self, key: str, make: Make[T], *, ttl: float | None = None, tags: Sequence[str] = ()) -> T:
        """The value, made by `make` if it is not there; by one caller, however many there are.

        Args:
            key: names the value, and everything that it depends on: whose it is, for one.
            make: called without arguments. It should read what is committed: not a unit's own changes.
            ttl: seconds for which the value is good, if not the cache's own.
            tags: by which it can be deleted together with others; at most 16.

        Raises:
            Exception: what `make` raised, to all who waited for it; unless the former value may still be given.
        """
        order = Order(name=self._name(key), make=make, ttl=self._ttl(ttl), none_ttl=None, tags=checked_tags(tags))
        return cast("T", await self._obtain(order))

    async def once_or_none(
        self, key: str, make: Make[T | None], *, none_ttl: float, ttl: float | None = None, tags: Sequence[str] = ()
    ) -> T | None:
        """The same for what may be absent: that `make` returned None is kept for `none_ttl` seconds."""
        order = Order(
            name=self._name(key), make=make, ttl=self._ttl(ttl), none_ttl=self._ttl(none_ttl), tags=checked_tags(tags)
        )
        return await self._obtain(order)

    async def _obtain(self, order: Order[T]) -> T | None:
        """Look; and if that does not do, make it, together with all in this process that want it."""
        counts, flights = self._gate.counts, self._gate.flights
        since, waited = monotonic(), False
        while True:
            (hit,) = await self._gate.get_names([order.name])
            first = open_kept(hit)
            found = self._decode(first, order)
            if first is not None and found is not None and not self._due(first):
                counts.hits += not waited
                counts.shared += waited
                return found.value
            if found is None:
                counts.misses += 1
                first = None
            lead = partial(self._fetch, order, first)
            shared = await flights.share(order.flight, lead, patience=self._patience())
            if shared is None:
                return cast("T | None", (await self._make_unkept(order)).value)
            made, mine = shared
            if mine:
                return cast("T | None", made.value)
            # A making that had begun before this call may have read what was deleted before this call: so look again.
            # The value is there now, or was deleted, or the store is away; then the next making begins after.
            if made.as_of > since:
                counts.shared += 1
                # Decoded anew: two requests never share an object that one of them may change.
                return None if made.payload is None else self._codec.decode(made.payload)
            waited = True

    async def _fetch(self, order: Order[T], first: Kept | None) -> Made:
        """Claim the making and make the value; or give what somebody else made meanwhile, or the former one.

        `first` is what was found, which is over or about to be.
        """
        counts, gate = self._gate.counts, self._gate
        ends = monotonic() + self._patience()
        pause = FIRST_PAUSE_SECONDS
        while True:
            asked = monotonic()
            answer = await gate.claim(order.name, order.tags, seconds=self._timing.making)
            if answer is None:
                # The store went away after the first look, or was already.
                return self._made(order, first, as_of=0.0) or await self._make_unkept(order)
            kept = open_kept(answer.hit)
            former = self._made(order, kept, as_of=asked)
            if answer.claim is not None:
                renewed = kept is not None and kept.fresh and (first is None or kept.left_seconds > first.left_seconds)
                if former is None or not renewed:
                    return await self._make_kept(order, answer.claim, former, early=kept is not None and kept.fresh)
                # Somebody has made it since we looked.
                gate.abandon_later(order.name, answer.claim)
            if former is not None and kept is not None:
                counts.hits += kept.fresh
                counts.stale += not kept.fresh
                counts.waited += pause > FIRST_PAUSE_SECONDS
                return former
            if answer.held or monotonic() >= ends:
                return await self._make_unkept(order)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads those who wait
            pause = min(pause * 1.5, LAST_PAUSE_SECONDS)

    async def _make_kept(self, order: Order[T], claim: CacheClaim, former: Made | None, *, early: bool) -> Made:
        """Make the value and keep it. If that fails, the former one is given as long as it may be."""
        counts, gate = self._gate.counts, self._gate
        try:
            made = await self._make(order)
        except Exception as error:
            # What the app tells its client (not found, not allowed) is an answer, not a failure of its source.
            if former is not None and not (isinstance(error, Problem) and error.status < 500):
                gate.report("make_failed", error)
                counts.stale += 1
                # The claim is left to its end: so long nobody else runs into the same.
                return former
            gate.abandon_later(order.name, claim)
            raise
        except BaseException:
            gate.abandon_later(order.name, claim)
            raise
        counts.early += early and former is not None
        absent = made.payload is None
        stale_seconds = 0.0 if absent else self._timing.stale
        data = seal(made.payload, make_seconds=monotonic() - made.as_of, stale_seconds=stale_seconds)
        if len(data) > gate.max_value_bytes:
            gate.report("too_large", None)
            gate.abandon_later(order.name, claim)
            counts.unkept += 1
            return made
        ttl = order.none_ttl if absent and order.none_ttl is not None else order.ttl
        entry = CacheEntry(order.name, data, self._jittered(ttl) + stale_seconds, order.tags)
        counts.unkept += not await gate.fill(entry, claim)
        return made

    async def _make_unkept(self, order: Order[T]) -> Made:
        made = await self._make(order)
        self._gate.counts.unkept += 1
        return made

    async def _make(self, order: Order[T]) -> Made:
        began = monotonic()
        value = await order.make()
        self._gate.counts.made += 1
        if value is None and order.none_ttl is not None:
            return Made(None, None, began)
        return Made(self._codec.encode(cast("T", value)), value, began)

    def _made(self, order: Order[T], kept: Kept | None, *, as_of: float) -> Made | None:
        found = self._decode(kept, order)
        if kept is None or found is None:
            return None
        return Made(None if found.absent else kept.payload, found.value, as_of)

    def _due(self, kept: Kept) -> bool:
        chance = random.random()  # noqa: S311 - spreads the making, guards nothing
        return due_early(kept.left_seconds, kept.make_seconds, beta=self._timing.early, chance=chance)

    def _decode(self, kept: Kept | None, order: Order[T] | None = None) -> Found[T] | None:
        """The value. Without an order only one that is not over will do; with one that knows no absence, no absence."""
        if kept is None or (order is None and not kept.fresh):
            return None
        if kept.absent:
            return Found(None, absent=True) if order is None or order.none_ttl is not None else None
        try:
            return Found(self._codec.decode(kept.payload), absent=False)
        except (ValueError, msgspec.MsgspecError) as error:
            self._gate.report("undecodable", error)
            return None

    def _patience(self) -> float:
        current = CURRENT.get(None)
        return self._timing.waiting if current is None else current.remaining_seconds(self._timing.waiting)

    def _ttl(self, ttl: float | None) -> float:
        if ttl is None:
            return self._timing.ttl
        if not 0 < ttl <= 30 * 86_400:
            raise ValueError(f"a time to live of {ttl:g} s: it is above 0 and up to 30 days")
        return ttl

    def _life(self, ttl: float | None) -> float:
        return self._jittered(self._ttl(ttl)) + self._timing.stale

    def _jittered(self, ttl: float) -> float:
        return jittered(ttl, jitter=self._timing.jitter, chance=random.random())  # noqa: S311 - spreads ends

    def _names(self, keys: Sequence[str]) -> list[str]:
        if len(keys) > MAX_KEYS:
            raise ValueError(f"{len(keys)} keys at once are too many; ask for {MAX_KEYS} at most")
        return [self._name(key) for key in keys]

    def _name(self, key: str) -> str:
        if len(key) > MAX_KEY_CHARACTERS:
            raise ValueError(
                f"a key of {len(key)} characters is too long; use {MAX_KEY_CHARACTERS} at most, or a digest"
            )
        return self._prefix + key


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags, each once, in order.

    Raises:
        ValueError: they are too many, or one is too long or empty.
    """
    if len(tags) > MAX_TAGS or not all(0 < len(tag) <= MAX_TAG_CHARACTERS for tag in tags):
        raise ValueError(
            f"an entry has {MAX_TAGS} tags at most, of 1 to {MAX_TAG_CHARACTERS} characters each: {tags!r}"
        )
    return tuple(sorted(set(tags)))
