"""Shows measures as they change: one look at the database for all who watch, and what they are told from memory.

    live = Live(measures)
    api.router.add_route("/live/revenue", live.stream("revenue"))
    service = Service(api, feeds=measures.feeds, live=live)

While anybody watches, each process asks the database ten times a second what has changed of all that is watched, in one
statement. Who watches stands somewhere (`positions`), and is told the rows that have changed since (`shown`). Those who
keep up stand at the same place and are sent the same bytes; who does not read stands still, and costs nothing more.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from workhorse.analytics.live.positions import Position, format_positions
from workhorse.analytics.live.shown import Change, Shown, Told
from workhorse.analytics.live.stream import LiveStream, NotLive, TooManySubscribers
from workhorse.analytics.live.updates import FRESH, HEARTBEAT, STALE, Update, describe
from workhorse.analytics.measures import Measure, Measures
from workhorse.analytics.measures.measure import seconds_of
from workhorse.contracts import Database, Query
from workhorse.errors import SettingsError
from workhorse.sql import load_queries
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["Live", "Subscriber"]

LOOK_SECONDS: Final = 5.0
"""How long a look at the database may take."""
RETRY_SECONDS: Final = 1.0
"""From a look that failed to the next."""
STALE_SECONDS: Final = 2.0
"""How long looks may fail before those who watch are told."""
LEAVE_SECONDS: Final = 2.0
"""How long streams may take to end when the service does."""
UPDATES_KEPT: Final = 32
"""Updates that are kept until the next change, for others who stand where this one was made for."""

Watched = tuple[str, int]
"""A measure, and how many seconds of it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Subscriber:
    """One who watches."""

    watched: tuple[Watched, ...]
    resume: tuple[Position, ...] | None
    """Where it says that it stands."""
    came: int
    """Looks that had begun when it came."""
    due: float
    """When it is to be woken at the latest, on the loop's clock."""
    stands: tuple[tuple[int, int], ...] | None = None
    """Of each measure the turn and the revision that it was told; None: nothing yet."""
    stale: bool = False
    """Whether it was told that the database is away."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def rest(self) -> None:
        """Wait until there may be something for it."""
        await self.wake.wait()
        self.wake.clear()


class Live:
    """Measures that can be watched: `Service(app, feeds=measures.feeds, live=live)`.

    Args:
        measures: the definitions.
        tick_seconds: between two looks at the database.
        max_subscribers: of each process; who comes then is answered 503.
        max_rows: of one measure; of more, the oldest windows are not shown.
        heartbeat_seconds: how long a stream is silent at most.
        stall_seconds: how long a client may take nothing of what it is sent before its stream is cut.
        lifetime_seconds: after which a stream ends, and its client comes again, by the route's policy as it is then.

    Raises:
        SettingsError: a value is not above zero.
    """

    def __init__(
        self,
        measures: Measures,
        *,
        tick_seconds: float = 0.1,
        max_subscribers: int = 1_000,
        max_rows: int = 5_000,
        heartbeat_seconds: float = 15,
        stall_seconds: float = 20,
        lifetime_seconds: float = 900,
    ) -> None:
        given = {
            "tick_seconds": tick_seconds,
            "max_subscribers": max_subscribers,
            "max_rows": max_rows,
            "heartbeat_seconds": heartbeat_seconds,
            "stall_seconds": stall_seconds,
            "lifetime_seconds": lifetime_seconds,
        }
        for name, value in given.items():
            if not value > 0:
                raise SettingsError(f"Live has {name}={value!r}; it is more than 0")
        self._measures = measures
        self._tick_seconds = tick_seconds
        self._max_subscribers = max_subscribers
        self._max_rows = max_rows
        self.heartbeat_seconds: Final = heartbeat_seconds
        self.stall_seconds: Final = stall_seconds
        self.lifetime_seconds: Final = lifetime_seconds
        self._query = load_queries("workhorse.analytics.live", "sql/queries.sql")["look"]
        self._subscribers: set[Subscriber] = set()
        self._shown: dict[Watched, Shown] = {}
        """What is watched, and was looked at."""
        self._updates: dict[Any, Update] = {}
        self._begun = self._ended = 0
        """Looks that have begun; the number of the last one that has ended well."""
        self._failing_since = 0.0
        """When looks began to fail, on the loop's clock; 0: they do not."""
        self._looking: asyncio.Task[None] | None = None
        self._database: Database | None = None
        self._draining: Callable[[], bool] = bool
        self._stopping = False
        self._log: Log | None = None
        self._count(Registry(None))

    def __repr__(self) -> str:
        return f"<Live {len(self._subscribers)} subscribers, {'open' if self._database is not None else 'not bound'}>"

    def stream(self, *names: str, span: str = "1 hour") -> LiveStream:
        """An ASGI app that tells of these measures, by Server-Sent Events or over a WebSocket. Give it a route.

        Args:
            names: the measures'.
            span: how far back it shows them, such as `1 hour` or `2 days`.

        Raises:
            SettingsError: there is no such measure, or the span is malformed.
        """
        if not names or len(set(names)) != len(names):
            raise SettingsError(f"a stream tells of one measure or of several different ones, not of {names!r}")
        watched: list[Watched] = []
        for name in names:
            try:
                measure = self._measures.find(name)
            except KeyError:
                raise SettingsError(f"there is no measure {name!r} to be streamed; Live was not given it") from None
            watched.append((name, seconds_of(span, measure.name)))
        return LiveStream(self, tuple(watched))

    def bind(
        self,
        database: Database,
        *,
        draining: Callable[[], bool] = bool,
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        """Say where the measures are, from now on. A service calls this.

        Args:
            database: the one that they are counted in.
            draining: whether the process is to serve nobody new; asked at each tick.
            log: where failures go.
            metrics: where subscribers and looks are counted.
        """
        self._database, self._draining, self._log = database, draining, log
        self._stopping = False
        self._count(metrics if metrics is not None else Registry(None))

    async def unbind(self) -> None:
        """End all streams, and look no more."""
        self._stopping = True
        self._wake(lambda _: True)
        looking = self._looking
        if looking is not None:
            await asyncio.wait([looking], timeout=LEAVE_SECONDS)
            looking.cancel()
            await asyncio.wait([looking])
        self._database = None

    def enter(self, watched: tuple[Watched, ...], resume: tuple[Position, ...] | None) -> Subscriber:
        """Begin to watch.

        Raises:
            NotLive: the service stops, or does not run.
            TooManySubscribers: as many watch as may.
        """
        if self._database is None or self.stopping:
            raise NotLive
        if len(self._subscribers) >= self._max_subscribers:
            raise TooManySubscribers(self._max_subscribers)
        due = asyncio.get_running_loop().time() + self.heartbeat_seconds
        subscriber = Subscriber(watched=watched, resume=resume, came=self._begun, due=due)
        self._subscribers.add(subscriber)
        self._gauge.set(len(self._subscribers))
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="live")
        return subscriber

    def leave(self, subscriber: Subscriber, reason: str) -> None:
        """Watch no more."""
        self._subscribers.discard(subscriber)
        self._gauge.set(len(self._subscribers))
        self._ends.labels(reason).add()

    @property
    def stopping(self) -> bool:
        """Whether streams are to end."""
        return self._stopping or self._draining()

    def has_looked(self, subscriber: Subscriber) -> bool:
        """Whether what it watches was looked at once."""
        return all(one in self._shown for one in subscriber.watched)

    def next(self, subscriber: Subscriber, now: float) -> Update | None:
        """What a subscriber is to be told now; None: nothing. It stands there then."""
        update = self._news(subscriber)
        if update is None and subscriber.stale != self._is_stale(now):
            subscriber.stale = not subscriber.stale
            update = STALE if subscriber.stale else FRESH
        if update is None and now >= subscriber.due and subscriber.stands is not None:
            update = HEARTBEAT
        if update is not None or now >= subscriber.due:
            subscriber.due = now + self.heartbeat_seconds
        return update

    def _news(self, subscriber: Subscriber) -> Update | None:
        shown = [self._shown.get(one) for one in subscriber.watched]
        if None in shown:
            return None
        present = [one for one in shown if one is not None]
        if subscriber.stands is None and subscriber.resume is not None:
            if any(stands.revision > one.position.revision for stands, one in self._known(subscriber, present)) and (
                self._ended <= subscriber.came
            ):
                return None  # it was at a process that is ahead: the next look tells whether there is such a revision
            subscriber.stands, subscriber.resume = self._resumed(subscriber, present), None
        key = (subscriber.watched, subscriber.stands)
        newest = tuple((one.turn, one.position.revision) for one in present)
        if subscriber.stands == newest:
            return None
        update = self._updates.get(key)
        if update is None:
            update = self._make(subscriber, present)
            if len(self._updates) < UPDATES_KEPT:
                self._updates[key] = update
        subscriber.stands = newest
        return update if update.event else None

    def _known(self, subscriber: Subscriber, present: list[Shown]) -> list[tuple[Position, Shown]]:
        pairs = zip(subscriber.resume or (), present, strict=False)
        return [(stands, one) for stands, one in pairs if stands.began == one.began]

    def _resumed(self, subscriber: Subscriber, present: list[Shown]) -> tuple[tuple[int, int], ...] | None:
        """Where a client stands that has come again; None: what it has is of no use."""
        known = self._known(subscriber, present)
        if len(known) != len(present) or any(stands.revision > one.position.revision for stands, one in known):
            return None
        return tuple((one.turn, stands.revision) for stands, one in known)

    def _make(self, subscriber: Subscriber, present: list[Shown]) -> Update:
        stands = subscriber.stands
        whole = stands is None or any(turn != one.turn for (turn, _), one in zip(stands, present, strict=True))
        parts: dict[str, tuple[Shown, int, list[str]]] = {}
        for place, ((name, _), one) in enumerate(zip(subscriber.watched, present, strict=True)):
            rows = one.newer() if whole or stands is None else one.newer(stands[place][1])
            if whole or rows:
                parts[name] = (one, self._measures.find(name).seconds, rows)
        if not parts:
            return HEARTBEAT
        return Update("snapshot" if whole else "change", describe(parts), format_positions(o.position for o in present))

    async def _look_on(self) -> None:
        """Look at the database until nobody watches any more."""
        loop = asyncio.get_running_loop()
        try:
            while self._subscribers:
                began = loop.time()
                pause = await self._look_once(began)
                await asyncio.sleep(max(self._tick_seconds / 10, began + pause - loop.time()))
        finally:
            self._looking = None
            self._shown.clear()
            self._updates.clear()
            self._failing_since = 0.0

    async def _look_once(self, began: float) -> float:
        """Look, and wake whom it concerns. Returns the seconds from its begin to the next look."""
        changed, pause = False, self._tick_seconds
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                changed = await self._look()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who watch keep what they have
            pause = RETRY_SECONDS
            if not self._failing_since:
                self._failing_since = began
                if self._log is not None:
                    self._log.event("error", "live.failed", again_in=RETRY_SECONDS, exception=error)
        else:
            self._failing_since = 0.0
        if changed:
            self._updates.clear()
        everybody = changed or self.stopping
        now = asyncio.get_running_loop().time()
        stale = self._is_stale(now)
        self._wake(lambda one: everybody or one.stands is None or one.due <= now or one.stale != stale)
        return pause

    async def _look(self) -> bool:
        """Ask what has changed. Returns whether something has."""
        assert self._database is not None
        self._begun += 1
        number = self._begun
        watched = sorted({one for subscriber in self._subscribers for one in subscriber.watched})
        asked = [self._question(place, one) for place, one in enumerate(watched)]
        rows = await self._database.run(Query(self._query, (json.dumps(asked),)), repeatable=True)
        self._looks.add()
        told = read_rows(rows)
        changed = False
        for place, one in enumerate(watched):
            shown = self._shown.get(one)
            if shown is None:
                shown = self._shown[one] = Shown(self._measures.find(one[0]).seconds, self._max_rows)
                changed = True
            changed = shown.take(told.get(place)) or changed
        for one in self._shown.keys() - set(watched):
            del self._shown[one]
        self._ended = number
        return changed

    def _question(self, place: int, watched: Watched) -> dict[str, object]:
        name, span = watched
        measure: Measure = self._measures.find(name)
        shown = self._shown.get(watched)
        return {
            "place": place,
            "measure": name,
            "version": measure.version,
            "feed": measure.feed_name,
            "seconds": measure.seconds,
            "span": span,
            "at_most": self._max_rows,
            "began": -1 if shown is None else shown.began,
            "given": -1 if shown is None else shown.given,
            "revision": -1 if shown is None else shown.position.revision,
        }

    def _is_stale(self, now: float) -> bool:
        return bool(self._failing_since) and now - self._failing_since >= STALE_SECONDS

    def _wake(self, whom: Callable[[Subscriber], bool]) -> None:
        for subscriber in self._subscribers:
            if whom(subscriber):
                subscriber.wake.set()

    def _count(self, registry: Registry) -> None:
        self._gauge = registry.gauge("workhorse_live_subscribers", "Clients that watch measures now.").labels()
        self._looks = registry.counter(
            "workhorse_live_looks_total", "Looks at the database for all clients that watch."
        ).labels()
        self._ends = registry.counter("workhorse_live_ends_total", "Streams that have ended, by why.", ("reason",))


def read_rows(rows: Sequence[Sequence[Any]]) -> dict[int, Told]:
    """What a look has told, by the place of the question."""
    told: dict[int, Told] = {}
    for place, began, given, since, starts, by, revision, figures in rows:
        one = told.setdefault(place, Told(began, given, since, []))
        if starts is not None:
            one.changes.append(Change(starts, by, revision, figures))
    return told
