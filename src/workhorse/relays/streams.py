"""Events in a Redis stream, in the journal's order, each once as long as the server keeps what it took.

The id of an entry is the event's place in the feed (`Recorded.place`), which is the same when a page is published
again: the server refuses the repeat. So a crash of ours repeats nothing. A failover of Redis may lose the last entries
that it took, and nobody tells us; what must not be lost goes by webhook, or is read from the journal.

The stream is this relay's alone: another writer's ids would be greater than ours.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from workhorse.contracts import Database
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.feeds import Feed, Recorded
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work

if TYPE_CHECKING:
    from workhorse.feeds.feed import Start

__all__ = ["StreamRelay"]

PAGE: Final = 200


class _Connection:
    """The client of a relay, while it runs."""

    client: Any = None


@dataclass(frozen=True, slots=True)
class StreamRelay:
    """Publishes to one stream.

    Args:
        name: of the feed; it never changes.
        stream: its key.
        url: of the server, such as `redis://cache:6379/0`.
        types: of the events, as a feed's; by default all. To change them, give another `version`.
        max_length: about how many entries the stream keeps; None: all.
        start: as a feed's.
        version: as a feed's. With another one all is published anew, from `start`.
    """

    name: str
    stream: str
    url: str = field(repr=False)
    types: Sequence[str] = field(default=(), kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)
    start: "Start" = field(default="beginning", kw_only=True)
    version: str = field(default="1", kw_only=True)
    _open: _Connection = field(default_factory=_Connection, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.stream or (self.max_length is not None and self.max_length < 1):
            raise SettingsError(f"the stream relay {self.name!r} has no stream, or max_length={self.max_length}")
        _ = self.feed

    @property
    def feed(self) -> Feed:
        """What publishes. It waits while the server is away."""
        return Feed(
            f"stream.{self.name}",
            self._publish,
            types=self.types,
            at_most=PAGE,
            start=self.start,
            version=self.version,
            repeatable=True,
        )

    @asynccontextmanager
    async def running(
        self,
        database: Database,  # noqa: ARG002 - as other relays take it
        *,
        log: Log | None = None,  # noqa: ARG002
        metrics: Registry | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[None]:
        """Hold a connection during the block."""
        # Only here: whoever publishes elsewhere needs no driver.
        from workhorse.state.redis.connection import close_redis, open_redis  # noqa: PLC0415

        client = self._open.client = open_redis(self.url, pool_max=2)
        try:
            yield
        finally:
            self._open.client = None
            await close_redis(client)

    async def _publish(self, work: Work, events: Sequence[Recorded]) -> None:  # noqa: ARG002 - nothing is written
        from workhorse.state.redis.streams import Entry, publish  # noqa: PLC0415 - as above

        if self._open.client is None:
            raise StoreUnavailable
        for event in events:
            entry = Entry(event.place, str(event.id), fields_of(event))
            await publish(self._open.client, self.stream, entry, max_length=self.max_length)


def fields_of(event: Recorded) -> list[str | bytes]:
    """The fields of an entry."""
    return [
        "id",
        str(event.id),
        "type",
        event.type,
        "subject",
        event.subject,
        "occurred_at",
        event.occurred_at.isoformat(),
        "data",
        msgspec.json.encode(event.data),
    ]
