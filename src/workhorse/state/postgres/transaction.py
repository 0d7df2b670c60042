"""One transaction on one pooled connection, which is lent to the app and taken back whole.

The connection goes on to another request. So the app gets it with its end taken away (commit, rollback, close), for no
longer than the transaction lasts; and what a SET without LOCAL left behind is reset before the next one begins. What is
not undone: session-level advisory locks, LISTEN and temporary tables.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import AsyncConnectionPool

from workhorse.contracts import Query
from workhorse.errors import OutcomeUnknown, UnitClosed, UnitError
from workhorse.state.postgres.faults import disconnected
from workhorse.state.postgres.roundtrip import round_trip
from workhorse.state.postgres.standby import Notices, not_replicated

__all__ = [
    "GRACE_SECONDS",
    "Connection",
    "LeasedConnection",
    "PostgresTransaction",
    "Pulse",
    "obstacle",
    "send_commit",
    "unanswered",
]

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]
Params = Sequence[object] | Mapping[str, object]

COMMIT: Final = Query("COMMIT")
ROLLBACK: Final = Query("ROLLBACK")
TORN: Final = "the transaction was ended by a COMMIT or ROLLBACK that was not the unit's"
# Longer is not waited for a rollback: the end of the connection is one as well.
ROLLBACK_SECONDS: Final = 2.0
# How long an answer to a unit stands for the health of the database.
PULSE_SECONDS: Final = 1.0
# How long after a deadline, or the server's own time-out, its answer is still waited for.
GRACE_SECONDS: Final = 3.0


class LeasedConnection(AsyncConnection[Row]):
    """A pooled connection as one unit's app sees it: a psycopg connection whose end is taken away.

    It shares the pooled one's link to the server, and has attributes of its own (`row_factory` and the like), which so
    end with the unit. Every operation of psycopg, also of a cursor or a `transaction()` block that outlives the unit,
    passes through `wait`, and is refused there once the unit has ended.
    """

    found: tuple[int, int, int | None]
    ended: bool
    torn: bool
    patience: float
    deadline: float

    @classmethod
    def of(cls, pooled: Connection, *, patience: float, deadline: float = 0.0) -> Self:
        """Lease `pooled`. Longest wait for an answer: `patience` seconds, and not past the deadline (0: none)."""
        lease = cls.__new__(cls)
        # What psycopg keeps in objects of its own is shared, and would last: floats for numerics, in others' units.
        shared = pooled.__dict__
        lease.__dict__.update(shared, _adapters=AdaptersMap(pooled.adapters))
        lease.found = len(shared["_notice_handlers"]), len(shared["_notify_handlers"]), pooled.prepare_threshold
        lease.ended = False
        lease.torn = False
        lease.patience = patience
        lease.deadline = deadline
        return lease

    def __del__(self, *_: object, **__: object) -> None:
        """Nothing is owned, so nothing is warned of."""

    def end(self) -> None:
        """Refuse whatever comes now, and take back what the app has left on the pooled connection."""
        self.ended = True
        notices, notifies, self.prepare_threshold = self.found
        del self._notice_handlers[notices:], self._notify_handlers[notifies:]

    async def __aexit__(self, *_: object) -> None:
        """Neither commit nor close."""

    @property
    def open_block(self) -> bool:
        """Whether a `transaction()` or `pipeline()` block has been entered and not left."""
        return self._num_transactions > 0 or self._pipeline is not None

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Run an operation, unless the unit has ended."""
        if self.ended:
            gen.close()
            raise UnitClosed("the unit has ended with its reply, and its connection serves others now")
        if self.torn:
            gen.close()
            raise UnitError(TORN)
        try:
            async with answer_within(time_left(self.patience, self.deadline)):
                return await super().wait(gen, *arguments, **options)
        finally:
            # Each answer of the server tells whether a transaction is open. Noted at once: the driver would begin
            # another with the next statement, and nothing would show any more. (A broken connection has no status.)
            if self.pgconn.transaction_status == TransactionStatus.IDLE:
                self.torn = True

    async def commit(self) -> None:
        """Refused: the unit commits, with the reply."""
        raise UnitError("the unit commits by itself, with a reply below 400")

    async def rollback(self) -> None:
        """Refused: the unit rolls back; a part of it is undone by a `transaction()` block."""
        raise UnitError(
            "the unit rolls back by itself; to undo a part of it, use `async with connection.transaction()`"
        )

    async def set_autocommit(self, value: bool) -> None:  # noqa: FBT001 - the signature is psycopg's
        """Refused: a unit is one transaction."""
        raise UnitError(f"a unit is one transaction, so autocommit cannot be {value}")

    async def close(self) -> None:
        """Refused: the connection is the pool's."""
        raise UnitError("the connection is the pool's, and ends with it")


