"""Reads the journal for one feed, page by page, and notes how far it has come in the transaction of what it did.

Neither ids nor times are the order in which events become visible: a slow transaction commits an older one after a
younger. So a position is a snapshot of the database, and what is new are the events of transactions that a later
snapshot sees and this one does not: none is skipped, however slow, and none comes twice. What is new may be much, as on
the first day of a feed; then the later snapshot is kept, and the events between the two are read in pages.

Any number of processes may read for one feed: an advisory lock of the transaction says whose turn it is. Whoever is
killed leaves nothing behind, and what was read in the transaction was not.

Events come by transaction, those of one in the order in which they were emitted. Of two transactions that were under
way at the same time, either may come first.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from workhorse.contracts import Database, Query
from workhorse.errors import SettingsError
from workhorse.feeds.feed import Feed, FeedMoved, Recorded, Start
from workhorse.journal import EventTypes
from workhorse.sql import load_queries
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit, Work
from workhorse.units.work import NO_KINDS

__all__ = ["FeedReader", "prepare_feeds", "reading"]

# Between two looks: so long after a page, and twice as long after each look that found nothing, up to the feed's own.
BUSY_SECONDS: Final = 0.05
# After an error: so long at first, then twice as long each time.
RETRY_SECONDS: Final = 0.5
MAX_RETRY_SECONDS: Final = 60.0
TURN_SECONDS: Final = 300.0
"""How long a page may take. Its transaction holds up the database's clearing, so it has an end."""

PREPARE_SECONDS: Final = 30.0
"""How long a feed may take to say at the start whether it may be read."""


class Position(NamedTuple):
    """How far a feed has come, and how far it may go."""

    seen: str
    reading: str
    page_txid: str | None
    page_id: UUID | None
    given: int
    """Events that the feed was given so far."""
    began: int
    """When it began, in milliseconds since 1970."""
    fixed: bool
    """Whether `reading` is noted, so that this page comes again as it is."""

    @property
    def begin(self) -> str:
        """The first transaction that the next page may have."""
        return self.page_txid if self.page_txid is not None else self.seen.partition(":")[0]


