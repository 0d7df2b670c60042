"""Units on an app's own `AsyncEngine`, over psycopg or asyncpg.

The connection comes from the app's pool, and SQLAlchemy stays its owner. Over psycopg a unit takes the two round trips
that it takes on Workhorse's own pool, by the same code, on the psycopg connection below SQLAlchemy's. asyncpg has no
such thing as a pipeline for others, so there BEGIN, the claim, each of the last statements and COMMIT are a round trip
each.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, cast

import sqlalchemy.exc
from psycopg.pq import TransactionStatus
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from workhorse.contracts import ON_USUAL_TERMS, Query, RowChange, Rows, Terms
from workhorse.errors import DatabaseUnavailable, OutcomeUnknown, SettingsError, StartupError, UnitClosed, UnitError
from workhorse.state.postgres import faults
from workhorse.state.postgres.database import opening
from workhorse.state.postgres.roundtrip import round_trip
from workhorse.state.postgres.standby import Notices, not_replicated
from workhorse.state.postgres.transaction import (
    GRACE_SECONDS,
    ROLLBACK_SECONDS,
    answer_within,
    send_commit,
    time_left,
    unanswered,
)
from workhorse.state.sqlalchemy.changes import watch_changes
from workhorse.state.sqlalchemy.statements import PULSE, FetchedRows, Params, dollars, following
from workhorse.state.sqlalchemy.watch import KEY, TORN, Watch, watch_engine

__all__ = ["SQLAlchemyDatabase", "SQLAlchemyTransaction", "lost_connection", "refuse_autocommit"]

ENDED: Final = "the unit has ended with its reply, and its connection serves others now"
SWALLOWED: Final = "a statement of this unit failed and its error was swallowed"
OPEN_BLOCK: Final = (
    "a begin_nested() or savepoint() block is still open while the reply leaves. Close it before the handler returns"
)


class Driver(Protocol):
    """What a unit asks of the driver below SQLAlchemy."""

    def idle(self, raw: Any) -> bool:
        """Whether the server's last answer said that no transaction is open."""
        ...

    def closed(self, raw: Any) -> bool:
        """Whether the connection is gone."""
        ...

    def failed(self, raw: Any) -> bool:
        """Whether a statement of the transaction failed, as far as the driver tells."""
        ...

    async def begin(self, connection: AsyncConnection, raw: Any, terms: Terms, first: Query | None) -> Any:
        """Open a transaction, and run `first` in it. Returns its first row."""
        ...

    async def execute(self, connection: AsyncConnection, raw: Any, sql: str, params: Params) -> Rows:
        """Run one statement."""
        ...

    async def commit(self, connection: AsyncConnection, raw: Any, last: Sequence[Query]) -> bool:
        """Run `last`, and COMMIT. False if the server did not wait for its standby to the end.

        Raises if the server answered that it rolled back instead. When it is cancelled, the server is not asked to
        cancel: a COMMIT that waits for its standby would be visible then without being replicated.
        """
        ...


class Psycopg:
    """psycopg 3: the same round trips as on Workhorse's own pool."""

    def __init__(self, statement_timeout_seconds: float) -> None:
        self._timeout = statement_timeout_seconds

    def idle(self, raw: Any) -> bool:
        """By the status that came with the last answer."""
        return bool(raw.pgconn.transaction_status == TransactionStatus.IDLE)

    def closed(self, raw: Any) -> bool:
        """As psycopg knows it."""
        return bool(raw.closed)

    def failed(self, raw: Any) -> bool:
        """By the status that came with the last answer."""
        return bool(raw.pgconn.transaction_status == TransactionStatus.INERROR)

    async def begin(self, connection: AsyncConnection, raw: Any, terms: Terms, first: Query | None) -> Any:  # noqa: ARG002
        """In one round trip."""
        *_, rows = await round_trip(raw, (*opening(terms, self._timeout), *(() if first is None else (first,))), None)
        return rows[0] if rows and first is not None else None

    async def execute(self, connection: AsyncConnection, raw: Any, sql: str, params: Params) -> Rows:  # noqa: ARG002
        """By a cursor of psycopg's own."""
        return cast("Rows", await raw.execute(sql, params or None))

    async def commit(self, connection: AsyncConnection, raw: Any, last: Sequence[Query]) -> bool:  # noqa: ARG002
        """In one round trip."""
        return await send_commit(raw, last)


