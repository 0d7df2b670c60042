"""Units on an app's own sync `Engine`, for handlers that frameworks run in threads.

The request lives in the event loop, its handler in a thread, and the connection blocks: so whatever the unit does on
the connection is done in a thread of the engine's own (`lanes`), while the handler's thread waits for it. They take
turns, since the handler only ever waits for one thing; two tasks of one request must not share such a unit.

A thread cannot be ended from outside. What bounds the wait is the server: the engine's connections should have a
`statement_timeout`, and a request's deadline is set on the transaction. A COMMIT has no such bound, so its link is cut
when the time is over. Where the request is cancelled while a thread waits for an answer, the link is cut first, and the
connection closed once that thread has let go of it: psycopg frees memory as it closes, and a thread that still reads
there would take the whole process with it.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, cast

import sqlalchemy.exc
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from workhorse.contracts import ON_USUAL_TERMS, Query, RowChange, Rows, Terms
from workhorse.errors import DatabaseUnavailable, OutcomeUnknown, SettingsError, StartupError, UnitClosed, UnitError
from workhorse.state.postgres import faults
from workhorse.state.postgres.standby import Notices, not_replicated
from workhorse.state.postgres.transaction import GRACE_SECONDS, ROLLBACK_SECONDS
from workhorse.state.sqlalchemy.changes import watch_changes
from workhorse.state.sqlalchemy.database import ENDED, OPEN_BLOCK, SWALLOWED, lost_connection, refuse_autocommit
from workhorse.state.sqlalchemy.lanes import Lanes, connections_of, wait_of
from workhorse.state.sqlalchemy.statements import PULSE, FetchedRows, Params, following
from workhorse.state.sqlalchemy.watch import KEY, TORN, Watch, watch_engine

__all__ = ["SQLAlchemySyncDatabase", "SQLAlchemySyncTransaction"]

DRIVERS: Final = ("psycopg", "psycopg2")
# The values of libpq's PQtransactionStatus, which both drivers pass on.
IDLE: Final = 0
FAILED: Final = 3
# For how long another connection is tried when one turns out to be dead.
RETRY_SECONDS: Final = 5.0


def status(raw: Any) -> int:
    """What the server's last answer said of the transaction."""
    return int(raw.info.transaction_status)


def is_idle(raw: Any) -> bool:
    """Whether no transaction is open."""
    return status(raw) == IDLE


def send(raw: Any, sql: str, params: Params = ()) -> tuple[FetchedRows, str]:
    """Run one statement on the driver's connection. Returns its rows and the tag of the server's answer."""
    with raw.cursor() as cursor:
        cursor.execute(sql, adapted(params) or None)
        rows: list[Any] = cursor.fetchall() if cursor.description is not None else []
        return FetchedRows(rows, cursor.rowcount), str(cursor.statusmessage)


def send_commit(raw: Any) -> tuple[str, bool]:
    """COMMIT. Returns the tag of the answer, and whether the server waited for its standby to the end."""
    notices = Notices()
    if not hasattr(raw, "add_notice_handler"):  # psycopg2 collects the texts of its notices
        del raw.notices[:]
        _, tag = send(raw, "COMMIT")
        notices.of_texts(raw.notices)
        return tag, not notices.gave_up
    raw.add_notice_handler(notices.of_psycopg)
    try:
        _, tag = send(raw, "COMMIT")
    finally:
        raw.remove_notice_handler(notices.of_psycopg)
    return tag, not notices.gave_up


def adapted(params: Params) -> Any:
    """Parameters as both drivers take them: psycopg2 knows no UUID unless it is told."""
    if isinstance(params, (list, tuple)):
        return [str(value) if type(value).__name__ == "UUID" else value for value in params]
    return params


def sever(raw: Any) -> None:
    """Break the link to the server, without a word: whoever waits for an answer has an error at once."""
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut(raw: Any) -> Generator[bool]:
    """Break the link to the server. True: in the block no thread waits on it any more, so it may be closed."""
    sever(raw)
    lock: threading.Lock | None = getattr(raw, "lock", None)  # psycopg2 has its own, which its close() takes
    if lock is None:
        yield True
    elif not lock.acquire(timeout=ROLLBACK_SECONDS):
        yield False
    else:
        try:
            yield True
        finally:
            lock.release()


