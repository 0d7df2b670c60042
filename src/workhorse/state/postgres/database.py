"""Transactions on a pool of psycopg connections, with as few round trips as the protocol allows.

psycopg sends BEGIN by itself before the first statement, as a round trip of its own. Here the first statement
travels together with BEGIN, and the last together with COMMIT (`roundtrip`): a unit whose handler runs one statement
costs two round trips, with a claim three.

A pooled connection may have died in its sleep (the server was restarted). That shows at its first use, when
nothing has been done yet: `begin` then clears the pool of the dead and tries again, within its deadline.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from workhorse.contracts import Query
from workhorse.errors import DatabaseUnavailable, OutcomeUnknown, StartupError, UnitClosed, UnitError
from workhorse.state.postgres.roundtrip import Prepared, round_trip

__all__ = ["PostgresDatabase", "PostgresTransaction", "sqlstates"]

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]
Params = Sequence[object] | Mapping[str, object]

# Class 40, transaction rollback: serialization_failure and deadlock_detected (PostgreSQL manual, appendix A).
# And invalid_sql_statement_name: the app made the connection forget what `roundtrip` had prepared.
CONFLICTS: Final = frozenset({"40001", "40P01", "26000"})
# query_canceled (by statement_timeout) and lock_not_available (by lock_timeout).
TIMEOUTS: Final = frozenset({"57014", "55P03"})
BEGIN: Final = Query("BEGIN")
COMMIT: Final = Query("COMMIT")
ROLLBACK: Final = Query("ROLLBACK")
# How many causes deep a driver's error may be wrapped; a bound, because chains of causes can be circular.
WRAPPINGS: Final = 8
# Requests that may wait for a connection; more are refused at once rather than queued beyond any use.
WAITING: Final = 4_096
# How long the pool goes on trying to replace one lost connection before it leaves that to the next request.
RECONNECT_SECONDS: Final = 2.0
# How long an answer to a unit stands for the health of the database.
PULSE_SECONDS: Final = 1.0


def sqlstates(error: BaseException) -> set[str]:
    """The SQLSTATEs of `error` and of what it wraps.

    psycopg, asyncpg and psycopg2 errors carry one; it is looked for through the causes and through the `orig` of
    SQLAlchemy's wrappers, so that an app may use any of them.
    """
    found: set[str] = set()
    queue: list[BaseException | None] = [error]
    for _ in range(WRAPPINGS):
        if not queue:
            break
        current = queue.pop(0)
        if current is not None:
            state = getattr(current, "sqlstate", None) or getattr(current, "pgcode", None)
            if isinstance(state, str):
                found.add(state)
            queue += [getattr(current, "orig", None), current.__cause__, current.__context__]
    return found


class Pulse:
    """When the database last answered a unit, on the monotonic clock."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -PULSE_SECONDS


class PostgresTransaction:
    """One transaction on one pooled connection (see `contracts.Transaction`)."""

    __slots__ = ("_begun", "_connection", "_ended", "_pool", "_prepared", "_pulse")

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        connection: Connection,
        prepared: Prepared,
        pulse: Pulse,
        *,
        begun: bool,
    ) -> None:
        self._pool = pool
        self._pulse = pulse
        self._connection = connection
        self._prepared = prepared
        self._begun = begun
        self._ended = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else self._connection.info.transaction_status.name.lower()
        return f"<PostgresTransaction {state} on backend {self._connection.info.backend_pid}>"

    @property
    def connection(self) -> Connection:
        """The psycopg connection. Its `commit` and `rollback` are the unit's to call, not the app's."""
        self._refuse_if_ended()
        return self._connection

    @property
    def lost(self) -> bool:
        """Whether the connection broke."""
        return self._connection.closed

    async def execute(self, sql: str, params: Params = ()) -> AsyncCursor[Row]:
        """Run one statement. The first one brings BEGIN along in its round trip."""
        self._refuse_if_ended()
        if self._connection.pgconn.transaction_status != TransactionStatus.IDLE:
            return await self._connection.execute(sql, params or None)  # pyright: ignore[reportArgumentType]
        self._begun = True
        async with self._connection.pipeline():
            return await self._connection.execute(sql, params or None)  # pyright: ignore[reportArgumentType]

    async def commit(self, last: Query | None = None) -> None:
        """Run `last` and COMMIT in one round trip, then give the connection back."""
        connection = self._connection
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            # COMMIT would answer ROLLBACK here, and no error: the client would be told of what never happened.
            raise UnitError("a statement of this unit failed and its error was swallowed, so nothing can be committed")
        if status == TransactionStatus.IDLE:
            if self._begun:
                raise UnitError("the unit's transaction was ended by a commit or rollback on its connection")
            await self._give_back()
            return
        try:
            await round_trip(connection, (COMMIT,) if last is None else (last, COMMIT), self._prepared)
        except psycopg.Error as error:
            if connection.closed:
                await self._give_back()
                raise OutcomeUnknown from error
            raise
        self._pulse.at = time.monotonic()
        await self._give_back()

    async def rollback(self) -> None:
        """Undo everything and give the connection back."""
        if self._ended:
            return
        try:
            # Not psycopg's rollback, which makes the server forget the app's prepared statements as well.
            if not self._connection.closed and self._connection.pgconn.transaction_status != TransactionStatus.IDLE:
                await round_trip(self._connection, (ROLLBACK,), self._prepared)
        except psycopg.Error:
            # The server rolls back by itself when its connection ends, which is all that is asked of it.
            await self._connection.close()
        finally:
            await self._give_back()

    async def abandon(self) -> None:
        """End the connection; the server rolls back."""
        if not self._ended:
            await self._connection.close()
            await self._give_back()

    def _refuse_if_ended(self) -> None:
        if self._ended:
            raise UnitClosed("the unit has ended with its reply, and its connection serves others now")

    async def _give_back(self) -> None:
        if not self._ended:
            self._ended = True
            await self._pool.putconn(self._connection)


