"""Where the Django connection of one request, job or script is: in one thread, and lent to others for single steps.

Django keeps a connection per thread (`django.db.connections`), and under ASGI gives each request a thread of its own:
what runs through `sync_to_async`, as sync views and the ORM's async methods do, runs there one after the other. The
unit of the request has to be on that thread's connection, or it would be another transaction than the ORM's.

But the unit lives in the event loop, and a sync view that asks something of it holds its thread while it waits. So the
unit's own steps are done in other threads, to which the connection is lent for the step: psycopg's connections may be
used by several threads in turn, and Django's wrappers once they were told (`inc_thread_sharing`).
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, cast

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["FAILED", "PLACE", "Place", "below_sync_caller", "close_here", "leave_open", "lent"]

DJANGO_CONNECTIONS: Final = cast("Any", connections)
THREAD_CONTEXT: Final = cast("ContextVar[object]", SyncToAsync.thread_sensitive_context)
THREADS: Final = cast("dict[object, Executor]", SyncToAsync.context_to_thread_executor)
# A value of libpq's PQtransactionStatus.
FAILED: Final = 3
# An idle thread has answered long before.
IDLE_SECONDS: Final = 0.25


class Place:
    """The thread of one request, job or script, and its connection to the database of the units.

    Args:
        alias: the key of the connection in Django's DATABASES.
        wrapper: the connection, where it is known already.
        once: the connection is for one unit, and closed with it.
        closings: where the closing of its thread's connections is, until it is done.
    """

    __slots__ = ("_closings", "_kept", "_thread", "_tokens", "alias", "error", "left", "once", "taken", "wrapper")

    def __init__(
        self, alias: str, wrapper: Any = None, *, once: bool = False, closings: "set[Future[None]] | None" = None
    ) -> None:
        self._closings = closings
        self.alias = alias
        self.wrapper = wrapper
        """Django's wrapper of the connection. Known once something of the app has run in the thread."""
        self.once = once
        self.taken = False
        """Whether a unit is open on the connection."""
        self.left = False
        """Whether what it was for has ended."""
        self.error: BaseException | None = None
        """What a view raised, which Django has made a reply of."""
        self._kept: Any = None
        self._thread: object | None = None
        self._tokens: tuple[Token[object], Token[Place | None]] | None = None

    def __repr__(self) -> str:
        return f"<Place of {self.alias!r}{' with a unit' if self.taken else ''}>"

    def find(self) -> Any:
        """The connection, which is that of the calling thread unless it was known before."""
        if self.wrapper is None:
            self.wrapper = DJANGO_CONNECTIONS[self.alias]
        return self.wrapper

    @property
    def failed(self) -> bool:
        """Whether the unit's transaction has failed, so that its connection takes no statement but ROLLBACK."""
        raw = self.wrapper.connection if self.taken else None
        return raw is not None and raw.info.transaction_status == FAILED

    async def keep_open(self) -> None:
        """Keep a test's connection open in whose transaction the request is served, until the place is left.

        Django closes old connections before and after each request, and takes one in a transaction for broken; its own
        test clients see to that, too. The thread is a sync caller's then, and not the request's own.
        """
        if below_sync_caller():
            wrapper = await sync_to_async(self.find)()
            if wrapper.in_atomic_block:
                self._kept = wrapper
                wrapper.close_if_unusable_or_obsolete = leave_open

    def enter(self) -> None:
        """Give what runs in this task from now on a thread of its own, and this place."""
        self._thread = ThreadSensitiveContext()
        self._tokens = (THREAD_CONTEXT.set(self._thread), PLACE.set(self))

    async def is_busy(self) -> bool:
        """Whether something of the app still runs in the request's thread: a view goes on whose client has gone."""
        executor = None if self._thread is None else THREADS.get(self._thread)
        if executor is None:  # a sync caller's own thread, in which nothing goes on behind it
            return False
        turn = executor.submit(leave_open)
        done, _ = await asyncio.wait({asyncio.wrap_future(turn)}, timeout=IDLE_SECONDS)
        return not done and turn.cancel()

    def leave(self) -> None:
        """Close what is left open in the thread, once it is idle, and let it end. Only `DjangoDatabase.close` waits."""
        if self._kept is not None:
            self._kept.__dict__.pop("close_if_unusable_or_obsolete", None)
        if self._thread is None:
            return
        executor = THREADS.pop(self._thread, None)
        if executor is not None:
            closing = executor.submit(close_here)
            if self._closings is not None:
                self._closings.add(closing)
                closing.add_done_callback(self._closings.discard)
            executor.shutdown(wait=False)
        self._thread, self.left = None, True
        if self._tokens is not None:
            with suppress(ValueError):  # left in another task than it was entered in, which has ended with it
                thread, place = self._tokens
                THREAD_CONTEXT.reset(thread)
                PLACE.reset(place)


PLACE: Final[ContextVar[Place | None]] = ContextVar("workhorse_django_place", default=None)
"""Where the connection of what is being served is."""


def below_sync_caller() -> bool:
    """Whether the loop runs below a sync caller, as an async test of Django's does: its thread has the connections."""
    borrowed = getattr(AsyncToSync.executors, "current", None) is not None
    return borrowed or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors


def leave_open() -> None:
    """Django's word for connections that are in nobody's use; this one is in the unit's."""


def close_here(kept: Any = None) -> None:
    """Close the calling thread's connections, but for `kept`. Never raises: they are not used again."""
    for wrapper in DJANGO_CONNECTIONS.all(initialized_only=True):
        if wrapper is not kept:
            try:
                wrapper.close()
            except Exception:  # noqa: BLE001 - a connection that cannot be closed is closed
                wrapper.connection = None


@contextmanager
def lent(place: Place) -> Generator[Any]:
    """Have Django find the place's connection in this thread, during the block.

    For threads of the units' own, which have no connections: whatever else is opened in the block is closed after it.
    """
    wrapper = place.find()
    for one in DJANGO_CONNECTIONS.all(initialized_only=True):
        if one is wrapper:  # its own thread
            yield wrapper
            return
    DJANGO_CONNECTIONS[place.alias] = wrapper
    wrapper.inc_thread_sharing()
    try:
        yield wrapper
    finally:
        wrapper.dec_thread_sharing()
        close_here(kept=wrapper)
        for one in DJANGO_CONNECTIONS.all(initialized_only=True):
            del DJANGO_CONNECTIONS[one.alias]