class FeedReader:
    """Reads for one feed.

    Args:
        database: where the journal is, and what the handler writes to.
        feed: what is read, and for what.
        events: the kinds of events that are declared; the handler is given their newest shape.
        log: where errors of the handler go.
        metrics: where pages are counted; nowhere by default.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        *,
        events: EventTypes = NO_KINDS,
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._database = database
        self._kinds = events
        self._feed = feed
        self._log = log
        self._queries = load_queries("workhorse.feeds", "sql/queries.sql")
        registry = metrics if metrics is not None else Registry(None)
        self._events = registry.counter(
            "workhorse_feed_events_total", "Events that a feed was given.", ("feed",)
        ).labels(feed.name)
        self._failures = registry.counter(
            "workhorse_feed_failures_total", "Pages that a feed's handler failed at.", ("feed",)
        ).labels(feed.name)
        if feed.bind is not None:
            feed.bind(registry, log)

    def __repr__(self) -> str:
        return f"<FeedReader of {self._feed.name!r}>"

    async def run(self) -> None:
        """Read until cancelled. An error of the handler is logged, and the page is tried again after a pause."""
        idle, retry = BUSY_SECONDS, RETRY_SECONDS
        while True:
            try:
                read = await self.turn()
            except FeedMoved:
                raise
            except Exception as error:  # noqa: BLE001 - the page stays where it is, whatever it was
                self._failures.add()
                if self._log is not None:
                    self._log.event("error", "feed.failed", feed=self._feed.name, again_in=retry, exception=error)
                await asyncio.sleep(retry)
                retry = min(retry * 2, MAX_RETRY_SECONDS)
                continue
            retry = RETRY_SECONDS
            if read >= self._feed.at_most:
                continue
            idle = BUSY_SECONDS if read else min(idle * 2, self._feed.idle_seconds)
            await asyncio.sleep(idle)

    async def drain(self) -> int:
        """Read all that there is, and return how many events it were. For scripts and tests.

        Raises:
            FeedMoved: the position is another cluster's.
            Exception: whatever the handler raised. Its page was not read.
        """
        total = 0
        while True:
            read = await self.turn()
            total += read
            if read < self._feed.at_most:
                return total

    async def turn(self) -> int:
        """Read one page, if there is one and no other process is at it. Returns how many events it had.

        Raises:
            FeedMoved: the position is another cluster's.
            Exception: whatever the handler raised. The page was not read.
        """
        feed = self._feed
        unit = Unit(self._database, isolation="read committed", deadline_seconds=TURN_SECONDS, events=self._kinds)
        events: list[Recorded] = []
        async with unit as work:
            if not (await self._row(work, "lock", (feed.name,)))[0]:
                return 0
            position = self._position(await self._row(work, "position", (feed.name,)))
            if position is not None and feed.repeatable and not position.fixed and position.reading != position.seen:
                unit.finish(Query(self._queries["fix"], (position.reading, feed.name)))
                position = None
            elif position is not None:
                events = await self._page(work, position)
                if events:
                    await feed.handler(work, events)
                if events or position.reading != position.seen:
                    unit.finish(self._moved(position, events))
            else:
                # Under the lock, so that of two processes one begins.
                await work.execute(self._queries["begin"], (feed.name, feed.start, feed.version))
        if position is None:
            return await self.turn()
        self._events.add(len(events))
        return len(events)

    async def restart(self, start: Start) -> None:
        """Begin anew. What the handler has written is its own to clear before.

        Args:
            start: with the first event that the journal still has, or with the next one.
        """
        async with Unit(self._database, deadline_seconds=TURN_SECONDS) as work:
            await work.execute(self._queries["wait"], (self._feed.name,))
            await work.execute(self._queries["begin"], (self._feed.name, start, self._feed.version))

    async def _row(self, work: Work, query: str, params: Sequence[object]) -> Any:
        return await (await work.execute(self._queries[query], params)).fetchone()

    async def _page(self, work: Work, position: Position) -> list[Recorded]:
        if position.reading == position.seen:
            return []
        cursor = await work.execute(
            self._queries["page"],
            (
                position.begin,
                position.seen,
                position.reading,
                position.page_id,
                self._feed.pattern,
                self._feed.at_most,
            ),
        )
        rows = await cursor.fetchall()
        return [
            self._newest(recorded(row, place=(position.began, position.given + number)))
            for number, row in enumerate(rows, start=1)
        ]

    def _newest(self, event: Recorded) -> Recorded:
        if event.type not in self._kinds:
            return event
        return replace(event, data=self._kinds.newest(event.type, event.data))

    def _position(self, row: Sequence[Any] | None) -> Position | None:
        """What to read next; None where the feed has to begin, or to begin anew."""
        if row is None:
            return None
        seen, reading, page_txid, page_id, version, same_cluster, now, given, began = row
        if not same_cluster:
            raise FeedMoved(self._feed.name)
        if version != self._feed.version:
            return None
        bound = reading if reading is not None else now
        return Position(seen, bound, page_txid, page_id, given, began, reading is not None)

    def _moved(self, position: Position, events: Sequence[Recorded]) -> Query:
        count, name = len(events), self._feed.name
        if count < self._feed.at_most:
            return Query(self._queries["arrive"], (position.reading, count, name))
        last = events[-1]
        return Query(self._queries["turn_page"], (position.reading, str(last.txid), last.id, count, name))


async def prepare_feeds(database: Database, feeds: Iterable[Feed]) -> None:
    """Ask each feed that wants to be asked whether it may be read, before anything is served or read.

    Raises:
        StartupError: one may not.
    """
    for feed in feeds:
        if feed.prepare is not None:
            unit = Unit(database, isolation="read committed", deadline_seconds=PREPARE_SECONDS)
            async with unit as work:
                await feed.prepare(work)


@asynccontextmanager
async def reading(
    database: Database,
    feeds: Iterable[Feed],
    *,
    events: EventTypes = NO_KINDS,
    log: Log | None = None,
    metrics: Registry | None = None,
) -> AsyncGenerator[None]:
    """Read for all of `feeds` during the block; at its end a page that is under way is given up, and comes again.

    Raises:
        SettingsError: two feeds have one name.
    """
    names: set[str] = set()
    for feed in (feeds := tuple(feeds)):
        if feed.name in names:
            raise SettingsError(f"two feeds are named {feed.name!r}, and would take each other's events; rename one")
        names.add(feed.name)
    tasks = [
        asyncio.create_task(
            FeedReader(database, feed, events=events, log=log, metrics=metrics).run(), name=f"feed {feed.name}"
        )
        for feed in feeds
    ]
    for task in tasks:
        task.add_done_callback(lambda ended: _tell(ended, log))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _tell(ended: "asyncio.Task[None]", log: Log | None) -> None:
    error = None if ended.cancelled() else ended.exception()
    if error is not None and log is not None:
        log.event("error", "feed.stopped", reader=ended.get_name(), exception=error)


def recorded(row: Sequence[Any], *, place: tuple[int, int] = (0, 0)) -> Recorded:
    """An event from its row."""
    id_, txid, type_, subject, data, occurred_at, request_id, trace_id, principal = row
    return Recorded(
        id=id_,
        txid=int(txid),
        type=type_,
        subject=subject,
        data=cast("Mapping[str, Any]", data),
        occurred_at=occurred_at,
        request_id=request_id or "",
        trace_id=trace_id or "",
        principal=principal or "",
        place=place,
    )