class SQLAlchemySyncTransaction:
    """One transaction on one connection of an app's sync engine (see `contracts.Transaction`)."""

    __slots__ = (
        "_connection",
        "_ended",
        "_ending",
        "_lanes",
        "_make_session",
        "_on_session",
        "_patience",
        "_sent_at",
        "_session",
        "_was_lost",
        "_watch",
    )

    def __init__(
        self,
        connection: Connection,
        watch: Watch,
        make_session: Callable[..., Session],
        lanes: Lanes,
        *,
        patience: float,
    ) -> None:
        self._lanes = lanes
        self._patience = patience
        self._sent_at = 0.0  # when the COMMIT was, on the monotonic clock
        self._connection = connection
        self._watch = watch
        self._make_session = make_session
        self._session: Session | None = None
        self._on_session: Callable[[Session], None] | None = None
        self._ending = threading.RLock()  # two threads may come to an end of it: that of a COMMIT, and a cancellation's
        self._ended = False
        self._was_lost = False

    def __repr__(self) -> str:
        return f"<SQLAlchemySyncTransaction {'ended' if self._ended else 'open'}>"

    @property
    def connection(self) -> Connection:
        """SQLAlchemy's connection, for as long as the transaction is open.

        Raises:
            UnitClosed: it has ended.
        """
        if self._ended:
            raise UnitClosed(ENDED)
        return self._connection

    @property
    def session(self) -> Session:
        """The session on this connection; always the same. It works inside a savepoint, as the async one does.

        Raises:
            UnitClosed: the transaction has ended.
        """
        connection = self.connection
        if self._session is None:
            self._session = self._make_session(bind=connection, join_transaction_mode="create_savepoint")
            if self._on_session is not None:
                self._on_session(self._session)
        return self._session

    def record_models(self, models: Sequence[type], made: Callable[[Sequence[RowChange]], Query]) -> None:
        """Record what the session writes of `models`, by the statements that `made` makes."""

        def run(session: Session, query: Query) -> None:
            session.connection().exec_driver_sql(query.sql, tuple(query.params))

        self._on_session = lambda session: watch_changes(session, models, made, run)

    @property
    def lost(self) -> bool:
        """Whether the connection broke. Not said of one whose transaction others ended: that may stand in part."""
        if self._watch.torn:
            return False
        if self._ended:
            return self._was_lost
        return self._connection.invalidated or bool(self._watch.raw.closed)

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
        return self._nested()

    @asynccontextmanager
    async def _nested(self) -> AsyncGenerator[None]:
        begin = self.connection.begin_nested if self._session is None else self._session.begin_nested
        block = await self._lanes.step(begin)
        try:
            yield
        except BaseException:
            await self._lanes.step(block.rollback)
            raise
        await self._lanes.step(block.commit)

    async def execute(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement, with `%s` or `%(name)s` for its parameters."""
        return await self._lanes.step(self.execute_here, sql, params)

    def execute_here(self, sql: str, params: Params = ()) -> FetchedRows:
        """Run one statement in the calling thread."""
        _ = self.connection
        if self._watch.torn:
            raise UnitError(TORN)
        if self._session is not None and self._session.in_transaction():
            self._session.connection()  # a session sends its savepoint late, and this has to come after it
        try:
            rows, _ = send(self._watch.raw, sql, params)
        finally:
            self._watch.look()
        return rows

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Flush the session, run `last` and COMMIT, then give the connection back."""
        committing = self._lanes.step(self._commit, last)
        try:
            while not committing.done():
                await asyncio.wait({committing}, timeout=self._patience)
                if self._sent_at and time.monotonic() - self._sent_at >= self._patience:
                    # Not a request to cancel: a COMMIT that waits for its standby would be visible by that.
                    sever(self._watch.raw)
        except asyncio.CancelledError:
            committing.cancel()
            raise
        if not committing.result():
            raise not_replicated()

    def _commit(self, last: Sequence[Query]) -> bool:
        """Commit, in this thread. False if the server did not wait for its standby to the end."""
        self._check(nested=self._session is not None and self._session.in_nested_transaction())
        if self._session is not None and self._session.in_transaction():
            self._session.commit()
        self._check(nested=self._connection.in_nested_transaction())
        self._sent_at = time.monotonic()
        try:
            for query in last:
                send(self._watch.raw, query.sql, query.params)
            tag, replicated = send_commit(self._watch.raw)
        except Exception as error:
            if self.lost or lost_connection(error):
                self.abandon_here()
                raise OutcomeUnknown from error
            raise
        if tag != "COMMIT":
            raise UnitError(f"nothing was committed: {SWALLOWED}")
        self._release()
        return replicated

    async def rollback(self) -> None:
        """Undo everything and give the connection back."""
        if not self._ended:
            await self._lanes.step(self.rollback_here)

    def rollback_here(self) -> None:
        """Undo everything, in the calling thread."""
        if self._watch.spoiled:
            self.abandon_here()
            return
        self._unwatch()
        try:
            self._connection.rollback()
            self._release()
        except Exception:  # noqa: BLE001 - whatever is wrong with the connection, it must not serve another request
            self.abandon_here()

    async def abandon(self) -> None:
        """End the connection; the server rolls back."""
        if not self._ended:
            sever(self._watch.raw)  # a thread that waits there is needed, perhaps for this very step
            await self._lanes.step(self.abandon_here)

    def abandon_here(self) -> None:
        """End the connection, in the calling thread."""
        with self._ending:
            if self._ended:
                return
            self._was_lost = self.lost
            self._unwatch()
            self._ended = True
            with cut(self._watch.raw) as free:
                for end in (self._connection.invalidate, self._connection.close) if free else ():
                    with contextlib.suppress(Exception):
                        end()

    def _release(self) -> None:
        with self._ending:
            if self._ended:
                return
            if self._watch.spoiled:
                self.abandon_here()
                return
            self._unwatch()
            try:
                self._connection.close()
            except Exception:  # noqa: BLE001 - the outcome stands; the connection is the pool's to throw away
                self.abandon_here()
            self._ended = True

    def _unwatch(self) -> None:
        """Let the connection be: what ends its transaction now is the unit."""
        if not self._connection.closed and not self._connection.invalidated:
            self._connection.info.pop(KEY, None)

    def _check(self, *, nested: bool) -> None:
        """Refuse to commit what cannot be committed as a whole."""
        if self._ended:
            raise UnitClosed(ENDED)
        if self.lost:
            why = "the connection was lost before the commit"
        elif status(self._watch.raw) == FAILED:
            why = SWALLOWED
        elif self._watch.torn or is_idle(self._watch.raw):
            why = TORN
        elif nested:
            why = OPEN_BLOCK
        else:
            return
        raise UnitError(f"nothing can be committed: {why}")


class SQLAlchemySyncDatabase:
    """Transactions on an app's own sync engine (see `contracts.Database`).

    Args:
        engine: the app's, over psycopg or psycopg2. It stays the app's to dispose of. Its pool's `timeout` bounds the
            wait for a connection.
        session: the app's `sessionmaker`, for its options.
        statement_timeout_seconds: the `statement_timeout` that the engine's connections have; a request's deadline is
            set on the transaction where it is nearer.

    Raises:
        SettingsError: the engine's driver is another one.
    """

    records_models: Final = True
    """Whether its transactions can tell what was written of models."""

    def __init__(
        self, engine: Engine, *, session: sessionmaker[Any] | None = None, statement_timeout_seconds: float = 30
    ) -> None:
        if engine.dialect.driver not in DRIVERS:
            raise SettingsError(
                f"the engine's driver is {engine.dialect.driver!r}; a unit of sync handlers runs over"
                f" {' or '.join(DRIVERS)}: postgresql+psycopg://... or postgresql+psycopg2://..."
            )
        self._engine = engine
        self.sessions: Final[sessionmaker[Any]] = session or sessionmaker()
        """Makes the sessions of units."""
        self._statement_timeout = statement_timeout_seconds
        self._patience = statement_timeout_seconds + GRACE_SECONDS
        self._lanes = Lanes(connections_of(engine.pool))
        self._acquire_timeout = wait_of(engine.pool)
        watch_engine(engine)

    def __repr__(self) -> str:
        return f"<SQLAlchemySyncDatabase {self._engine.url.render_as_string(hide_password=True)}>"

    async def open(self) -> None:
        """See that the server can be reached.

        Raises:
            StartupError: it cannot.
        """
        try:
            await self.ping(deadline_seconds=10)
        except DatabaseUnavailable as error:
            raise StartupError(f"the database of {self!r} could not be reached: {error.__cause__}") from error

    async def begin(
        self, first: Query | None = None, *, terms: Terms = ON_USUAL_TERMS
    ) -> tuple[SQLAlchemySyncTransaction, Any]:
        """Open a transaction, and run `first` in it."""
        beginning = self._lanes.begin(self._begin, first, terms, time.monotonic())
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The thread goes on and will have a connection, which nobody else would give back.
            beginning.add_done_callback(self._give_back)
            raise

    def _give_back(self, beginning: "asyncio.Future[tuple[SQLAlchemySyncTransaction, Any]]") -> None:
        """Undo a transaction that was begun for somebody who has gone."""
        if not beginning.cancelled() and beginning.exception() is None:
            transaction, _ = beginning.result()
            self._lanes.step(transaction.abandon_here)

    def _begin(self, first: Query | None, terms: Terms, asked_at: float) -> tuple[SQLAlchemySyncTransaction, Any]:
        if time.monotonic() - asked_at > self._acquire_timeout:
            raise DatabaseUnavailable  # it has waited in the lane for as long as the pool would let it wait
        deadline = time.monotonic() + RETRY_SECONDS
        while True:  # until a connection is alive: the pool's may all have died at once, when the server was restarted
            transaction = self._lease()
            try:
                row: Any = None
                for query in following(terms, self._statement_timeout, first):
                    row = transaction.execute_here(query.sql, query.params).first()
            except Exception as error:
                if not transaction.lost and not self.disconnected(error):
                    transaction.rollback_here()
                    raise
                transaction.abandon_here()
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable from error
            else:
                return transaction, row if first is not None else None

    def _lease(self) -> SQLAlchemySyncTransaction:
        try:
            connection = self._engine.connect()
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            raise DatabaseUnavailable from error
        try:
            raw = cast("Any", connection.connection.dbapi_connection)
            refuse_autocommit(raw)
            connection.begin()
            watch = Watch(raw, is_idle)
            connection.info[KEY] = watch
        except BaseException:
            connection.close()
            raise
        return SQLAlchemySyncTransaction(connection, watch, self.sessions, self._lanes, patience=self._patience)

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
            else:
                return rows
        raise AssertionError("the last try returns or raises")

    async def ping(self, *, deadline_seconds: float) -> None:
        """Ask for an empty answer on a connection of the pool."""

        def ask() -> None:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(PULSE.sql)

        try:
            async with asyncio.timeout(deadline_seconds):
                await asyncio.to_thread(ask)
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
