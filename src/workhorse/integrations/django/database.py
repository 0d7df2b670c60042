"""Units on Django's own connection (see `contracts.Database`).

A unit that is begun before anything of the app has run, as for a request with an Idempotency-Key, is begun in the
thread in which the app will run, so that it finds the connection there. Every later step is done in another thread,
because a sync view that asks for it keeps its own waiting (`place`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, cast

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections

from workhorse.contracts import ON_USUAL_TERMS, Query, Terms
from workhorse.errors import DatabaseUnavailable, SettingsError, StartupError
from workhorse.integrations.django.place import PLACE, Place, lent
from workhorse.integrations.django.transaction import DjangoTransaction, Fetched, send
from workhorse.state.postgres import faults
from workhorse.state.postgres.database import opening
from workhorse.state.postgres.transaction import GRACE_SECONDS

__all__ = ["DjangoDatabase", "refusal_of"]

# Takes no snapshot. Sent so that the transaction has begun, and a dead connection shows before the app runs.
PULSE: Final = Query("SHOW transaction_isolation")
# For how long another connection is tried when one turns out to be dead.
RETRY_SECONDS: Final = 5.0
# For how long the end of the service waits for connections that are being closed.
CLOSE_SECONDS: Final = 5.0
# Steps of units at once. Each has a connection, of which a server has far fewer.
THREADS: Final = 1_024
# Django has no types.
AWAY: Final = cast("tuple[type[Exception], ...]", (OperationalError, InterfaceError))
SILENT: Final[tuple[type[Exception], ...]] = (*AWAY, OSError, TimeoutError)
DJANGO_CONNECTIONS: Final = cast("Any", connections)


class DjangoDatabase:
    """Transactions on Django's own connections.

    Args:
        alias: the key in Django's DATABASES. It has to be the database in which replies, jobs and events are.
        statement_timeout_seconds: the `statement_timeout` that Django's connections have; a request's deadline is set
            on the transaction where it is nearer.

    Raises:
        SettingsError: DATABASES has no such key, or its engine is not Django's for Postgres over psycopg 3.
    """

    def __init__(self, alias: str = DEFAULT_DB_ALIAS, *, statement_timeout_seconds: float = 30) -> None:
        refusal = refusal_of(alias)
        if refusal:
            raise SettingsError(refusal)
        self._alias = alias
        self._statement_timeout = statement_timeout_seconds
        self._patience = statement_timeout_seconds + GRACE_SECONDS
        self._endings: set[asyncio.Task[None]] = set()
        self._closings: set[Future[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="workhorse-django")

    def __repr__(self) -> str:
        return f"<DjangoDatabase {self._alias!r}>"

    @property
    def alias(self) -> str:
        """The key in Django's DATABASES."""
        return self._alias

    async def open(self) -> None:
        """See that the server can be reached.

        Raises:
            StartupError: it cannot.
        """
        try:
            await self.ping(deadline_seconds=10)
        except DatabaseUnavailable as error:
            raise StartupError(f"the database of {self!r} could not be reached: {error.__cause__}") from error

    async def close(self) -> None:
        """Wait until the connections of what has been served are closed, for a few seconds at most.

        Requests do not wait for it. A server that stops does, so that it leaves none behind.
        """
        if self._endings:
            await asyncio.wait(set(self._endings), timeout=CLOSE_SECONDS)
        if closings := {asyncio.wrap_future(one) for one in tuple(self._closings)}:
            await asyncio.wait(closings, timeout=CLOSE_SECONDS)

    def place(self) -> Place:
        """A place for what is served next."""
        return Place(self._alias, closings=self._closings)

    async def begin(
        self, first: Query | None = None, *, terms: Terms = ON_USUAL_TERMS
    ) -> tuple["DjangoTransaction", Any]:
        """Open a transaction on the connection of what is being served here, and run `first` in it."""
        place = PLACE.get()
        owned = place is None or place.left or place.taken or place.alias != self._alias
        if place is None or owned:
            place = self.place()
            place.enter()

        def step() -> tuple[OwningTransaction, Any]:
            with lent(place):
                return self._begin(place, first, terms, owned=owned)

        if place.wrapper is None:
            call = sync_to_async(step, thread_sensitive=True)
        else:
            call = sync_to_async(step, thread_sensitive=False, executor=cast("Any", self._threads))
        beginning = asyncio.ensure_future(call())
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The thread goes on and will have a transaction, which nobody else would end.
            beginning.add_done_callback(self._give_back)
            raise
        except BaseException:
            if owned:
                place.leave()
            raise

    def _begin(
        self, place: Place, first: Query | None, terms: Terms, *, owned: bool
    ) -> "tuple[OwningTransaction, Any]":
        deadline = time.monotonic() + RETRY_SECONDS
        while True:  # until a connection is alive: the pool's may all have died at once, when the server was restarted
            transaction = OwningTransaction(place, self._threads, owned=owned, patience=self._patience)
            try:
                transaction.enter_here()
            except AWAY as error:
                raise DatabaseUnavailable from error
            queries = self._opening(terms, first, nested=transaction.nested)
            try:
                row = Fetched(send(place.wrapper, queries)).first()
            except Exception as error:
                lost = transaction.lost or faults.disconnected(error)
                transaction.rollback_here()
                if not lost:
                    raise
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable from error
            else:
                return transaction, row if first is not None else None

    def _opening(self, terms: Terms, first: Query | None, *, nested: bool) -> list[Query]:
        last = first if first is not None else PULSE
        if nested:  # in a test's transaction, whose terms are settled
            return [last]
        queries = [*opening(terms, self._statement_timeout)[1:], last]
        if terms.isolation is not None or terms.read_only:
            level = f" ISOLATION LEVEL {terms.isolation.upper()}" if terms.isolation else ""
            queries.insert(0, Query(f"SET TRANSACTION{level}{' READ ONLY' if terms.read_only else ''}"))
        return queries

    def _give_back(self, beginning: "asyncio.Future[tuple[OwningTransaction, Any]]") -> None:
        if beginning.cancelled() or beginning.exception() is not None:
            return
        transaction, _ = beginning.result()
        ending = asyncio.get_running_loop().create_task(transaction.abandon())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[Sequence[Any]]:
        """Run one statement on a connection of its own; it commits by itself."""
        for final in (not repeatable, True):
            try:
                rows: Sequence[Sequence[Any]] = await self._alone(lambda wrapper: _rows(send(wrapper, [query])))
            except Exception as error:
                if not self.disconnected(error):
                    raise
                if final:
                    raise DatabaseUnavailable from error
            else:
                return rows
        raise AssertionError("the last try returns or raises")

    async def ping(self, *, deadline_seconds: float) -> None:
        """Ask for an answer on a connection of its own."""
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._alone(lambda wrapper: _rows(send(wrapper, [PULSE])))
        except SILENT as error:
            raise DatabaseUnavailable from error

    async def _alone(self, step: Callable[[Any], Any]) -> Any:
        def call() -> Any:
            with lent(Place(self._alias, DJANGO_CONNECTIONS.create_connection(self._alias))) as wrapper:
                try:
                    wrapper.ensure_connection()
                    return step(wrapper)
                finally:
                    wrapper.close()

        return await sync_to_async(call, thread_sensitive=False, executor=cast("Any", self._threads))()

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error` says that the transaction may be run again."""
        return faults.conflicted(error)

    def disconnected(self, error: BaseException) -> bool:
        """Whether `error` says that the connection is gone."""
        return faults.disconnected(error)

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error` says that a statement ran or waited too long."""
        return faults.timed_out(error)


class OwningTransaction(DjangoTransaction):
    """A transaction that may have a place of its own, which ends with it: outside of requests, nobody else ends it."""

    __slots__ = ("_owned",)

    def __init__(self, place: Place, threads: ThreadPoolExecutor, *, owned: bool, patience: float) -> None:
        super().__init__(place, threads, patience=patience)
        self._owned = owned

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Commit, and let the place go. Where this fails, a rollback follows."""
        await super().commit(last)
        await self._let_go()

    async def rollback(self) -> None:
        """Undo everything, and let the place go."""
        await super().rollback()
        await self._let_go()

    async def abandon(self) -> None:
        """End the connection, and let the place go."""
        await super().abandon()
        await self._let_go()

    async def _let_go(self) -> None:
        if self._place.once:
            await self._do(self._place.wrapper.close)
        if self._owned:
            self._owned = False
            self._place.leave()


def refusal_of(alias: str) -> str:
    """Why units cannot run on Django's connection of this name, and what to change; empty if they can."""
    settings: dict[str, Any] = DJANGO_CONNECTIONS.settings
    if alias not in settings:
        return f"DATABASES has no {alias!r}; it has: {', '.join(settings)}. Change WORKHORSE_DATABASE"
    wrapper = DJANGO_CONNECTIONS.create_connection(alias)
    engine = settings[alias]["ENGINE"]
    if wrapper.vendor != "postgresql":
        return (
            f"DATABASES[{alias!r}]['ENGINE'] is {engine!r}; units run on Postgres: make it"
            " 'django.db.backends.postgresql', or name another key of DATABASES in WORKHORSE_DATABASE"
        )
    if not hasattr(wrapper.Database, "pq"):
        return f"DATABASES[{alias!r}]['ENGINE'] {engine!r} runs over psycopg2; install psycopg 3, which Django prefers"
    return ""


def _rows(cursor: Any) -> Sequence[Sequence[Any]]:
    return cursor.fetchall() if cursor.description is not None else []