class Asyncpg:
    """asyncpg: SQLAlchemy begins its transaction before the first statement."""

    def __init__(self, statement_timeout_seconds: float) -> None:
        self._timeout = statement_timeout_seconds

    def idle(self, raw: Any) -> bool:
        """By the status that came with the last answer."""
        return not raw.is_in_transaction()

    def closed(self, raw: Any) -> bool:
        """As asyncpg knows it."""
        return bool(raw.is_closed())

    def failed(self, raw: Any) -> bool:  # noqa: ARG002 - it does not tell; COMMIT will
        """Not known before COMMIT."""
        return False

    async def begin(self, connection: AsyncConnection, raw: Any, terms: Terms, first: Query | None) -> Any:
        """BEGIN and each statement are a round trip."""
        row: Any = None
        for query in following(terms, self._timeout, first):
            row = await (await self.execute(connection, raw, query.sql, query.params)).fetchone()
        return row if first is not None else None

    async def execute(self, connection: AsyncConnection, raw: Any, sql: str, params: Params) -> Rows:  # noqa: ARG002
        """By SQLAlchemy, which keeps the prepared statements."""
        text, values = dollars(sql, params)
        return FetchedRows.of(await connection.exec_driver_sql(text, values or None))

    async def commit(self, connection: AsyncConnection, raw: Any, last: Sequence[Query]) -> bool:
        """Past SQLAlchemy, because only the tag of the answer tells a commit from a rollback."""
        for query in last:
            await self.execute(connection, raw, query.sql, query.params)
        notices = Notices()
        raw.add_log_listener(notices.of_asyncpg)
        committing = asyncio.ensure_future(raw.execute("COMMIT"))
        try:
            await asyncio.wait({committing})
        finally:
            if not committing.done():
                # asyncpg answers a cancellation by asking the server to cancel, unless there is no link any more.
                raw.terminate()
                await asyncio.wait({committing}, timeout=ROLLBACK_SECONDS)
                if committing.done() and not committing.cancelled():
                    committing.exception()  # looked at: what matters is that nobody waited for it
            if not raw.is_closed():
                raw.remove_log_listener(notices.of_asyncpg)
        if committing.result() != "COMMIT":
            raise UnitError(f"nothing was committed: {SWALLOWED}")
        return not notices.gave_up


DRIVERS: Final[dict[str, Callable[[float], Driver]]] = {"psycopg": Psycopg, "asyncpg": Asyncpg}


