"""The unit in sync handlers, which frameworks run in threads.

    @api.post("/transfers")
    def transfer(order: TransferOrder) -> Receipt:
        work = sync_unit()
        work.session.add(...)
        work.emit("transfer.posted", subject=order.debtor)

The unit itself lives in the event loop, as everywhere. What the handler asks of it is done there, while the handler's
thread waits. Over an app's sync SQLAlchemy engine `work.session` is the handler's own to use, and takes no detour.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from workhorse.bridge import in_trio
from workhorse.contracts import Rows
from workhorse.errors import DatabaseTimeout, UnitError
from workhorse.journal.events import Event
from workhorse.units.work import Callback, Outbox, Work, current_opener

__all__ = ["SyncWork", "sync_unit"]

R = TypeVar("R")
T = TypeVar("T")

# Each step has bounds of its own, of the database and of the request. This one is for a loop that does not answer.
SECONDS: Final = 300.0


def wait_for(loop: asyncio.AbstractEventLoop, step: Coroutine[Any, Any, T]) -> T:
    """Have `step` done in the loop, and wait for it.

    Raises:
        DatabaseTimeout: the loop did not answer.
    """
    future = asyncio.run_coroutine_threadsafe(step, loop)
    try:
        return future.result(SECONDS)
    except concurrent.futures.TimeoutError:
        if future.done():  # the step's own
            raise
        future.cancel()
        raise DatabaseTimeout from None


class SyncRows:
    """What a statement returned, for a thread."""

    __slots__ = ("_loop", "_rows")

    def __init__(self, rows: Rows, loop: asyncio.AbstractEventLoop) -> None:
        self._rows = rows
        self._loop = loop

    @property
    def rowcount(self) -> int:
        """How many rows were changed or returned; -1 where this is not known."""
        return self._rows.rowcount

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return wait_for(self._loop, _called(self._rows.fetchone))

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return wait_for(self._loop, _called(self._rows.fetchall))


class SyncWork:
    """A unit in the hands of a sync handler: as `Work`, without `await`."""

    __slots__ = ("_loop", "_work")

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop

    def __repr__(self) -> str:
        return f"<SyncWork of {self._work!r}>"

    @property
    def connection(self) -> Any:
        """The driver's connection: of use in a thread only if it is a sync one, as over `SQLAlchemySyncDatabase`."""
        return self._work.connection

    @property
    def session(self) -> Any:
        """The SQLAlchemy `Session` of this unit.

        Raises:
            UnitError: the unit does not run over SQLAlchemy.
        """
        return self._work.session

    def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> SyncRows:
        """Run one statement in the transaction. Placeholders are `%s`, whichever driver is below."""
        return SyncRows(wait_for(self._loop, self._work.execute(sql, params)), self._loop)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """A block that is undone by itself when an exception leaves it: its rows, events and jobs."""
        block = self._work.savepoint()
        wait_for(self._loop, _called(block.__aenter__))
        try:
            yield
        except BaseException as error:
            wait_for(self._loop, _called(block.__aexit__, type(error), error, error.__traceback__))
            raise
        wait_for(self._loop, _called(block.__aexit__, None, None, None))

    def keep(self) -> None:
        """Commit even if the reply is of status 400 or above (see `Work.keep`)."""
        self._work.keep()

    def after_commit(self, callback: Callback) -> None:
        """Call `callback` once the transaction has committed and the reply has left. Not durable; see `Work`."""
        self._work.after_commit(callback)

    def put(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """Have `row` committed with this unit, through the box of this kind (see `Work.put`)."""
        wait_for(self._loop, self._work.put(kind, row))

    def flush(self) -> None:
        """Write what waits in the boxes now (see `Work.flush`)."""
        wait_for(self._loop, self._work.flush())

    def emit(self, type: str, *, subject: str, data: object = None) -> Event:  # noqa: A002 - the word of CloudEvents
        """Append an event to the journal, committed with this unit or not at all (see `Work.emit`)."""
        return wait_for(self._loop, self._work.emit(type, subject=subject, data=data))

    def changed(
        self, subject: str, *, before: Mapping[str, object] | None = None, after: Mapping[str, object] | None = None
    ) -> Event:
        """Record what this unit has changed (see `Work.changed`)."""
        return wait_for(self._loop, self._work.changed(subject, before=before, after=after))


def sync_unit() -> SyncWork:
    """Return the unit of this request, from a handler that runs in a thread.

    Raises:
        NoUnit: no request is being served here, or the app is not wrapped in a `Service`.
        UnitClosed: the reply has left already.
        UnitError: this is the event loop's own thread, which would wait for itself.
        DatabaseUnavailable: no connection could be had in time.
    """
    opener = current_opener()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if in_trio():
            raise UnitError("sync_unit() is for handlers that run in a thread; on Trio use `await unit()`") from None
        return SyncWork(wait_for(opener.loop, opener.open()), opener.loop)
    raise UnitError("sync_unit() is for handlers that run in a thread (`def`); in `async def` use `await unit()`")


async def _called(function: Callable[..., Any], *arguments: object) -> Any:
    """Call what has to be called in the loop."""
    return await function(*arguments)
