"""One unit's transaction on Django's own connection: an `atomic()` block of Django's, begun and ended by the unit.

Django keeps books of its blocks, savepoints and callbacks, and the ORM goes by them: so the unit enters and leaves
Django's own block, and what a view opens inside of it is a savepoint, as inside of any block. Only COMMIT is sent past
Django, in one round trip with what the unit writes last, and its answer looked at: Django takes the answer to the
COMMIT of a failed transaction, which is ROLLBACK, for a success.

Inside of a `TestCase`, which keeps a transaction open around each test, the unit is a savepoint.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, Final, ParamSpec, TypeVar, cast

from asgiref.sync import sync_to_async
from django.db import transaction

from workhorse.contracts import Query, Rows
from workhorse.errors import OutcomeUnknown, UnitClosed, UnitError
from workhorse.integrations.django.place import FAILED, Place, leave_open, lent
from workhorse.state.postgres import faults
from workhorse.state.postgres.standby import Notices, not_replicated
from workhorse.state.postgres.transaction import ROLLBACK_SECONDS, TORN

__all__ = ["DjangoTransaction", "Fetched", "send"]

P = ParamSpec("P")
T = TypeVar("T")
Params = Sequence[object] | Mapping[str, object]

COMMIT: Final = Query("COMMIT")
# A value of libpq's PQtransactionStatus.
IDLE: Final = 0
ENDED: Final = "the unit has ended with its reply, and its connection serves others now"
SWALLOWED: Final = (
    "a statement of this unit failed and its error was swallowed. Put what may fail into a block of its own:"
    " `with transaction.atomic():`"
)
MARKED: Final = (
    "the transaction was marked to be rolled back, by an error inside of atomic(savepoint=False) or by"
    " set_rollback(True). Let the error pass, or answer with 400 or above"
)
CLOSED: Final = "the connection was closed inside of the unit. Leave its end to Django, which closes it after the reply"
OPEN_BLOCK: Final = "an atomic() block is still open while the reply leaves. Close it before the view returns"

DJANGO_TRANSACTION: Final[Any] = transaction

logger = logging.getLogger(__name__)


class Fetched:
    """The rows of a statement, all of them here already (see `contracts.Rows`)."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, cursor: Any) -> None:
        self._rows: list[Any] = list(cursor.fetchall()) if cursor.description is not None else []
        self._rows.reverse()
        self.rowcount: int = cursor.rowcount

    def first(self) -> Any:
        """Return the next row, or None."""
        return self._rows.pop() if self._rows else None

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self.first()

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        rows, self._rows = self._rows[::-1], []
        return rows


def send(wrapper: Any, queries: Sequence[Query]) -> Any:
    """Run the statements in order and in one round trip, and return the last one's cursor.

    By cursors of psycopg's own: Django's put the values into the text.
    """
    raw = wrapper.connection
    cursors: list[Any] = []
    with wrapper.wrap_database_errors:
        with raw.pipeline():
            for query in queries:
                cursors.append(wrapper.Database.Cursor(raw))
                cursors[-1].execute(query.sql, query.params or None, prepare=False)
        return cursors[-1]


