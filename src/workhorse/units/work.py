"""What a handler holds of its request's transaction.

`unit()` finds the request through a context variable, which frameworks carry into the tasks that they start for it.
The transaction is opened by the first call: a request that never asks for one costs nothing.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from workhorse.contracts import Transaction
from workhorse.errors import NoUnit

__all__ = ["OPENER", "Work", "unit"]


class Work:
    """The transaction of the request that is being served.

    It ends by itself: a reply below 400 commits it, any other reply or an exception rolls it back, and the client
    sees the reply only after that. A handler whose transaction loses to another is run again, so what it does
    outside the database should bear repeating.
    """

    __slots__ = ("_keeps", "_transaction")

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._keeps = False

    def __repr__(self) -> str:
        return f"<Work{' keeps' if self._keeps else ''} {self._transaction!r}>"

    @property
    def connection(self) -> Any:
        """The driver's connection (psycopg's `AsyncConnection`), for COPY, cursors, savepoints and an app's own SQL.

        Do not commit or roll back on it: the unit does, and refuses to answer for a transaction that others ended.
        """
        return self._transaction.connection

    @property
    def keeps(self) -> bool:
        """Whether a reply of 400 or above commits as well."""
        return self._keeps

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement in the transaction, and return the driver's cursor. The first one opens the transaction.

        Raises:
            psycopg.Error: the statement failed; the transaction cannot be committed any more.
        """
        return await self._transaction.execute(sql, params)

    def keep(self) -> None:
        """Commit even if the reply is of status 400 or above.

        For refusals that are decisions: a retried Idempotency-Key then gets the same refusal, whatever has changed
        in between.
        """
        self._keeps = True


OPENER: Final[ContextVar[Callable[[], Awaitable[Work]]]] = ContextVar("workhorse_unit")
"""Opens the unit of the request that is being served. Set by the layer."""


async def unit() -> Work:
    """Return this request's unit, opening its transaction at the first call.

    Raises:
        NoUnit: no request is being served here, or the app is not wrapped in a `Service`.
        UnitClosed: the reply has left already, as in a streaming body or a background task.
        DatabaseUnavailable: no connection could be had in time.
    """
    opener = OPENER.get(None)
    if opener is None:
        raise NoUnit(
            "unit() needs a request: call it from a handler of an app that is wrapped in workhorse.Service"
            " (a WebSocket, a background task that outlives its request, or a script has none)"
        )
    return await opener()
