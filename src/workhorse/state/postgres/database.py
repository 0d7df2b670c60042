"""Transactions on a pool of psycopg connections, with as few round trips as the protocol allows.

psycopg sends BEGIN by itself before the first statement, as a round trip of its own. Here the first statement
travels together with BEGIN, and the last together with COMMIT (`roundtrip`). A unit costs two round trips beside the
app's own statements, and with a claim no more. BEGIN is not put off until the app's first statement: an app that
opened a `transaction()` block first would have a transaction of its own.

A pooled connection may have died in its sleep (the server was restarted). That shows at its first use, when
nothing has been done yet: `begin` then clears the pool of the dead and tries again, within its deadline.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from workhorse.contracts import ON_USUAL_TERMS, Isolation, Query, Terms
from workhorse.errors import DatabaseUnavailable, StartupError
from workhorse.state.postgres import faults
from workhorse.state.postgres.roundtrip import Prepared, round_trip
from workhorse.state.postgres.transaction import (
    GRACE_SECONDS,
    PULSE_SECONDS,
    Connection,
    PostgresTransaction,
    Pulse,
    answer_within,
    time_left,
)

__all__ = ["PostgresDatabase", "opening"]

Row = tuple[Any, ...]

BEGIN: Final[Mapping[tuple[Isolation | None, bool], Query]] = {
    (level, read_only): Query(
        "BEGIN" + (f" ISOLATION LEVEL {level.upper()}" if level else "") + (" READ ONLY" if read_only else "")
    )
    for level in (None, *get_args(Isolation))
    for read_only in (False, True)
}
# Of this transaction only, and as a parameter, so that the server knows the statement already.
LIMIT: Final = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"
TIMEOUT: Final = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
LIMITS: Final = LIMIT + ", set_config('idle_in_transaction_session_timeout', %s, true)"
# A deadline that is hardly nearer than the session's own time-out is left to this side of the connection.
SLACK_SECONDS: Final = 1.0
# The wait for a lock ends a little before the statement's own end, so that the error says which of the two it was.
LOCK_SHARE: Final = 0.9
# Settings and the role that an earlier unit SET without LOCAL. Before BEGIN, because a failure after COMMIT would read
# as one of the commit. The user first: to reset it takes the role off, also one that the connection began with.
RESET: Final = (Query("RESET SESSION AUTHORIZATION"), Query("RESET ALL"), Query("RESET ROLE"))
# Requests that may wait for a connection; more are refused at once rather than queued beyond any use.
WAITING: Final = 4_096
# How long the pool goes on trying to replace one lost connection before it leaves that to the next request.
RECONNECT_SECONDS: Final = 2.0


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
        pooled: the URL leads to a pooler that lends a session for one transaction (PgBouncer in transaction mode): so
            nothing is told to a session for longer, and no statement is prepared.
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
        pooled: bool = False,
    ) -> None:
        self._url = url
        self._idle_timeout = idle_timeout_seconds
        self._pooled = pooled
        self._acquire_timeout = acquire_timeout_seconds
        self._statement_timeout = statement_timeout_seconds
        self._patience = statement_timeout_seconds + GRACE_SECONDS
        self._sweep: asyncio.Task[None] | None = None
        self._pulse = Pulse()
        self._probe: asyncio.Task[None] | None = None
        self._prepared: WeakKeyDictionary[Connection, Prepared] = WeakKeyDictionary()
        # Set per session, at connection time: a SET in every transaction would cost each one a statement.
        # After those of the URL, which they would otherwise replace.
        options = (
            f"{conninfo_to_dict(url).get('options') or ''}"
            f" -c statement_timeout={int(statement_timeout_seconds * 1000)}"
            f" -c idle_in_transaction_session_timeout={int(idle_timeout_seconds * 1000)}"
        ).strip()
        self._of_sessions: dict[str, Any] = {"prepare_threshold": None} if pooled else {"options": options}
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            kwargs={
                **self._of_sessions,
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
        if not self._pooled and self._pool.min_size:  # else nothing is opened before it is needed
            await self._see_session()

    async def _see_session(self) -> None:
        """See that a session is what it was asked to be, which one that a pooler lends is not."""
        asked = str(int(self._statement_timeout * 1000))
        try:
            async with self._pool.connection() as connection:
                found = await (await connection.execute(TIMEOUT, prepare=False)).fetchone()
        except (psycopg.Error, PoolTimeout) as error:
            await self._pool.close()
            raise StartupError(f"the database was lost as the service started: {error}") from error
        if found != (asked,):
            await self._pool.close()
            raise StartupError(
                f"a session was asked for a statement_timeout of {asked} ms, and has {found}: a pooler stands before"
                " the database and lends sessions out. Name Postgres itself in DATABASE_URL (database.url), and the"
                " pooler in database.pooler_url"
            )

    async def close(self) -> None:
        """Close every connection. Those in use are closed when they come back."""
        for task in (self._sweep, self._probe):
            if task is not None:
                task.cancel()
        await self._pool.close()

    async def begin(
        self, first: Query | None = None, *, terms: Terms = ON_USUAL_TERMS
    ) -> tuple[PostgresTransaction, Row | None]:
        """Open a transaction, and run `first` in the round trip of its BEGIN."""
        deadline = asyncio.get_running_loop().time() + time_left(self._acquire_timeout, terms.deadline)
        while True:
            connection = await self._acquire(deadline)
            prepared = None if self._pooled else self._prepared.setdefault(connection, set())
            transaction = PostgresTransaction(
                self._pool, connection, self._pulse, patience=self._patience, deadline=terms.deadline
            )
            try:
                commands = (*RESET, *self._opening(terms), *(() if first is None else (first,)))
                async with answer_within(time_left(self._patience, terms.deadline)):
                    *_, rows = await round_trip(connection, commands, prepared)
                return transaction, rows[0] if rows and first is not None else None
            except psycopg.errors.InvalidSqlStatementName:
                # Forgotten by the server; nothing has been done, and it is prepared anew.
                await transaction.rollback()
            except (TypeError, ValueError):  # a value that cannot travel, of which nothing was sent
                await transaction.release()
                raise
            except psycopg.OperationalError as error:
                if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:  # no answer came
                    await transaction.abandon()
                    raise DatabaseUnavailable from error
                if not transaction.lost and not faults.disconnected(error):
                    await transaction.rollback()
                    raise
                await transaction.abandon()
                if asyncio.get_running_loop().time() >= deadline:
                    raise DatabaseUnavailable from error
                await self.sweep()
            except BaseException:
                await transaction.abandon()
                raise

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[Row]:
        """Run one statement, which commits by itself, in one round trip."""
        deadline = asyncio.get_running_loop().time() + self._acquire_timeout
        while True:
            connection = await self._acquire(deadline)
            prepared = None if self._pooled else self._prepared.setdefault(connection, set())
            # No transaction is begun; the connection is looked after all the same.
            lease = PostgresTransaction(self._pool, connection, self._pulse, patience=self._patience)
            try:
                async with answer_within(self._patience):
                    # What stands between two ends of a round trip is a transaction, also without a BEGIN.
                    limits = (self._limits(ON_USUAL_TERMS),) if self._pooled else ()
                    *_, rows = await round_trip(connection, (*RESET, *limits, query), prepared, commits=True)
            except psycopg.errors.InvalidSqlStatementName:
                await lease.release()  # forgotten by the server; nothing has been done, and it is prepared anew
            except (TypeError, ValueError):  # as in `begin`
                await lease.release()
                raise
            except psycopg.Error as error:
                if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:  # no answer came
                    await lease.abandon()
                    raise DatabaseUnavailable from error
                if not lease.lost and not faults.disconnected(error):
                    await lease.release()
                    raise
                await lease.abandon()
                if not repeatable or asyncio.get_running_loop().time() >= deadline:
                    raise DatabaseUnavailable from error
                await self.sweep()
            except BaseException:
                await lease.abandon()
                raise
            else:
                await lease.release()
                return rows

    async def ping(self, *, deadline_seconds: float) -> None:
        """Run the empty statement on a pooled connection, unless a unit has just had an answer.

        Under load a probe would queue behind the requests, and take a healthy process out of service for being busy.
        """
        if time.monotonic() - self._pulse.at < PULSE_SECONDS:
            return
        if self._probe is None or self._probe.done():
            # One for all who ask meanwhile: probes come from whoever likes to send them.
            self._probe = asyncio.create_task(self._look(deadline_seconds), name="database probe")
        try:
            async with asyncio.timeout(deadline_seconds):
                await asyncio.shield(self._probe)
        except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests, TimeoutError) as error:
            raise DatabaseUnavailable from error

    async def _look(self, deadline_seconds: float) -> None:
        async with asyncio.timeout(deadline_seconds):
            try:
                async with self._pool.connection(timeout=deadline_seconds / 4) as connection:
                    await connection.execute("")
            except PoolTimeout:
                # All are in use, which says nothing of the server. Ask it by a connection of the probe's own.
                async with await AsyncConnection.connect(self._url, connect_timeout=2):
                    pass
        self._pulse.at = time.monotonic()

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error` says that the transaction may be run again."""
        return faults.conflicted(error)

    def disconnected(self, error: BaseException) -> bool:
        """Whether `error` says that the server ended the connection."""
        return faults.disconnected(error)

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error` says that a statement ran or waited too long."""
        return faults.timed_out(error)

    async def sweep(self) -> None:
        """Clear the pool of connections that died. Callers that come while it runs share the one sweep."""
        if self._sweep is None or self._sweep.done():
            self._sweep = asyncio.ensure_future(self._pool.check())
        await asyncio.wait({self._sweep}, timeout=self._acquire_timeout)

    def _opening(self, terms: Terms) -> tuple[Query, ...]:
        if self._pooled:
            return BEGIN[terms.isolation, terms.read_only], self._limits(terms)
        return opening(terms, self._statement_timeout)

    def _limits(self, terms: Terms) -> Query:
        """All that a session of our own would have been told at its begin, for one transaction."""
        left = time_left(self._statement_timeout, terms.deadline)
        near = left <= self._statement_timeout - SLACK_SECONDS
        statement, idle = max(1, int(left * 1000)), int(self._idle_timeout * 1000)
        return Query(LIMITS, (str(statement), str(max(1, int(statement * LOCK_SHARE)) if near else 0), str(idle)))

    async def _acquire(self, deadline: float) -> Connection:
        remaining = max(0.01, deadline - asyncio.get_running_loop().time())
        try:
            return await self._pool.getconn(timeout=remaining)
        except (PoolTimeout, PoolClosed, TooManyRequests) as error:
            raise DatabaseUnavailable from error

    async def _why_unreachable(self) -> str:
        """Ask once more, directly: the pool keeps to itself why its connections fail."""
        try:
            connection = await AsyncConnection.connect(self._url, connect_timeout=2, **self._of_sessions)
        except psycopg.Error as error:
            return str(error).strip().splitlines()[-1]
        await connection.close()
        return "it answers now, but was too slow"


def opening(terms: Terms, statement_timeout_seconds: float) -> tuple[Query, ...]:
    """What opens a transaction on these terms, on a session that ends statements after the given time by itself."""
    begin = BEGIN[terms.isolation, terms.read_only]
    left = time_left(statement_timeout_seconds, terms.deadline)
    if left > statement_timeout_seconds - SLACK_SECONDS:
        return (begin,)
    milliseconds = max(1, int(left * 1000))  # 0 would be no limit at all
    return begin, Query(LIMIT, (str(milliseconds), str(max(1, int(milliseconds * LOCK_SHARE)))))
