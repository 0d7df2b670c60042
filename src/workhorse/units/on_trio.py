"""The unit in handlers on Trio: what `unit()` gives there.

The unit itself lives on asyncio, as everywhere (see `bridge.host`). What the handler asks of it is done there, while
the handler waits; a handler that is cancelled cancels it there.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from workhorse.bridge.calls import in_asyncio
from workhorse.errors import UnitError
from workhorse.journal.events import Event
from workhorse.units.work import Callback, Opener, Outbox, Work

__all__ = ["TrioRows", "TrioWork", "open_unit"]

R = TypeVar("R")


class TrioRows:
    """What a statement returned, for a handler on Trio."""

    __slots__ = ("_loop", "_rows")

    def __init__(self, rows: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._rows = rows
        self._loop = loop

    @property
    def rowcount(self) -> int:
        """How many rows were changed or returned; -1 where this is not known."""
        count: int = self._rows.rowcount
        return count

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        return await in_asyncio(self._loop, self._rows.fetchone)

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        rows: list[Any] = await in_asyncio(self._loop, self._rows.fetchall)
        return rows


class TrioWork:
    """A unit in the hands of a handler on Trio: as `Work`, without the driver's own connection, which is asyncio's."""

    __slots__ = ("_loop", "_work")

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop

    def __repr__(self) -> str:
        return f"<TrioWork of {self._work!r}>"

    @property
    def connection(self) -> Any:
        """Not here.

        Raises:
            UnitError: always.
        """
        raise UnitError(
            "the connection of a unit waits on asyncio, and this handler runs on Trio: use work.execute(), or pass a"
            " function to on_asyncio() of workhorse.bridge.calls that does all that it wants with it"
        )

    @property
    def session(self) -> Any:
        """The SQLAlchemy session of this unit; a sync one only is of use here, in a thread.

        Raises:
            UnitError: the unit does not run over SQLAlchemy.
        """
        return self._work.session

    @property
    def keeps(self) -> bool:
        """Whether a reply of 400 or above commits as well."""
        return self._work.keeps

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> TrioRows:
        """Run one statement in the transaction (see `Work.execute`)."""
        return TrioRows(await in_asyncio(self._loop, self._work.execute, sql, params), self._loop)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """A block that is undone by itself when an exception leaves it: its rows, events and jobs."""
        block = self._work.savepoint()
        await in_asyncio(self._loop, block.__aenter__)
        try:
            yield
        except BaseException as error:
            # A block that is left by a cancellation is undone with its unit, to whom asyncio tells of it too.
            if isinstance(error, Exception):
                await in_asyncio(self._loop, block.__aexit__, type(error), error, error.__traceback__)
            raise
        await in_asyncio(self._loop, block.__aexit__, None, None, None)

    def keep(self) -> None:
        """Commit even if the reply is of status 400 or above (see `Work.keep`)."""
        self._work.keep()

    def after_commit(self, callback: Callback) -> None:
        """Call `callback` once the transaction has committed and the reply has left: on asyncio, or in a thread."""
        self._work.after_commit(callback)

    async def put(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """Have `row` committed with this unit, through the box of this kind (see `Work.put`)."""
        await in_asyncio(self._loop, self._work.put, kind, row)

    async def flush(self) -> None:
        """Write what waits in the boxes now (see `Work.flush`)."""
        await in_asyncio(self._loop, self._work.flush)

    async def emit(self, type: str, *, subject: str, data: object = None) -> Event:  # noqa: A002 - the word of CloudEvents
        """Append an event to the journal, committed with this unit or not at all (see `Work.emit`)."""

        async def emit() -> Event:
            return await self._work.emit(type, subject=subject, data=data)

        return await in_asyncio(self._loop, emit)


async def open_unit(opener: Opener) -> TrioWork:
    """Open the unit, for a handler on Trio."""
    return TrioWork(await in_asyncio(opener.loop, opener.open), opener.loop)