def sever(raw: Any) -> None:
    """Break the link to the server, without a word: whoever waits for an answer has an error at once."""
    with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut(raw: Any) -> Generator[bool]:
    """Break the link to the server. True: in the block no thread waits on it any more, so it may be closed.

    psycopg frees memory as it closes, and a thread that still reads there would take the whole process with it.
    """
    sever(raw)
    lock = cast("threading.Lock", raw.lock)
    if not lock.acquire(timeout=ROLLBACK_SECONDS):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class DjangoTransaction:
    """One transaction on Django's connection (see `contracts.Transaction`).

    What ends in `_here` is done in the calling thread, to which the connection is lent.
    """

    __slots__ = (
        "_atomic",
        "_depth",
        "_ended",
        "_ending",
        "_nested",
        "_patience",
        "_place",
        "_raw",
        "_sent_at",
        "_threads",
        "_was_lost",
    )

    def __init__(self, place: Place, threads: Executor, *, patience: float) -> None:
        self._place = place
        self._threads = threads
        self._patience = patience
        self._sent_at = 0.0  # when the COMMIT was that is under way, on the monotonic clock
        self._atomic: Any = DJANGO_TRANSACTION.atomic(using=place.alias)
        self._nested = False
        self._depth = 0
        self._raw: Any = None
        self._ending = threading.RLock()  # two threads may come to an end of it: that of a COMMIT, and a cancellation's
        self._ended = False
        self._was_lost = False

    def __repr__(self) -> str:
        return f"<DjangoTransaction {'ended' if self._ended else 'open'} on {self._place.alias!r}>"

    def enter_here(self) -> None:
        """Open the block.

        Raises:
            UnitError: another block is open, which would end before the unit does.
            django.db.Error: no connection could be had.
        """
        wrapper = self._place.find()
        blocks: list[Any] = wrapper.atomic_blocks
        self._nested = bool(blocks)
        if any(not block._from_testcase for block in blocks):  # noqa: SLF001 - so Django tells them apart, too
            raise UnitError(
                "unit() was called inside of an atomic() block that is older than the unit, and would end before it."
                " Call it before the block; or have it opened before the view, by"
                " 'workhorse.integrations.django.UnitMiddleware' in MIDDLEWARE and WORKHORSE_UNITS = \"every\""
            )
        if not blocks and not wrapper.get_autocommit():
            raise UnitError(f"DATABASES[{self._place.alias!r}]['AUTOCOMMIT'] is off: take it out, the unit commits")
        self._atomic.__enter__()
        self._raw = wrapper.connection
        self._depth = len(wrapper.atomic_blocks)  # anew: connecting makes another list
        # Django closes old connections before and after each request, and takes one in a transaction for broken.
        if not self._nested:
            wrapper.close_if_unusable_or_obsolete = leave_open
        self._place.taken = True

    @property
    def nested(self) -> bool:
        """Whether it is a savepoint of a test's transaction."""
        return self._nested

    @property
    def connection(self) -> Any:
        """Django's connection (`django.db.connection`), for sync code in the thread of the request.

        Raises:
            UnitClosed: the transaction has ended.
        """
        if self._ended:
            raise UnitClosed(ENDED)
        return self._place.wrapper

    @property
    def lost(self) -> bool:
        """Whether the connection broke. Not said of one that the app has closed, which would do so again."""
        if self._ended:
            return self._was_lost
        return bool(self._raw.closed) and not self._closed_by_app

    @property
    def _closed_by_app(self) -> bool:
        wrapper = self._place.wrapper
        return wrapper.closed_in_transaction or wrapper.connection is not self._raw

    @property
    def in_block(self) -> bool:
        """Whether an `atomic()` block is open inside of the unit; that of ATOMIC_REQUESTS is one."""
        return not self._ended and len(self._place.wrapper.atomic_blocks) > self._depth

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A block that is undone when an exception leaves it."""
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[None]:
        _ = self.connection
        block: Any = DJANGO_TRANSACTION.atomic(using=self._place.alias)
        await self._do(block.__enter__)
        try:
            yield
        except BaseException as error:
            await self._do(block.__exit__, type(error), error, error.__traceback__)
            raise
        await self._do(block.__exit__, None, None, None)

    async def execute(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement by a cursor of Django's. It raises Django's errors."""
        _ = self.connection
        return await self._do(self.execute_here, sql, params)

    def execute_here(self, sql: str, params: Params = ()) -> Fetched:
        """Run one statement."""
        wrapper = self.connection
        if self._closed_by_app:
            raise UnitError(f"nothing can be executed: {CLOSED}")
        if self._raw.info.transaction_status == IDLE:
            raise UnitError(TORN)
        with wrapper.cursor() as cursor:
            cursor.execute(sql, params or None)
            return Fetched(cursor)

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Run `last` and COMMIT; then the callbacks of `transaction.on_commit`, of which what fails is logged."""
        watching = asyncio.create_task(self._watch(), name="a commit's end")
        try:
            replicated = await self._do(self.commit_here, last)
        finally:
            watching.cancel()
        if not replicated:
            raise not_replicated()

    async def _watch(self) -> None:
        """Give up a COMMIT that is not answered; not by asking to cancel, by which an unreplicated one would show."""
        left = self._patience
        while left > 0:
            await asyncio.sleep(left)
            left = self._patience - (time.monotonic() - self._sent_at if self._sent_at else 0.0)
        sever(self._raw)

    def commit_here(self, last: Sequence[Query]) -> bool:
        """Run `last` and COMMIT, and then the callbacks. False if the server did not wait for its standby."""
        why_not = self._obstacle()
        if why_not:
            raise UnitError(f"nothing can be committed: {why_not}")
        wrapper = self._place.wrapper
        if self._nested:
            if last:
                send(wrapper, last)
            self._atomic.__exit__(None, None, None)
            self._end()
            return True
        raw, notices = self._raw, Notices()
        raw.add_notice_handler(notices.of_psycopg)
        self._sent_at = time.monotonic()
        try:
            tag = send(wrapper, (*last, COMMIT)).statusmessage
        except Exception as error:
            if self.lost or faults.disconnected(error):
                self._discard()
                raise OutcomeUnknown from error
            raise
        finally:
            self._sent_at = 0.0
            raw.remove_notice_handler(notices.of_psycopg)
        if tag != "COMMIT":
            raise UnitError(f"nothing was committed: {SWALLOWED}")
        callbacks, wrapper.run_on_commit = wrapper.run_on_commit, []
        self._leave(None)
        wrapper.run_on_commit = callbacks
        try:
            wrapper.run_and_clear_commit_hooks()
        except Exception:
            # As the reply says that the request took effect, so it goes out: a retry of it would be told the same.
            logger.exception("a callback of transaction.on_commit failed; the commit stands")
        return not notices.gave_up

    async def rollback(self) -> None:
        """Undo everything. A view that still runs, because its client has gone, can write no more."""
        if not self._ended:
            # On a connection that was rolled back its next statement would commit by itself.
            await self._do(self.abandon_here if await self._place.is_busy() else self.rollback_here)

    def rollback_here(self) -> None:
        """Undo everything. The connection may be used for another unit, if it was not closed by the app."""
        with self._ending:
            if self._ended:
                return
            if self._closed_by_app:
                self._end()  # a pool has the connection, and has rolled back; it may be another's by now
            elif self._raw.closed:
                self._discard()
            elif self.in_block:
                self.abandon_here()
            else:
                self._leave(UnitError("rolled back"))

    async def abandon(self) -> None:
        """End the connection; the server rolls back. What still runs in the request's thread can write no more."""
        if not self._ended:
            await self._do(self.abandon_here)

    def abandon_here(self) -> None:
        """End the connection."""
        with self._ending:
            if self._ended:
                return
            if self._nested:  # the connection is the test's
                self._leave(UnitError("rolled back"))
                return
            self._was_lost = self.lost
            if self._closed_by_app:
                self._end()
                return
            with cut(self._raw) as free:
                if free:
                    self._close()
            self._end()

    def _discard(self) -> None:
        """Give up a connection that broke. The next statement in its thread has another."""
        self._was_lost = self.lost
        self._close()
        if self._nested or self.in_block:
            self._end()
        else:
            self._leave(UnitError("rolled back"))

    def _close(self) -> None:
        """Close the connection, in Django's books too: inside of a block it then opens no other one."""
        with suppress(Exception):
            self._raw.close()
        with suppress(Exception):
            self._place.wrapper.close()

    def _leave(self, error: Exception | None) -> None:
        """Leave Django's block."""
        try:
            self._atomic.__exit__(None if error is None else type(error), error, None)
        finally:
            self._end()

    def _end(self) -> None:
        with self._ending:
            if self._ended:
                return
            self._ended = True
            wrapper = self._place.wrapper
            if not self._nested:
                wrapper.__dict__.pop("close_if_unusable_or_obsolete", None)
            self._place.taken = False

    def _obstacle(self) -> str:
        """Why nothing can be committed; empty if it can."""
        if self._ended:
            raise UnitClosed(ENDED)
        if self._closed_by_app:
            return CLOSED
        if self._raw.closed:
            return "the connection was lost before the commit"
        status = self._raw.info.transaction_status
        for reason, holds in (
            (TORN, status == IDLE),
            (OPEN_BLOCK, self.in_block),
            (SWALLOWED, status == FAILED),
            (MARKED, self._place.wrapper.needs_rollback),
        ):
            if holds:
                return reason
        return ""

    async def _do(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do one step in a thread that nobody waits in."""

        def lent_step() -> T:
            with lent(self._place):
                return step(*args, **kwargs)

        call = sync_to_async(lent_step, thread_sensitive=False, executor=cast("Any", self._threads))
        return await call()
