"""Where queries are run whose rows come as Arrow record batches."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from workhorse.errors import WorkhorseError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FrameSink", "FrameSource", "FrameStream", "QueryFailed"]


class QueryFailed(WorkhorseError):
    """The database refused a query, or a value of its rows; the message has the database's own words."""


class FrameStream(Protocol):
    """The rows of one query, batch by batch. It is read once."""

    @property
    def schema(self) -> "pa.Schema":
        """The columns as the driver gives them."""
        ...

    def __aiter__(self) -> "AsyncIterator[pa.RecordBatch]":
        """The batches, as they come."""
        ...


class FrameSource(Protocol):
    """Runs queries. They change nothing."""

    def bind(self, statement: str, params: Sequence[object] | Mapping[str, object]) -> str:
        """Put values in the places of `%s` or `%(name)s`, so that none of them can be read as SQL.

        Raises:
            ValueError: places and values do not agree.
        """
        ...

    def stream(
        self, statement: str, *, shape: "Callable[[pa.Schema], str]"
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Describe `statement`, then run what `shape` makes of its columns. The rows are read within the block.

        Raises:
            DatabaseUnavailable: no turn, or no connection, in time.
            DatabaseTimeout: the database ended the query, before its first row or at a later one.
            QueryFailed: the database refused it.
        """
        ...


class FrameSink(Protocol):
    """One connection that takes batches into tables. It blocks: it is used in a thread, by one caller at a time."""

    def ask(self, statement: str, params: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Run a statement with `$1`, `$2`, in the transaction, and return its rows, of which there are few.

        Raises:
            QueryFailed: the database refused it.
        """
        ...

    def load(self, schema: str, table: str, batches: "Sequence[pa.RecordBatch]") -> None:
        """Put batches into a table, by the names of their columns, in the transaction. Their types are not cast.

        Raises:
            QueryFailed: the database refused a row; the transaction can only be rolled back.
        """
        ...

    def commit(self) -> None:
        """Commit, and begin the next transaction."""
        ...

    def rollback(self) -> None:
        """Undo what was done since the last commit."""
        ...

    def close(self) -> None:
        """Close the connection, which undoes what was not committed."""
        ...
