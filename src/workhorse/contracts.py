"""The few Protocols that one room offers and another needs.

A room imports a contract, never the driver behind it: so a unit runs over psycopg today and over an app's own
SQLAlchemy engine or Django connection without knowing. What a contract promises is tested once, over every backend.
"""

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