class SQLAlchemyTransaction:
    """One transaction on one connection of an app's engine (see `contracts.Transaction`)."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_driver",
        "_ended",
        "_make_session",
        "_on_session",
        "_patience",
        "_session",
        "_was_lost",
        "_watch",
    )

    def __init__(
        self,
        connection: AsyncConnection,
        watch: Watch,
        driver: Driver,
        make_session: Callable[..., AsyncSession],
        *,
        patience: float,
        deadline: float,
    ) -> None:
        self._connection = connection
        self._watch = watch
        self._driver = driver
        self._make_session = make_session
        self._patience = patience
        self._deadline = deadline
        self._session: AsyncSession | None = None
        self._on_session: Callable[[Session], None] | None = None
        self._ended = False
        self._was_lost = False

    def __repr__(self) -> str:
        return f"<SQLAlchemyTransaction {'ended' if self._ended else 'open'}>"

    @property
    def connection(self) -> AsyncConnection:
        """SQLAlchemy's connection, for as long as the transaction is open.

        Raises:
            UnitClosed: it has ended.
        """
        if self._ended:
            raise UnitClosed(ENDED)
        return self._connection

    @property
    def session(self) -> AsyncSession:
        """The session on this connection; always the same.

        It works inside a savepoint. So its `commit()` flushes and lets others on this connection see its rows, but
        nothing is committed before the unit is; and its `rollback()` undoes what it did since then, while the unit
        goes on. What it has not flushed by the end of the unit is flushed then.

        Raises:
            UnitClosed: the transaction has ended.
        """
        connection = self.connection
        if self._session is None:
            self._session = self._make_session(bind=connection, join_transaction_mode="create_savepoint")
            if self._on_session is not None:
                self._on_session(self._session.sync_session)
        return self._session

    def record_models(self, models: Sequence[type], made: Callable[[Sequence[RowChange]], Query]) -> None:
        """Record what the session writes of `models`, by the statements that `made` makes."""

        def run(session: Session, query: Query) -> None:
            text, values = query.sql, tuple(query.params)
            if isinstance(self._driver, Asyncpg):
                text, values = dollars(query.sql, query.params)
            session.connection().exec_driver_sql(text, values)

        self._on_session = lambda session: watch_changes(session, models, made, run)

    @property
    def lost(self) -> bool:
        """Whether the connection broke. Not said of one whose transaction others ended: that may stand in part."""
        if self._watch.torn:
            return False
        if self._ended:
            return self._was_lost
        return self._connection.invalidated or self._driver.closed(self._watch.raw)

    @property
    def in_block(self) -> bool:
        """Whether a savepoint is open; that of a session which has not committed is one."""
        if self._ended or self._connection.closed:
            return False
        return self._connection.in_nested_transaction() or (
            self._session is not None and self._session.in_transaction()
        )

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A block that is undone when an exception leaves it."""
        if self._session is not None:  # its objects then follow the rows
            return self._session.begin_nested()
        return self.connection.begin_nested()

    async def execute(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement, with `%s` or `%(name)s` for its parameters."""
        connection = self.connection
        if self._watch.torn:
            raise UnitError(TORN)
        async with answer_within(time_left(self._patience, self._deadline)):
            if self._session is not None and self._session.in_transaction():
                await self._session.connection()  # a session sends its savepoint late, and this has to come after it
            rows = await self._driver.execute(connection, self._watch.raw, sql, params)
        self._watch.look()
        return rows

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Flush the session, run `last` and COMMIT, then give the connection back."""
        self._check(nested=self._session is not None and self._session.in_nested_transaction())
        if self._session is not None and self._session.in_transaction():
            async with answer_within(self._patience):
                await self._session.commit()
        self._check(nested=self._connection.in_nested_transaction())
        sent = False
        try:
            async with answer_within(self._patience):
                sent = True
                replicated = await self._driver.commit(self._connection, self._watch.raw, last)
        except Exception as error:
            if sent and not isinstance(error, UnitError) and (self.lost or lost_connection(error) or unanswered(error)):
                await self.abandon()
                raise OutcomeUnknown from error
            raise
        await self._release()
        if not replicated:
            raise not_replicated()

    async def rollback(self) -> None:
        """Undo everything and give the connection back."""
        if self._ended:
            return
        if self._watch.spoiled:
            await self.abandon()
            return
        self._unwatch()
        try:
            async with answer_within(ROLLBACK_SECONDS):
                await self._connection.rollback()
        except Exception:  # noqa: BLE001 - whatever is wrong with the connection, it must not serve another request
            await self.abandon()
            return
        await self._release()

    async def abandon(self) -> None:
        """End the connection; the server rolls back."""
        if self._ended:
            return
        self._was_lost = self.lost
        self._ended = True
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ROLLBACK_SECONDS):
                self._unwatch()
                await self._connection.invalidate()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await self._connection.close()

    async def _release(self) -> None:
        if self._watch.spoiled:
            await self.abandon()
            return
        self._ended = True
        self._unwatch()
        try:
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await self._connection.close()
        except Exception:  # noqa: BLE001 - the outcome stands; the connection is the pool's to throw away
            self._ended = False
            await self.abandon()

    def _unwatch(self) -> None:
        """Let the connection be: what ends its transaction now is the unit."""
        if not self._connection.closed and not self._connection.invalidated:
            connection = self._connection.sync_connection
            assert connection is not None
            connection.info.pop(KEY, None)

    def _check(self, *, nested: bool) -> None:
        """Refuse to commit what cannot be committed as a whole."""
        if self._ended:
            raise UnitClosed(ENDED)
        if self.lost:
            why = "the connection was lost before the commit"
        elif self._driver.failed(self._watch.raw):
            why = SWALLOWED
        elif self._watch.torn or self._driver.idle(self._watch.raw):
            why = TORN
        elif nested:
            why = OPEN_BLOCK
        else:
            return
        raise UnitError(f"nothing can be committed: {why}")


