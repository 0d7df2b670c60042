"""The room of caches: one store, named caches over it, and tags that go through all of them.

caches = Caches()
prices = caches.open("prices", Price, ttl=60)
service = Service(app, caches=caches)

price = await prices.once(sku, read_price, tags=["catalogue"])
await caches.invalidate("catalogue")
"""

import re
from typing import Final, NoReturn, TypeVar, cast

from workhorse.caching.cache import Cache, Timing, checked_tags
from workhorse.caching.circuit import Circuit
from workhorse.caching.gate import CacheCounts, Gate, Near, Report, StoreAwayPolicy, WorkLike
from workhorse.caching.values import Codec, codec_of
from workhorse.contracts import CacheGuarantee, CacheStore
from workhorse.errors import SettingsError, StartupError

__all__ = ["Caches"]

T = TypeVar("T")

NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")


class Nowhere:
    """What caches ask that have no store yet."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StartupError(
            "these caches have no store yet: give them to the service, Service(app, caches=caches), and use them once"
            " it has started; or name a store, Caches(MemoryCache())"
        )


class Caches:
    """All caches of a service over one store. They are used from one event loop.

    Args:
        store: where the values are; closing it is its owner's. None: where the service says, once it has started.
        away: while it cannot be reached, `bypass` makes values and does not keep them; `raise` raises StoreUnavailable.
        near: keep values in the process for a moment as well; None: do not.
        max_value_bytes: larger values are not kept.
        within_units: the store is in the database on which units run, so deletions can commit with their rows.
        report: told what an operator should hear of.
        circuit: whether to ask the store.

    Raises:
        SettingsError: `within_units` of a store that is in no database.
    """

    __slots__ = ("_borrowed", "_gate", "_kinds")

    def __init__(
        self,
        store: CacheStore | None = None,
        *,
        away: StoreAwayPolicy = "bypass",
        near: Near | None = None,
        max_value_bytes: int = 1024 * 1024,
        within_units: bool = False,
        report: Report = lambda _event, _error: None,
        circuit: Circuit | None = None,
    ) -> None:
        self._gate = Gate(
            store if store is not None else cast("CacheStore", Nowhere()),
            away=away,
            near=near,
            max_value_bytes=max_value_bytes,
            within_units=within_units,
            report=report,
            circuit=circuit or Circuit(),
        )
        self._borrowed = False
        """Whether the store is a service's, and the next service may bring its own."""
        self._kinds: dict[str, tuple[object, int]] = {}

    def __repr__(self) -> str:
        return f"<Caches on {type(self._gate.store).__name__}, {self._gate.circuit!r}>"

    @property
    def bound(self) -> bool:
        """Whether there is a store."""
        return not isinstance(self._gate.store, Nowhere)

    def bind(self, store: CacheStore, *, within_units: bool, report: Report) -> None:
        """Take the service's store; of no effect where the code names one.

        Args:
            store: where the values are.
            within_units: it is in the database on which units run.
            report: told what an operator should hear of.
        """
        if not self.bound or self._borrowed:
            self._borrowed = True
            self._gate.store, self._gate.within_units, self._gate.report = store, within_units, report

    @property
    def counts(self) -> CacheCounts:
        """What happened since the start, in this process. It goes on counting."""
        return self._gate.counts

    @property
    def guarantees(self) -> CacheGuarantee:
        """What the store promises. With near values, other processes' deletions show after a moment only."""
        return self._gate.store.guarantees

    def open(
        self,
        name: str,
        kind: type[T],
        *,
        ttl: float,
        version: int = 1,
        jitter: float = 0.1,
        stale: float = 0.0,
        making: float = 10.0,
        waiting: float = 5.0,
        early: float = 1.0,
        codec: Codec[T] | None = None,
    ) -> Cache[T]:
        """A cache of values of one kind.

        Args:
            name: what the keys begin with, in lower case.
            kind: the type of the values: `bytes`, or whatever msgspec knows. What is read is checked against it.
            ttl: seconds for which a value is good.
            version: of the kind: count it up when the same bytes mean something else, and old values are gone.
            jitter: by which part of `ttl` it is shortened at most, by chance.
            stale: seconds after its end for which a value is still given while another is made, or cannot be made.
            making: seconds for which one who makes a value has it for itself. Longer than making ever takes.
            waiting: seconds for which others wait for it, before each makes its own.
            early: how eagerly a value is made again before it is over (the beta of XFetch); 0: never.
            codec: how values become bytes, for types that msgspec does not know.

        Raises:
            SettingsError: the name is malformed or taken by another kind, a time is out of range, or there is no codec
                for a type that msgspec does not know.
        """
        if NAME.match(name) is None:
            raise SettingsError(f"a cache cannot be named {name!r}: begin with a letter, go on with a-z, 0-9, _ . -")
        if self._kinds.setdefault(name, (kind, version)) != (kind, version):
            raise SettingsError(f"there is another cache named {name!r}, of another kind or version; rename one")
        timing = Timing(ttl=ttl, jitter=jitter, stale=stale, making=making, waiting=waiting, early=early)
        return Cache(self._gate, f"{name}:{version}:", codec or codec_of(kind), timing)

    async def invalidate(self, *tags: str) -> bool:
        """Forget every entry of these tags, in all caches.

        Returns False if the store is away: then this process makes up for it before it reads anything.

        Raises:
            StoreUnavailable: it is away, and the policy is to raise.
            ValueError: there are more than 16 tags, or one is malformed.
        """
        return await self._gate.delete_names((), tags=checked_tags(tags))

    async def invalidate_with(self, work: WorkLike, *tags: str) -> None:
        """The same when the unit commits. Call it after the write that it is for (see `Cache.delete_with`)."""
        await self._gate.delete_names_with(work, (), tags=checked_tags(tags))

    async def close(self) -> None:
        """Wait for what is under way in the background. It is bounded by the store's time-outs."""
        await self._gate.close()
