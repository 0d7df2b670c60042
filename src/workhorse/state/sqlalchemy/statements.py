"""Workhorse's own statements on SQLAlchemy's connections: placeholders as each driver wants them, and their rows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import CursorResult

from workhorse.contracts import Query, Terms
from workhorse.state.postgres.database import opening
from workhorse.state.postgres.roundtrip import numbered

__all__ = ["PULSE", "FetchedRows", "Params", "dollars", "following"]

# Takes no snapshot, so the app may still set the isolation level by itself.
PULSE: Final = Query("SHOW transaction_isolation")

Params = Sequence[object] | Mapping[str, object]

_NAMED: Final = re.compile(r"%\((?P<name>\w+)\)s")


class FetchedRows:
    """The rows of a statement, all of them here already (see `contracts.Rows`)."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = list(rows)
        self._rows.reverse()
        self.rowcount = rowcount

    @classmethod
    def of(cls, result: CursorResult[Any]) -> "FetchedRows":
        """The rows of what SQLAlchemy returned, as tuples."""
        rows = [tuple(row) for row in result.fetchall()] if result.returns_rows else []
        return cls(rows, result.rowcount)

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


def following(terms: Terms, statement_timeout_seconds: float, first: Query | None) -> list[Query]:
    """What follows a BEGIN that the driver sends by itself before the first statement; so there has to be one."""
    commands = [*opening(terms, statement_timeout_seconds)[1:], *(() if first is None else (first,))]
    if terms.isolation is not None or terms.read_only:
        level = f" ISOLATION LEVEL {terms.isolation.upper()}" if terms.isolation else ""
        commands.insert(0, Query(f"SET TRANSACTION{level}{' READ ONLY' if terms.read_only else ''}"))
    return commands or [PULSE]


def dollars(sql: str, params: Params) -> tuple[str, tuple[object, ...]]:
    """The statement with `$1` for the first `%s`, for asyncpg, and its parameters in their order.

    Raises:
        ValueError: the statement has a lone percent sign; write `%%`.
        KeyError: a named placeholder has no value.
    """
    if isinstance(params, Mapping):
        text = numbered(_NAMED.sub("%s", sql))[1].decode()
        return text, tuple(params[match["name"]] for match in _NAMED.finditer(sql))
    return numbered(sql)[1].decode() if params or "%" in sql else sql, tuple(params)
