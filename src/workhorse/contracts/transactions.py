"""Where a unit's transactions come from, whichever driver opened the connection."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["Database", "Query", "Transaction"]


class Query(NamedTuple):
    """A statement with `%s` placeholders, and its parameters: text, whole numbers, UUIDs, bytes or None."""

    sql: str
    params: Sequence[object] = ()


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

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement and return the driver's cursor."""
        ...

    async def commit(self, last: Query | None = None) -> None:
        """Run `last` and COMMIT, in one round trip where the driver can; then give the connection back.

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

    async def begin(self, first: Query | None = None) -> tuple[Transaction, Sequence[Any] | None]:
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
