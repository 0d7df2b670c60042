"""Listens to a channel of Postgres on a connection of its own (PostgreSQL manual, NOTIFY).

A pooled connection cannot listen: it is given to others. This one is lost at times, and what was said meanwhile is lost
with it; so whoever listens is told of every new begin as well, and looks for itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql

from workhorse.errors import DatabaseUnavailable

__all__ = ["PostgresNotices"]

CONNECT_SECONDS: Final = 5
# A server that vanishes without a word is asked now and then; the kernel's own probes come on top, where there is TCP.
PROBE_SECONDS: Final = 30.0


class PostgresNotices:
    """One channel of the database at `url`."""

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel

    async def follow(self, heard: Callable[[str], None]) -> None:
        """Listen until cancelled. `heard` is called with each payload, and with an empty one when listening has begun.

        Raises:
            DatabaseUnavailable: the connection could not be had, or was lost.
        """
        try:
            connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="workhorse listen",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        except psycopg.Error as error:
            raise DatabaseUnavailable from error
        try:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            heard("")
            while True:
                async for notice in connection.notifies(timeout=PROBE_SECONDS):
                    heard(notice.payload)
                await self._probe(connection)
        except (psycopg.Error, TimeoutError) as error:
            raise DatabaseUnavailable from error
        finally:
            await connection.close()

    async def _probe(self, connection: AsyncConnection[Any]) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.execute("")
