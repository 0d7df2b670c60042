"""A relay is a feed that publishes, and perhaps something that runs beside it.

No transaction spans a database and somebody else's system. So a relay publishes first and notes that it has after, and
what was published just before a crash is published again: at least once, each time with the same id, by which the
receiver, or the system itself, tells the repeat.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

from workhorse.contracts import Database
from workhorse.feeds import Feed
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["Relay", "relaying"]


class Relay(Protocol):
    """Publishes events."""

    @property
    def feed(self) -> Feed:
        """What reads the journal for it."""
        ...

    def running(
        self, database: Database, *, log: Log | None, metrics: Registry | None
    ) -> AbstractAsyncContextManager[object]:
        """Do during the block what it does beside reading."""
        ...


@asynccontextmanager
async def relaying(
    database: Database, relays: Iterable[Relay], *, log: Log | None = None, metrics: Registry | None = None
) -> AsyncGenerator[None]:
    """Run the relays during the block. Their feeds are read by `feeds.reading`, as all are."""
    async with AsyncExitStack() as stack:
        for relay in relays:
            await stack.enter_async_context(relay.running(database, log=log, metrics=metrics))
        yield