class SQLAlchemyDatabase:
    """Transactions on an app's own engine (see `contracts.Database`).

    Args:
        engine: the app's, over psycopg or asyncpg. It stays the app's to dispose of.
        session: the app's `async_sessionmaker`, for its options; by default one with `expire_on_commit=False`.
        acquire_timeout_seconds: longest wait for a connection.
        statement_timeout_seconds: how long an answer is waited for. The engine's connections should have the same as
            `statement_timeout`, which this cannot set for them.

    Raises:
        SettingsError: the engine's driver is another one.
    """

    records_models: Final = True
    """Whether its transactions can tell what was written of models."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        session: async_sessionmaker[Any] | None = None,
        acquire_timeout_seconds: float = 5,
        statement_timeout_seconds: float = 30,
    ) -> None:
        driver = DRIVERS.get(engine.dialect.driver)
        if driver is None:
            raise SettingsError(
                f"the engine's driver is {engine.dialect.driver!r}; a unit runs over {' or '.join(DRIVERS)}:"
                " postgresql+psycopg://... or postgresql+asyncpg://..."
            )
        self._engine = engine
        self._driver = driver(statement_timeout_seconds)
        self.sessions: Final[async_sessionmaker[Any]] = session or async_sessionmaker(expire_on_commit=False)
        """Makes the sessions of units."""
        self._acquire_timeout = acquire_timeout_seconds
        self._patience = statement_timeout_seconds + GRACE_SECONDS
        watch_engine(engine.sync_engine)

    def __repr__(self) -> str:
        return f"<SQLAlchemyDatabase {self._engine.url.render_as_string(hide_password=True)}>"

    async def open(self) -> None:
        """See that the server can be reached.

        Raises:
            StartupError: it cannot.
        """
        try:
            await self.ping(deadline_seconds=self._acquire_timeout)
        except DatabaseUnavailable as error:
            raise StartupError(f"the database of {self!r} could not be reached: {error.__cause__}") from error

    async def begin(
        self, first: Query | None = None, *, terms: Terms = ON_USUAL_TERMS
    ) -> tuple[SQLAlchemyTransaction, Any]:
        """Open a transaction, and run `first` in it."""
        deadline = time.monotonic() + time_left(self._acquire_timeout, terms.deadline)
        while True:  # until a connection is alive: the pool's may all have died at once, when the server was restarted
            transaction = await self._lease(deadline, terms)
            connection = transaction.connection
            raw = cast("Any", await connection.get_raw_connection()).driver_connection
            try:
                async with answer_within(time_left(self._patience, terms.deadline)):
                    row = await self._driver.begin(connection, raw, terms, first)
            except Exception as error:
                if not transaction.lost and not self.disconnected(error):
                    await transaction.rollback()
                    raise
                await transaction.abandon()
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable from error
            except BaseException:
                await transaction.abandon()
                raise
            else:
                return transaction, row

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[Sequence[Any]]:
        """Run one statement in a transaction of its own."""
        for final in (not repeatable, True):
            transaction, _ = await self.begin()
            try:
                rows = await (await transaction.execute(query.sql, query.params)).fetchall()
                await transaction.commit()
            except Exception as error:
                await transaction.rollback()
                if not isinstance(error, OutcomeUnknown) and not self.disconnected(error):
                    raise
                if final:
                    raise DatabaseUnavailable from error
            except BaseException:
                await transaction.abandon()
                raise
            else:
                return rows
        raise AssertionError("the last try returns or raises")

    async def ping(self, *, deadline_seconds: float) -> None:
        """Ask for an empty answer on a connection of the pool."""
        try:
            async with asyncio.timeout(deadline_seconds), self._engine.connect() as connection:
                await connection.exec_driver_sql(PULSE.sql)
        except (sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            raise DatabaseUnavailable from error

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error` says that the transaction may be run again."""
        return faults.conflicted(error)

    def disconnected(self, error: BaseException) -> bool:
        """Whether `error` says that the connection is gone."""
        return lost_connection(error)

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error` says that a statement ran or waited too long."""
        return faults.timed_out(error)

    async def _lease(self, deadline: float, terms: Terms) -> SQLAlchemyTransaction:
        try:
            async with asyncio.timeout(max(0.01, deadline - time.monotonic())):
                connection = await self._engine.connect()
        except (sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            raise DatabaseUnavailable from error
        try:
            pooled = await connection.get_raw_connection()
            refuse_autocommit(pooled.dbapi_connection)
            await connection.begin()
            watch = Watch(cast("Any", pooled).driver_connection, self._driver.idle)
            sync = connection.sync_connection
            assert sync is not None
            sync.info[KEY] = watch
        except BaseException:
            await connection.close()
            raise
        return SQLAlchemyTransaction(
            connection, watch, self._driver, self.sessions, patience=self._patience, deadline=terms.deadline
        )


def refuse_autocommit(dbapi_connection: Any) -> None:
    """Refuse an engine on which every statement commits by itself.

    Raises:
        SettingsError: it does.
    """
    if dbapi_connection.autocommit:
        raise SettingsError(
            "the engine is set to AUTOCOMMIT, under which nothing can be committed as a whole: give the service an"
            " engine without isolation_level='AUTOCOMMIT'"
        )


def lost_connection(error: BaseException) -> bool:
    """Whether `error`, or what it wraps, says that the connection is gone."""
    if faults.disconnected(error):
        return True
    return any(getattr(one, "connection_invalidated", False) is True for one in faults.related(error))
