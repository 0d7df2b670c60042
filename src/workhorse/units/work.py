"""What a handler or job holds of its transaction.

`unit()` finds it through a context variable, which frameworks carry into the tasks that they start for a request. The
transaction is opened by the first call: a request that never asks for one costs nothing.

Rooms that write beside the app's own rows (jobs, events) do so through boxes. A box collects rows in memory and gives
them as one statement, which travels with COMMIT: however many jobs and events a request has, they cost no round trip
of their own. Inside a savepoint block a row is written at once, because the block's end may have to undo it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar, cast, overload

from workhorse.bridge import in_trio
from workhorse.contracts import Query, RowChange, Transaction
from workhorse.errors import NoUnit, UnitClosed, UnitError
from workhorse.journal.changes import change_event
from workhorse.journal.events import Event, EventBox
from workhorse.journal.kinds import EventType, EventTypes

__all__ = ["NO_KINDS", "OPENER", "Callback", "Opener", "Outbox", "Work", "current_opener", "unit"]

# More callbacks are a loop that went wrong.
MAX_CALLBACKS: Final = 1_000

Callback = Callable[[], Awaitable[object] | object]
"""What is called after the commit. A plain function is called in a thread, so that it may block."""

NO_KINDS: Final = EventTypes()
"""Nothing is declared."""

R_contra = TypeVar("R_contra", contravariant=True)
R = TypeVar("R")
T = TypeVar("T")


class Outbox(Protocol[R_contra]):
    """Collects rows of one kind in memory, and gives them as one statement.

    A kind is a class without arguments to its constructor. Rows are given to it by `Work.put`.
    """

    @property
    def full(self) -> bool:
        """Whether the rows should be written now rather than with the commit: the bound of the box."""
        ...

    def add(self, row: R_contra, /) -> None:
        """Take a row. Whatever is wrong with it is said here: a statement that fails undoes the whole unit."""
        ...

    def drain(self) -> Query | None:
        """Give the rows as one statement and forget them; None if there are none."""
        ...


class Work:
    """The transaction of the request or job that is being served.

    It ends by itself. In a request: a reply below 400 commits it, any other reply or an exception rolls it back, and
    the client sees the reply only after that. In a `Unit`: with its block. Work whose transaction loses to another is
    run again, so what it does outside the database should bear repeating.
    """

    __slots__ = ("_boxes", "_callbacks", "_drained", "_keeps", "_kinds", "_transaction")

    def __init__(self, transaction: Transaction, kinds: EventTypes = NO_KINDS) -> None:
        self._transaction = transaction
        self._kinds = kinds
        self._keeps = False
        self._boxes: dict[object, Outbox[Any]] = {}
        self._callbacks: list[Callback] = []
        self._drained = False

    def __repr__(self) -> str:
        return f"<Work{' keeps' if self._keeps else ''} {self._transaction!r}>"

    @property
    def transaction(self) -> Transaction:
        """What the unit runs on, for rooms and integrations; handlers need `execute` and `connection`."""
        return self._transaction

    @property
    def kinds(self) -> EventTypes:
        """The events that are declared."""
        return self._kinds

    @property
    def connection(self) -> Any:
        """The driver's connection (psycopg's `AsyncConnection`), for COPY, cursors, savepoints and an app's own SQL.

        Do not commit or roll back on it: the unit does, and refuses to answer for a transaction that others ended.
        """
        return self._transaction.connection

    @property
    def session(self) -> Any:
        """The SQLAlchemy session of this unit, an `AsyncSession` or `Session` on the unit's own connection.

        `workhorse.state.sqlalchemy` has the same as typed functions, `session(work)` and `sync_session(work)`.

        Raises:
            UnitError: the unit does not run over SQLAlchemy.
        """
        if not hasattr(type(self._transaction), "session"):
            raise UnitError(
                f"a unit on {type(self._transaction).__name__} has no SQLAlchemy session;"
                " give the service a SQLAlchemyDatabase(engine)"
            )
        return cast("Any", self._transaction).session

    @property
    def keeps(self) -> bool:
        """Whether a reply of 400 or above commits as well."""
        return self._keeps

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement in the transaction, and return the driver's cursor. The first one opens the transaction.

        Placeholders are `%s`, whichever driver is below.

        Raises:
            psycopg.Error: the statement failed; the transaction cannot be committed any more.
        """
        return await self._transaction.execute(sql, params)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A block that is undone by itself when an exception leaves it: its rows, events and jobs.

            async with work.savepoint():
                ...

        The exception goes on; who catches it around the block may carry on with the unit. Blocks may nest.
        """
        return self._transaction.savepoint()

    def keep(self) -> None:
        """Commit even if the reply is of status 400 or above.

        For refusals that are decisions: a retried Idempotency-Key then gets the same refusal, whatever has changed
        in between.
        """
        self._keeps = True

    def after_commit(self, callback: Callback) -> None:
        """Call `callback` once the transaction has committed and the reply has left.

        **This is not durable.** It is for what may be missed, such as dropping an entry of a cache or a word to a
        socket: a process that dies in between calls nobody, and nobody is called again. What must happen is a job. It
        is not called after a rollback, nor when the outcome is unknown. All callbacks of a unit together have 5
        seconds; what they raise is logged. A plain function is called in a thread.

        Raises:
            UnitError: the unit has more callbacks than any sensible one.
        """
        if len(self._callbacks) >= MAX_CALLBACKS:
            raise UnitError(f"a unit takes {MAX_CALLBACKS} callbacks; do the rest in one of them")
        self._callbacks.append(callback)

    def callbacks(self) -> list[Callback]:
        """Take what is to be called after the commit. For who ends the unit."""
        taken, self._callbacks = self._callbacks, []
        return taken

    def outbox(self, kind: Callable[[], T]) -> T:
        """The box of this kind, made at the first call. Rows go in by `put`, which knows when to write them."""
        box = self._boxes.get(kind)
        if box is None:
            box = self._boxes[kind] = cast("Outbox[Any]", kind())
        return cast("T", box)

    async def put(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """Have `row` committed with this unit, through the box of this kind.

        Outside of savepoint blocks it waits in memory and is written with the commit, in the same round trip; or by
        `flush`, or when the box is full. Inside a block it is written at once, so that it is undone with the block,
        while rows from before the block wait on: they outlive it.

        Raises:
            UnitClosed: the unit is being committed, so that nothing would write the row any more.
        """
        if self._drained:
            raise UnitClosed("the unit is being committed: what it writes has to be put before the reply")
        if self._transaction.in_block:
            box = kind()
            box.add(row)
            await self._write(box)
            return
        box = self.outbox(kind)
        box.add(row)
        if box.full:
            await self._write(box)

    async def put_last(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """Have `row` written with the commit itself, whatever a session has left open. For who ends the unit."""
        self.outbox(kind).add(row)

    async def flush(self) -> None:
        """Write what waits in the boxes now, for work that wants to read it in its own unit.

        Raises:
            UnitError: a savepoint block is open, whose end might undo rows from before it.
        """
        if self._transaction.in_block:
            raise UnitError("flush() inside a savepoint block would tie rows from before it to it: call it before")
        for box in self._boxes.values():
            await self._write(box)

    def drain(self) -> list[Query]:
        """Take what waits in the boxes, one statement a box, to be run with COMMIT. For who ends the unit: once."""
        self._drained = True
        statements = (box.drain() for box in self._boxes.values())
        return [statement for statement in statements if statement is not None]

    @overload
    async def emit(self, type: EventType[T], *, subject: str, data: T) -> Event: ...

    @overload
    async def emit(self, type: str, *, subject: str, data: object = None) -> Event: ...

    async def emit(
        self,
        type: str | EventType[Any],  # noqa: A002 - the word of CloudEvents
        *,
        subject: str,
        data: object = None,
    ) -> Event:
        """Append an event to the journal, committed with this unit or not at all.

        Args:
            type: what happened, in the past tense and in dotted lower case, such as `transfer.posted`; or its
                `EventType`, which checks the data.
            subject: to whom or what: the id of an account, a payment.
            data: the facts, as anything that JSON can say (also dataclasses, `Decimal`, `UUID`, times).

        Returns:
            The event, with its id (UUID version 7) and time.

        Raises:
            EventMalformed: the data are not what the schema of the type says.
            EventKindUnknown: the service declares its events, and this one is not among them.
            UnitError: the type says something of a person, and there is nothing to seal it with.
            ValueError: type, subject or data is malformed or too large; the message has the bound.
        """
        if isinstance(type, str):
            type = self._kinds.declared(type) or type  # noqa: A001 - as above
        event = Event.of(type, subject=subject, data=data)
        if not isinstance(type, str) and type.person:
            event = await self._sealed(type, event)
        await self.put(EventBox, event)
        return event

    async def changed(
        self, subject: str, *, before: Mapping[str, object] | None = None, after: Mapping[str, object] | None = None
    ) -> Event:
        """Record what this unit has changed, as an event `audit.changed` that commits with it.

        Of what is in both only what differs is told. For rows of SQLAlchemy models a policy does it by itself (see
        `Audit.models`).

        Args:
            subject: which row or thing: `account:7`.
            before: its columns as they were; None: it is new.
            after: as they are; None: it is gone.

        Raises:
            ValueError: neither is given.
        """
        if before is None and after is None:
            raise ValueError(f"changed({subject!r}) says neither what was before nor what is after")
        operation = "insert" if before is None else "delete" if after is None else "update"
        event = change_event(RowChange(subject, operation, before, after), self._kinds.sealing)
        await self.put(EventBox, event)
        return event

    async def _sealed(self, kind: EventType[Any], event: Event) -> Event:
        sealing = self._kinds.sealing
        if sealing is None:
            raise UnitError(
                f"the event type {kind.name!r} says something of a person, and this unit has nothing to seal it with:"
                " declare it in Service(events=..., privacy=...), or give the Unit its `events`"
            )
        return replace(event, data=await sealing.seal(self, kind, event.subject, event.data))

    async def _write(self, box: Outbox[Any]) -> None:
        statement = box.drain()
        if statement is not None:
            await self._transaction.execute(statement.sql, statement.params)


class Opener(Protocol):
    """Opens the unit of whatever is being served: a request's run, or a `Unit`."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the unit lives in, for handlers that run in threads."""
        ...

    async def open(self) -> Work:
        """Return the unit, and begin its transaction at the first call."""
        ...


OPENER: Final[ContextVar[Opener]] = ContextVar("workhorse_unit")
"""Opens the unit of what is being served here. Set by `UnitLayer` around a request, and by `Unit`."""


def current_opener() -> Opener:
    """What opens the unit here.

    Raises:
        NoUnit: nothing that has a unit is being served here.
    """
    try:
        return OPENER.get()
    except LookupError:
        raise NoUnit(
            "unit() needs a request: call it from a handler of an app that is wrapped in workhorse.Service; a job has"
            " one as well. A WebSocket, a background task that outlives its request, or a script has none: there, use"
            " `async with Unit(database) as work`"
        ) from None


async def unit() -> Work:
    """Return the unit of this request or job, opening its transaction at the first call.

    Raises:
        NoUnit: no request is being served here, or the app is not wrapped in a `Service`.
        UnitClosed: the reply has left already, as in a streaming body or a background task.
        DatabaseUnavailable: no connection could be had in time.
    """
    opener = current_opener()
    if in_trio():
        from workhorse.units.on_trio import open_unit  # noqa: PLC0415 - Trio is there only where an app runs on it

        return cast("Work", await open_unit(opener))
    return await opener.open()
