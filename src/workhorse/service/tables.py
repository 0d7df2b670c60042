"""What a service's tables run their queries on: connections of their own, by the settings of analytics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workhorse.service.rooms import Rooms

if TYPE_CHECKING:
    from workhorse.service.service import Service

__all__ = ["asking"]


@asynccontextmanager
async def asking(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Give the tables of a service their database during the block."""
    tables = service.tables
    if tables is None:
        yield
        return
    from workhorse.state.postgres.frames import PostgresFrames  # noqa: PLC0415 - most services have no tables

    settings, database = rooms.settings.analytics, rooms.settings.database
    url = rooms.urls.replica or rooms.urls.database
    frames = PostgresFrames(
        settings.url.get_secret_value() if settings.url is not None else url,
        connections=settings.connections,
        acquire_timeout_seconds=settings.acquire_timeout_seconds,
        connect_timeout_seconds=database.connect_timeout_seconds,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        batch_bytes=settings.batch_bytes,
        work_mem_bytes=settings.work_mem_bytes,
        parallel_workers=settings.parallel_workers,
    )
    tables.bind(frames, database=service.database_of(rooms), max_rows=settings.max_rows)
    try:
        yield
    finally:
        tables.bind(None, database=None, max_rows=settings.max_rows)
        await frames.close()
