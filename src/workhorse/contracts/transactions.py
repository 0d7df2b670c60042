"""Where a unit's transactions come from, whichever driver opened the connection.

A unit asks for little: begin on these terms, run a statement, open a savepoint, commit together with these last
statements, or undo. So it runs over psycopg's pool, an app's own SQLAlchemy engine or another driver alike.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "ON_USUAL_TERMS",
    "CopiesRows",
    "Database",
    "Isolation",
    "Query",
    "RecordsModels",
    "RowChange",
    "Rows",
    "Terms",
    "Transaction",
]

Isolation: TypeAlias = Literal["read committed", "repeatable read", "serializable"]
"""How much of what others commit meanwhile a transaction sees (PostgreSQL manual, section 13.2)."""


class Query(NamedTuple):
    """A statement with `%s` placeholders, and its parameters: text, whole numbers, UUIDs, bytes or None."""

    sql: str
    params: Sequence[object] = ()


class Terms(NamedTuple):
    """On what terms a transaction is begun."""

    isolation: Isolation | None = None
    """None: the database's own default, which is read committed unless somebody changed it."""
    read_only: bool = False
    deadline: float = 0.0
    """When it must have ended, on the clock of `time.monotonic`; 0: there is no such time."""


ON_USUAL_TERMS: Final = Terms()


class RowChange(NamedTuple):
    """What was written of one row."""

    subject: str
    """Which: a model and a key, such as `Account:7`."""
    operation: str
    """insert, update, delete; or of many rows at once, whose values nobody has seen, `bulk update`."""
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None


class RecordsModels(Protocol):
    """A transaction whose ORM session tells what it writes."""

    def record_models(self, models: Sequence[type], made: Callable[[Sequence[RowChange]], Query]) -> None:
        """Record what the session writes of `models` from now on, by the statements that `made` makes."""
        ...


@runtime_checkable
class CopiesRows(Protocol):
    """A transaction that can send many rows at once."""

    async def copy_rows(self, statement: str, data: bytes) -> None:
        """Run `COPY ... FROM STDIN` with this data, in the transaction.

        Raises:
            Exception: the driver's; the transaction cannot be committed any more.
        """
        ...


class Rows(Protocol):
    """What a statement returned. psycopg's `AsyncCursor` is one."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed or returned; -1 where this is not known."""
        ...

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...


class Transaction(Protocol):
    """One open transaction on one connection. It ends once: by `commit`, `rollback` or `abandon`."""

    @property
    def connection(self) -> Any:
        """The driver's connection, for all that the driver can do but end the transaction.

        It is lent: after the end of the transaction it refuses to be used.
        """
        ...

    @property
    def lost(self) -> bool:
        """Whether the connection broke, so that the server has rolled back whatever was not committed."""
        ...

    @property
    def in_block(self) -> bool:
        """Whether a savepoint block is open, whose end may undo what is written now.

        Known of `savepoint()` and of the driver's own blocks, not of a SAVEPOINT that was sent as SQL.
        """
        ...

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement and return its rows, as the driver's cursor (see `Rows` for what all have)."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A block that is undone when an exception leaves it, which then goes on. Blocks may nest."""
        ...

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Run `last` in order and COMMIT, in one round trip where the driver can; then give the connection back.

        Raises:
            UnitError: a statement had failed, or the transaction had been ended by others: nothing is committed.
            OutcomeUnknown: the connection broke before the server confirmed.
        """
        ...

    async def rollback(self) -> None:
        """Undo everything and give the connection back. Never raises for a connection that is lost."""
        ...

    async def abandon(self) -> None:
        """End the connection without a word to the server, which then rolls back. For cancelled work."""
        ...


class Database(Protocol):
    """Where transactions come from."""

    async def begin(
        self, first: Query | None = None, *, terms: Terms = ON_USUAL_TERMS
    ) -> tuple[Transaction, Sequence[Any] | None]:
        """Open a transaction. With `first`, run it in the same round trip and return its first row, if any.

        Raises:
            DatabaseUnavailable: no connection could be had in time.
        """
        ...

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[Sequence[Any]]:
        """Run one statement outside any unit, in one round trip; it commits by itself. Returns its rows.

        With `repeatable` it may run twice: it is sent again when the connection turns out to be dead.

        Raises:
            DatabaseUnavailable: the server could not be reached, or did not answer: it may have run all the same.
        """
        ...

    async def ping(self, *, deadline_seconds: float) -> None:
        """Ask the server for a sign of life.

        Raises:
            DatabaseUnavailable: none came within the deadline.
        """
        ...

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that the transaction lost to another and may be run again."""
        ...

    def disconnected(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that the server ended the connection."""
        ...

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that a statement was ended because it took too long."""
        ...
