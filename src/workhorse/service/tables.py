"""What a service's tables run their queries on: connections of their own, by the settings of analytics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workhorse.service.rooms import Rooms, Urls

if TYPE_CHECKING:
    from workhorse.service.service import Service
    from workhorse.settings import Settings
    from workhorse.state.postgres.frames import PostgresFrames

__all__ = ["asking", "open_frames"]


@asynccontextmanager
async def asking(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Give the tables of a service their database during the block."""
    tables = service.tables
    if tables is None:
        yield
        return
    frames = open_frames(rooms.settings, rooms.urls)
    settings = rooms.settings.analytics
    tables.bind(frames, database=service.database_of(rooms), max_rows=settings.max_rows)
    try:
        yield
    finally:
        tables.bind(None, database=None, max_rows=settings.max_rows)
        await frames.close()


def open_frames(all_settings: "Settings", urls: Urls) -> "PostgresFrames":
    """Connections for queries, by the settings of analytics. They are opened when they are needed."""
    from workhorse.state.postgres.frames import PostgresFrames  # noqa: PLC0415 - most services have no tables

    settings, database = all_settings.analytics, all_settings.database
    url = urls.replica or urls.database
    return PostgresFrames(
        settings.url.get_secret_value() if settings.url is not None else url,
        connections=settings.connections,
        acquire_timeout_seconds=settings.acquire_timeout_seconds,
        connect_timeout_seconds=database.connect_timeout_seconds,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        batch_bytes=settings.batch_bytes,
        work_mem_bytes=settings.work_mem_bytes,
        parallel_workers=settings.parallel_workers,
    )
