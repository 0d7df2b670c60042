"""How a worker waits: for a call, for its stop, and for a database that is away."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from workhorse.errors import DatabaseUnavailable

__all__ = ["LONGEST_PAUSE_SECONDS", "ended_before", "heard", "is_set_within"]

LONGEST_PAUSE_SECONDS: Final = 2.0
"""The longest pause between two tries to reach a database that is away."""
# How often the database may refuse the same statement, for whatever reason, before it is believed.
MOST_REFUSALS: Final = 8


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, but no longer than that; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


async def ended_before(beginning: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Wait for the beginning, or for a stop that comes before: the database may be away for long."""
    begin, stopped = asyncio.ensure_future(beginning), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({begin, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if begin.done():
            begin.result()
        return begin.done()
    finally:
        begin.cancel()
        stopped.cancel()


async def heard(call: Callable[[], Awaitable[Any]], failed: Callable[[Exception], None]) -> Any:
    """Say something to the database until it has been heard, however long it is away.

    What it refuses, and goes on to refuse, is raised. `failed` is told of each try that failed before.
    """
    pause, refusals = 0.05, 0
    while True:
        try:
            return await call()
        except Exception as error:
            refusals += not isinstance(error, DatabaseUnavailable)
            if refusals >= MOST_REFUSALS:
                raise
            failed(error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