class PostgresDatabase:
    """A pool of connections to one Postgres (see `contracts.Database`).

    Args:
        url: a libpq connection URL.
        pool_min: connections kept open.
        pool_max: connections at most.
        acquire_timeout_seconds: longest wait for a free connection.
        connect_timeout_seconds: longest wait for the server to accept one.
        statement_timeout_seconds: the server ends a longer statement (SQLSTATE 57014).
        idle_timeout_seconds: the server ends a session that pauses longer inside a transaction.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_min: int = 1,
        pool_max: int = 16,
        acquire_timeout_seconds: float = 5,
        connect_timeout_seconds: int = 5,
        statement_timeout_seconds: float = 30,
        idle_timeout_seconds: float = 60,
    ) -> None:
        self._url = url
        self._acquire_timeout = acquire_timeout_seconds
        self._sweep: asyncio.Task[None] | None = None
        self._pulse = Pulse()
        self._prepared: WeakKeyDictionary[Connection, Prepared] = WeakKeyDictionary()
        # Set per session, at connection time: a SET in every transaction would cost each one a statement.
        options = (
            f"-c statement_timeout={int(statement_timeout_seconds * 1000)}"
            f" -c idle_in_transaction_session_timeout={int(idle_timeout_seconds * 1000)}"
        )
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            kwargs={
                "options": options,
                "connect_timeout": connect_timeout_seconds,
                "application_name": "workhorse",
                # A server that vanishes without a word (its machine is gone) would otherwise be waited for for hours.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": int(statement_timeout_seconds * 1000),
            },
            min_size=min(pool_min, pool_max),
            max_size=pool_max,
            max_waiting=WAITING,
            timeout=acquire_timeout_seconds,
            # psycopg_pool doubles its pause without a ceiling: give up soon, and the next request starts anew at once.
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
            name="workhorse",
        )

    async def open(self) -> None:
        """Open the pool and wait for its first connection.

        Raises:
            StartupError: the server cannot be reached.
        """
        try:
            await self._pool.open(wait=True, timeout=self._acquire_timeout)
        except PoolTimeout as error:
            await self._pool.close()
            reason = await self._why_unreachable()
            raise StartupError(
                f"the database could not be reached within {self._acquire_timeout:g} s: {reason}."
                " Is the server running, and is DATABASE_URL right?"
            ) from error

    async def close(self) -> None:
        """Close every connection. Those in use are closed when they come back."""
        if self._sweep is not None:
            self._sweep.cancel()
        await self._pool.close()

    async def begin(self, first: Query | None = None) -> tuple[PostgresTransaction, Row | None]:
        """Open a transaction, and run `first` in the round trip of its BEGIN."""
        deadline = asyncio.get_running_loop().time() + self._acquire_timeout
        while True:
            connection = await self._acquire(deadline)
            prepared = self._prepared.setdefault(connection, set())
            transaction = PostgresTransaction(self._pool, connection, prepared, self._pulse, begun=first is not None)
            if first is None:
                return transaction, None
            try:
                _, rows = await round_trip(connection, (BEGIN, first), prepared)
                return transaction, rows[0] if rows else None
            except psycopg.errors.InvalidSqlStatementName:
                # Forgotten by the server; nothing has been done, and it is prepared anew.
                await transaction.rollback()
            except psycopg.OperationalError as error:
                if not transaction.lost:
                    await transaction.rollback()
                    raise
                await transaction.abandon()
                if asyncio.get_running_loop().time() >= deadline:
                    raise DatabaseUnavailable from error
                await self.sweep()
            except BaseException:
                await transaction.abandon()
                raise

    async def ping(self, *, deadline_seconds: float) -> None:
        """Run the empty statement on a pooled connection, unless a unit has just had an answer.

        Under load a probe would queue behind the requests, and take a healthy process out of service for being busy.
        """
        if time.monotonic() - self._pulse.at < PULSE_SECONDS:
            return
        try:
            async with asyncio.timeout(deadline_seconds), self._pool.connection(timeout=deadline_seconds) as connection:
                await connection.execute("")
        except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests, TimeoutError) as error:
            raise DatabaseUnavailable from error

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error` says that the transaction may be run again."""
        return not CONFLICTS.isdisjoint(sqlstates(error))

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error` says that a statement ran or waited too long."""
        return not TIMEOUTS.isdisjoint(sqlstates(error))

    async def sweep(self) -> None:
        """Clear the pool of connections that died. Callers that come while it runs share the one sweep."""
        if self._sweep is None or self._sweep.done():
            self._sweep = asyncio.ensure_future(self._pool.check())
        await asyncio.wait({self._sweep}, timeout=self._acquire_timeout)

    async def _acquire(self, deadline: float) -> Connection:
        remaining = max(0.01, deadline - asyncio.get_running_loop().time())
        try:
            return await self._pool.getconn(timeout=remaining)
        except (PoolTimeout, PoolClosed, TooManyRequests) as error:
            raise DatabaseUnavailable from error

    async def _why_unreachable(self) -> str:
        """Ask once more, directly: the pool keeps to itself why its connections fail."""
        try:
            connection = await AsyncConnection.connect(self._url, connect_timeout=2)
        except psycopg.Error as error:
            return str(error).strip().splitlines()[-1]
        await connection.close()
        return "it answers now, but was too slow"
