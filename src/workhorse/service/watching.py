"""What a service's live measures are looked at with: one connection of their own, while anybody watches."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from workhorse.service.rooms import Rooms
from workhorse.state.postgres.database import PostgresDatabase

if TYPE_CHECKING:
    from workhorse.service.service import Service

__all__ = ["watching"]

STATEMENT_SECONDS: Final = 4.0


@asynccontextmanager
async def watching(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Give the live measures of a service their database during the block; at its end all streams end.

    They end before, when the run is being stopped: servers wait for replies that are under way.
    """
    live = service.live
    if live is None:
        yield
        return
    # Not of the units' connections: who watches neither waits for these nor takes one away.
    database = PostgresDatabase(
        rooms.urls.database,
        pool_min=0,
        pool_max=1,
        connect_timeout_seconds=rooms.settings.database.connect_timeout_seconds,
        statement_timeout_seconds=STATEMENT_SECONDS,
    )
    await database.open()
    signal = None if rooms.run_folder is None else rooms.run_folder / "draining"
    live.bind(
        database,
        draining=lambda: signal is not None and signal.exists(),
        log=rooms.log,
        metrics=rooms.metrics,
    )
    try:
        yield
    finally:
        await live.unbind()
        await database.close()
