"""What reads the journal: its name, the events that it wants, and what it does with them.

async def index(work: Work, events: Sequence[Recorded]) -> None:
    for event in events:
        await work.execute("INSERT INTO movements ...", (event.subject, event.data["amount"]))

movements = Feed("movements", index, types=["transfer.*"])
service = Service(app, feeds=[movements])
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from workhorse.errors import SettingsError, StartupError
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work

__all__ = ["Bind", "Feed", "FeedMoved", "Handler", "Preparation", "Recorded", "Start"]

MAX_PAGE: Final = 10_000

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,99}\Z")
_TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?\Z")

Start = Literal["beginning", "now"]
"""Where a reader begins that has never read: with the first event that the journal still has, or with the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One event, as it stands in the journal (see docs/events.md)."""

    id: UUID
    txid: int
    """The transaction that it happened in, of this cluster."""
    type: str
    subject: str
    data: Mapping[str, Any]
    occurred_at: datetime
    request_id: str
    trace_id: str
    principal: str
    place: tuple[int, int] = (0, 0)
    """Where it stands in what its feed is given: when the feed began, in milliseconds since 1970, and its number since
    then. It only grows, and of a `repeatable` feed an event that comes again has the same."""


Handler = Callable[[Work, Sequence[Recorded]], Awaitable[None]]
"""Does what a reader is for with a page of events. What it writes through the work commits with the position."""

Bind = Callable[[Registry, Log | None], None]
"""Is given where a feed's handler counts and logs."""

Preparation = Callable[[Work], Awaitable[None]]
"""Looks whether a feed may be read at all. What it writes commits if it raises nothing."""


class FeedMoved(StartupError):
    """The position of a reader was noted in another cluster, where transactions have other numbers.

    As after a restore from a dump, or a failover by logical replication. Nothing was read. `FeedReader.restart` begins
    anew: with "now" if the events up to here were read, with "beginning" if what was read is rebuilt.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the feed {name!r} was read in another database cluster, whose snapshots mean nothing here: clear what its"
            f" handler has written and begin anew with `await FeedReader(...).restart('beginning')`, or go on with what"
            " comes from now on with `restart('now')`"
        )


@dataclass(frozen=True, slots=True)
class Feed:
    """A reader of the journal.

    Args:
        name: names its position in the database; it never changes. Lower case, digits, `_`, `.` and `-`.
        handler: is given each page of events once, in a transaction with the position.
        types: of the events that it wants, such as `transfer.posted`, or `transfer.*` for all below; by default all.
        at_most: events of one page.
        start: where it begins when it has never read.
        version: of what it makes of the events. With another one it begins anew, from `start`; what it wrote before is
            the handler's to clear.
        repeatable: a page that comes again, because the process died or the handler raised, has the same events in the
            same order, for handlers that publish outside of the database. Costs a transaction a page more.
        idle_seconds: between two looks where nothing has come for a while; so late an event may be read then.
        prepare: called at the start of each service and worker that has the feed, read there or not, in a transaction
            of its own; what it raises refuses the start.
        bind: called by the reader before the first page with its metrics and its log.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    handler: Handler
    types: Sequence[str] = field(default=(), kw_only=True)
    at_most: int = field(default=500, kw_only=True)
    start: Start = field(default="beginning", kw_only=True)
    version: str = field(default="1", kw_only=True)
    repeatable: bool = field(default=False, kw_only=True)
    idle_seconds: float = field(default=1.0, kw_only=True)
    prepare: Preparation | None = field(default=None, kw_only=True)
    bind: Bind | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SettingsError(
                f"the feed's name {self.name!r} is not 1 to 100 of a-z, 0-9, '_', '.' and '-', a letter first"
            )
        if not 1 <= self.at_most <= MAX_PAGE:
            raise SettingsError(f"the feed {self.name!r} has at_most={self.at_most}; it is 1 to {MAX_PAGE}")
        if self.start not in {"beginning", "now"}:
            raise SettingsError(f"the feed {self.name!r} has start={self.start!r}; it is 'beginning' or 'now'")
        if not 0.05 <= self.idle_seconds <= 60:
            raise SettingsError(f"the feed {self.name!r} has idle_seconds={self.idle_seconds}; it is 0.05 to 60")
        if not 1 <= len(self.version) <= 100:
            raise SettingsError(f"the feed {self.name!r} has version={self.version!r}; it has 1 to 100 characters")
        for type_ in (self.types,) if isinstance(self.types, str) else self.types:
            if not _TYPE.match(type_) or isinstance(self.types, str):
                raise SettingsError(
                    f"the feed {self.name!r} has types={self.types!r}; it is a list of event types such as"
                    " 'transfer.posted' or 'transfer.*'"
                )

    @property
    def pattern(self) -> str | None:
        """The types as a regular expression of Postgres; None: all."""
        if not self.types:
            return None
        parts = [re.escape(type_[:-2]) + r"\..*" if type_.endswith(".*") else re.escape(type_) for type_ in self.types]
        return f"^({'|'.join(parts)})$"
