"""One migrator at a time, by an advisory lock of the database (PostgreSQL manual, section 13.3.5).

The lock belongs to the session: whatever becomes of the process, it falls when the server has noticed that the client
is gone. Who comes second asks again and again, for a while, and then says who has it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from workhorse.errors import StartupError
from workhorse.sql import Queries

__all__ = ["LOCK_KEY", "insist_on_turn", "turn"]

# An arbitrary key that no other program is likely to use: "workhors" in ASCII.
LOCK_KEY: Final = int.from_bytes(b"workhors", "big")
# The same as the two halves that pg_locks shows.
HALVES: Final = (LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF)
FIRST_PAUSE_SECONDS: Final = 0.02
LAST_PAUSE_SECONDS: Final = 0.5
# Silence of so many seconds is explained.
SAY_AFTER_SECONDS: Final = 1.0


@contextlib.asynccontextmanager
async def turn(
    connection: AsyncConnection[Any], queries: Queries, *, seconds: float, say: Callable[[str], None]
) -> AsyncGenerator[None]:
    """Hold the lock around the block.

    Args:
        connection: in autocommit, and the server's own and not a pooler's.
        queries: of migrate.sql.
        seconds: longest wait for it.
        say: is told once who has it.

    Raises:
        StartupError: another process had it all that time.
    """
    began, pause, said = time.monotonic(), FIRST_PAUSE_SECONDS, False
    while not await _ask(connection, queries["try_lock"], LOCK_KEY):
        waited = time.monotonic() - began
        if waited >= seconds:
            raise StartupError(
                f"another process has been migrating this database for over {seconds:g} s:"
                f" {await _holder(connection, queries)}. Wait for it, or end it (pg_terminate_backend):"
                " what it was at is undone, or taken up by the next"
            )
        if not said and waited >= SAY_AFTER_SECONDS:
            say(f"another process migrates this database: {await _holder(connection, queries)}; waiting")
            said = True
        await asyncio.sleep(min(pause, seconds - waited))
        pause = min(pause * 2, LAST_PAUSE_SECONDS)
    try:
        yield
    finally:
        if not connection.broken:
            # Where that fails, the connection is closed next, and the lock falls with it.
            with contextlib.suppress(psycopg.Error):
                await connection.execute(queries["unlock"].encode(), (LOCK_KEY,))


async def insist_on_turn(connection: AsyncConnection[Any], queries: Queries) -> None:
    """Make sure that the lock is still this connection's.

    Raises:
        StartupError: it is not.
    """
    if not await _ask(connection, queries["has_lock"], *HALVES):
        raise StartupError(
            "the lock of migrations is not this connection's: a pooler in transaction mode stands between. Migrate over"
            " a direct connection to the server (DATABASE_URL of this one command)"
        )


async def _ask(connection: AsyncConnection[Any], query: str, *params: int) -> bool:
    row = await (await connection.execute(query.encode(), params)).fetchone()
    return bool(row and row[0])


async def _holder(connection: AsyncConnection[Any], queries: Queries) -> str:
    row = await (await connection.execute(queries["holder"].encode(), HALVES)).fetchone()
    if row is None:
        return "it has just ended"
    pid, name, host, seconds = row
    return f"server process {pid}, {name!r} from {host}, connected for {seconds} s"
