"""The threads in which blocking connections are waited for, so that nobody who waits can keep out whom he waits for.

A statement that waits for a row's lock keeps its thread, and the COMMIT that frees the row needs one, too. In a pool of
threads that both share (the event loop's own has four more than the machine has processors) a few requests for one hot
row take all of them, and then each waits until its time-out. So there are two lanes, each with a thread for every
connection that there can be:

- **begins** wait for a connection and for a claimed key. Both come free by steps of others.
- **steps** are those of transactions that are open. There are no more of these than connections, and each takes one
  step at a time; so a step, and a COMMIT above all, never waits for a thread.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Final, ParamSpec, TypeVar

from sqlalchemy import Pool, QueuePool

__all__ = ["Lanes", "connections_of", "wait_of"]

P = ParamSpec("P")
T = TypeVar("T")

# For pools without a bound: no Postgres gives one process more connections than that.
MOST: Final = 1_000
# SQLAlchemy's own for a pool that has one.
WAIT_SECONDS: Final = 30.0


class Lanes:
    """The two lanes of one engine. Their threads are made when they are first needed, and end with this object."""

    __slots__ = ("_begins", "_steps")

    def __init__(self, connections: int) -> None:
        self._begins = ThreadPoolExecutor(connections, thread_name_prefix="workhorse-begin")
        self._steps = ThreadPoolExecutor(connections, thread_name_prefix="workhorse-step")

    def begin(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Have `function` called in the lane of what waits for a connection."""
        return hand_over(self._begins, function, *args, **kwargs)

    def step(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Have `function` called in the lane of those that have one."""
        return hand_over(self._steps, function, *args, **kwargs)


def hand_over(
    threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> "asyncio.Future[T]":
    """Call `function` in one of the threads, in the context of the caller: the app's listeners may look at it."""
    call = partial(copy_context().run, function, *args, **kwargs)
    return asyncio.get_running_loop().run_in_executor(threads, call)


def connections_of(pool: Pool) -> int:
    """How many connections a pool lends at once."""
    if not isinstance(pool, QueuePool) or pool.size() <= 0:
        return MOST
    # What the pool knows of itself is public as a sentence only: "Pool size: 5 ... Current Overflow: -5 ...".
    overflow: int = pool._max_overflow  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return pool.size() + overflow if overflow >= 0 else MOST


def wait_of(pool: Pool) -> float:
    """How long a pool lets somebody wait for a connection, in seconds."""
    return pool.timeout() if isinstance(pool, QueuePool) else WAIT_SECONDS