def time_left(patience: float, deadline: float) -> float:
    """How long an answer is waited for, in seconds: `patience`, but not past the deadline (monotonic; 0: none)."""
    return min(patience, max(0.0, deadline - time.monotonic())) if deadline else patience


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncGenerator[None]:
    """Bound the wait for a server that neither answers nor ends, whose own time-outs cannot be relied on.

    Raises:
        psycopg.errors.QueryCanceled: the time is over. The connection is of no use any more.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise psycopg.errors.QueryCanceled(f"the database did not answer within {seconds:g} s") from error


async def send_commit(connection: Connection, last: Sequence[Query]) -> bool:
    """Run `last` and COMMIT in one round trip. False if the server did not wait for its standby to the end.

    Whoever gives up waiting for this has to close the connection (see `round_trip`).
    """
    notices = Notices()
    connection.add_notice_handler(notices.of_psycopg)
    try:
        # Not by a prepared name: the app may have made the connection forget it, and here it is too late to repeat.
        await round_trip(connection, (*last, COMMIT), None, commits=True)
    finally:
        connection.remove_notice_handler(notices.of_psycopg)
    return not notices.gave_up


def unanswered(error: BaseException) -> bool:
    """Whether the wait for an answer was given up on this side (`answer_within`): the server may have acted or not."""
    return isinstance(error, psycopg.errors.QueryCanceled) and error.diag.sqlstate is None


def obstacle(connection: Connection, lease: LeasedConnection | None) -> str:
    """Why the transaction on `connection` cannot be committed as a whole; empty if it can."""
    if connection.closed:
        return "the connection was lost before the commit"
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        # COMMIT would answer ROLLBACK here, and no error: the client would be told of what never happened.
        return "a statement of this unit failed and its error was swallowed"
    if status == TransactionStatus.IDLE or (lease is not None and lease.torn):
        return TORN
    if lease is not None and lease.open_block:
        return (
            "a transaction() or pipeline() block is still open while the reply leaves. Close it before the handler"
            " returns; a FastAPI dependency with yield does so with Depends(..., scope='function')"
        )
    return ""


class Pulse:
    """When the database last answered a unit, on the monotonic clock."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -PULSE_SECONDS


class PostgresTransaction:
    """One transaction on one pooled connection (see `contracts.Transaction`)."""

    __slots__ = ("_connection", "_deadline", "_ended", "_lease", "_patience", "_pool", "_pulse")

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        connection: Connection,
        pulse: Pulse,
        *,
        patience: float,
        deadline: float = 0.0,
    ) -> None:
        self._pool = pool
        self._patience = patience
        self._deadline = deadline
        self._pulse = pulse
        self._connection = connection
        self._lease: LeasedConnection | None = None
        self._ended = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else self._connection.info.transaction_status.name.lower()
        return f"<PostgresTransaction {state} on backend {self._connection.info.backend_pid}>"

    @property
    def connection(self) -> LeasedConnection:
        """The psycopg connection, for as long as the transaction is open.

        Raises:
            UnitClosed: it has ended.
        """
        if self._ended:
            raise UnitClosed("the unit has ended with its reply, and its connection serves others now")
        if self._lease is None:
            self._lease = LeasedConnection.of(self._connection, patience=self._patience, deadline=self._deadline)
        return self._lease

    @property
    def lost(self) -> bool:
        """Whether the connection broke. Not said of one whose transaction others ended: that may stand in part."""
        return self._connection.closed and not (self._lease is not None and self._lease.torn)

    @property
    def in_block(self) -> bool:
        """Whether a `transaction()` or `pipeline()` block is open."""
        return self._lease is not None and self._lease.open_block

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A block that is undone when an exception leaves it."""
        return self.connection.transaction()

    async def execute(self, sql: str, params: Params = ()) -> AsyncCursor[Row]:
        """Run one statement."""
        return await self.connection.execute(sql, params or None)  # pyright: ignore[reportArgumentType]

    async def copy_rows(self, statement: str, data: bytes) -> None:
        """Run `COPY ... FROM STDIN` with this data (see `contracts.CopiesRows`)."""
        async with self.connection.cursor() as cursor, cursor.copy(statement) as copy:  # pyright: ignore[reportArgumentType]
            await copy.write(data)

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Run `last` and COMMIT in one round trip, then give the connection back."""
        connection = self._connection
        why_not = obstacle(connection, self._lease)
        if why_not:
            raise UnitError(f"nothing can be committed: {why_not}")
        try:
            async with answer_within(self._patience):
                replicated = await send_commit(connection, last)
        except psycopg.Error as error:
            active = connection.pgconn.transaction_status == TransactionStatus.ACTIVE
            if connection.closed or active or unanswered(error) or disconnected(error):
                await connection.close()
                await self.release()
                raise OutcomeUnknown from error
            raise
        self._pulse.at = time.monotonic()
        await self.release()
        if not replicated:
            raise not_replicated()

    async def rollback(self) -> None:
        """Undo everything and give the connection back."""
        if self._ended:
            return
        try:
            if not self._connection.closed:
                # Not psycopg's own, which makes the server forget the app's prepared statements as well.
                async with answer_within(ROLLBACK_SECONDS):
                    await round_trip(self._connection, (ROLLBACK,), None)
        except Exception:  # noqa: BLE001 - whatever is wrong with the connection, it must not serve another request
            # The server rolls back by itself when its connection ends, which is all that is asked of it.
            await self._connection.close()
        finally:
            await self.release()

    async def abandon(self) -> None:
        """End the connection; the server rolls back."""
        if not self._ended:
            await self._connection.close()
            await self.release()

    async def release(self) -> None:
        """Give the connection back as it is. Only for one on which no transaction is open."""
        if not self._ended:
            self._ended = True
            if self._lease is not None:
                self._lease.end()
            if self._connection.pgconn.pipeline_status != PipelineStatus.OFF:
                await self._connection.close()
            await self._pool.putconn(self._connection)
