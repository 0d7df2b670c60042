"""A DuckDB file as the engine: columns on the same machine, or on another that one process has to itself.

Rows and position commit in one transaction. A file is open in one process at a time, so this one copies and answers in
the same process; it is what a machine of its own for analytics needs, not what many machines share.

A DECIMAL here has 38 digits. So numbers are kept with nine digits after the point, their own scale beside them, and one
that does not fit is kept as text (see `decimals`).
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from workhorse.contracts.frames import FrameSource, QueryFailed
from workhorse.contracts.warehouse import CopiedRow, CopyBehind, JournalSetBack, Kind, MeasuredRow, Question, Shape
from workhorse.errors import DatabaseTimeout, DatabaseUnavailable, SettingsError
from workhorse.sql import load_queries
from workhorse.state.warehouses.asking import asked, odd_name, starts_of
from workhorse.state.warehouses.decimals import PLACES, fits, quotient, scaled
from workhorse.state.warehouses.places import check_there, unseen

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DuckEngine"]

T = TypeVar("T")

TYPES: Final[dict[Kind, str]] = {"text": "VARCHAR", "number": f"DECIMAL(38,{PLACES})", "json": "VARCHAR"}
THREADS: Final = 4
"""Statements at a time. One of them writes."""
BATCH_ROWS: Final = 10_000


class DuckEngine:
    """See `contracts.warehouse.Engine`.

    Args:
        path: of the file, which is made; its folder must be there.
        statement_timeout_seconds: a longer statement is ended.
    """

    frames: FrameSource | None = None

    def __init__(self, path: str, *, statement_timeout_seconds: float = 300) -> None:
        self._path = Path(path)
        self._timeout = statement_timeout_seconds
        self._queries = load_queries("workhorse.state.warehouses", "sql/duckdb.sql")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="warehouse")
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._connection: Any = None
        self._ready: set[str] = set()

    def __repr__(self) -> str:
        return f"<DuckEngine {self._path}>"

    async def append(self, shape: Shape, rows: Sequence[CopiedRow]) -> int:
        """See `contracts.warehouse.Engine`."""
        if not rows:
            return 0
        return await self._run(lambda cursor: self._put(cursor, shape, rows))

    async def clear(self, shape: Shape) -> None:
        """See `contracts.warehouse.Engine`."""

        def clear(cursor: Any) -> None:
            with self._writing:
                self._prepare(cursor, shape)
                cursor.begin()
                cursor.execute(self._queries["clear"].format(table=shape.table)).fetchall()
                cursor.execute(self._queries["forget"], [shape.definition]).fetchall()
                cursor.commit()

        await self._run(clear)

    async def measure(self, question: Question) -> list[MeasuredRow]:
        """See `contracts.warehouse.Engine`."""
        made = asked(self._queries["measure"], question, place="?", types=TYPES)
        kinds: list[Kind] = [question.shape.columns[name] for name in question.by]

        def measured(cursor: Any) -> list[tuple[Any, ...]]:
            if question.shape.definition not in self._ready:
                with self._writing:
                    self._prepare(cursor, question.shape)
            rows: list[tuple[Any, ...]] = cursor.execute(made.statement, made.params).fetchall()
            return rows

        return [_row(row, kinds) for row in await self._run(measured)]

    async def arrow(self, statement: str, params: Sequence[object], *, max_rows: int) -> "pa.Table":
        """See `contracts.warehouse.Engine`."""
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        def read(cursor: Any) -> "pa.Table":
            batches: list[pa.RecordBatch] = []
            rows = 0
            reader = cursor.sql(statement, params=list(params)).to_arrow_reader(BATCH_ROWS)
            for batch in reader:
                rows += batch.num_rows
                batches.append(batch)
                if rows > max_rows:
                    break
            return pa.Table.from_batches(batches, schema=reader.schema)

        return await self._run(read)

    async def close(self) -> None:
        """See `contracts.warehouse.Engine`."""
        with self._opening:
            connection, self._connection = self._connection, None
        self._threads.shutdown(wait=True, cancel_futures=True)
        if connection is not None:
            connection.close()

    async def _run(self, call: Callable[[Any], T]) -> T:
        """Call in a thread, with a cursor of its own. One that takes too long, or that nobody waits for, is ended."""
        cursors: list[Any] = []

        def run() -> T:
            cursor = self._cursor()
            cursors.append(cursor)
            try:
                return call(cursor)
            finally:
                cursor.close()

        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, run)
        except RuntimeError:
            raise DatabaseUnavailable from None
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(future)
        except (TimeoutError, asyncio.CancelledError) as error:
            for cursor in cursors:
                with contextlib.suppress(Exception):
                    cursor.interrupt()
            await asyncio.wait({future}, timeout=10)
            if future.done() and not future.cancelled():
                future.exception()  # taken, so that nobody misses it
            if isinstance(error, TimeoutError):
                raise DatabaseTimeout("The engine took too long. Ask for less.") from None
            raise
        except (SettingsError, DatabaseUnavailable, CopyBehind, JournalSetBack):
            raise
        except Exception as error:
            raise QueryFailed(f"the engine refused it: {str(error).splitlines()[0][:300]}") from error

    def _cursor(self) -> Any:
        try:
            import duckdb  # noqa: PLC0415 - an optional library
        except ImportError as error:
            raise SettingsError("the engine duckdb needs its library: pip install 'workhorse[duckdb]'") from error
        with self._opening:
            if self._connection is None:
                opening = duckdb.connect()
                try:
                    # Under a name of its own: that of the file would hide the schema of the same name.
                    opening.execute(f"ATTACH '{str(self._path).replace(chr(39), chr(39) * 2)}' AS attached")
                except duckdb.IOException as error:
                    opening.close()
                    raise DatabaseUnavailable(
                        f"The warehouse {self._path} cannot be opened; another process may have it."
                    ) from error
                self._connection = opening
            cursor = self._connection.cursor()
        cursor.execute("USE attached; SET TimeZone = 'UTC'")
        return cursor

    def _put(self, cursor: Any, shape: Shape, rows: Sequence[CopiedRow]) -> int:
        with self._writing:
            self._prepare(cursor, shape)
            cursor.begin()
            try:
                # All of it is fetched, since a half-read result would hold the connection.
                noted = cursor.execute(self._queries["place"], [shape.definition]).fetchall()
                new, there = unseen(rows, noted[0] if noted else None, shape.definition)
                if there:
                    known = self._queries["known"].format(table=shape.table)
                    found = cursor.execute(known, [[str(row.id) for row in there]]).fetchall()
                    check_there(there, found[0][0], shape.definition)
                if new:
                    cursor.register("given", _given(shape, new))
                    cursor.execute(self._append(shape))
                    cursor.execute(self._queries["move"], [shape.definition, *new[-1].place])
                cursor.commit()
            except BaseException:
                with contextlib.suppress(Exception):
                    cursor.rollback()
                raise
            return len(new)

    def _prepare(self, cursor: Any, shape: Shape) -> None:
        """Make what is missing. Called by whoever has the turn to write: two that make a table would be in conflict."""
        if shape.definition in self._ready:
            return
        cursor.execute(self._queries["prepare"].format(table=shape.table))
        found: Mapping[str, str] = dict(cursor.execute(self._queries["columns"], [shape.table]).fetchall())
        for name, kind in shape.columns.items():
            if found.get(name, TYPES[kind]) != TYPES[kind]:
                raise SettingsError(
                    f"the column {name!r} of the table {shape.table!r} is {found[name]} in the warehouse, and is"
                    f" declared as {TYPES[kind]}; give the new one another name"
                )
            for column, type_ in _columns(name, kind).items():
                cursor.execute(f'ALTER TABLE warehouse."{shape.table}" ADD COLUMN IF NOT EXISTS "{column}" {type_}')
        self._ready.add(shape.definition)

    def _append(self, shape: Shape) -> str:
        columns = {
            name: type_ for column, kind in shape.columns.items() for name, type_ in _columns(column, kind).items()
        }
        names = ["id", "type", "occurred_at", "subject"]
        return self._queries["append"].format(
            table=shape.table,
            names=", ".join([*names, *(f'"{name}"' for name in columns)]),
            values=", ".join(["id::UUID", *names[1:], *(f'"{name}"::{type_}' for name, type_ in columns.items())]),
            updates=", ".join(
                f'"{name}" = excluded."{name}"' for name in [*(["subject"] if shape.subject else []), *columns]
            ),
        )


def _columns(name: str, kind: Kind) -> dict[str, str]:
    """The columns that one declared column has here, with their types."""
    scale = {f"{name}__scale": "SMALLINT"} if kind == "number" else {}
    return {name: TYPES[kind], odd_name(name): "VARCHAR", **scale}


def _given(shape: Shape, rows: Sequence[CopiedRow]) -> "pa.Table":
    """Rows as the statement takes them: all but the time as text."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise SettingsError("the engine duckdb needs a library: pip install 'workhorse[analytics]'") from error
    columns: dict[str, list[Any]] = {
        "id": [str(row.id) for row in rows],
        "type": [row.type for row in rows],
        "subject": [row.subject for row in rows],
    }
    for number, (name, kind) in enumerate(shape.columns.items()):
        values = [row.values[number] for row in rows]
        odd = [row.odd[number] for row in rows]
        if kind == "number":
            numbers = [None if value is None else Decimal(value) for value in values]
            kept = [one if one is not None and fits(one) else None for one in numbers]
            odd = [
                value if value is not None and one is None else was
                for value, one, was in zip(values, kept, odd, strict=True)
            ]
            values = [None if one is None else format(one, "f") for one in kept]
            columns[f"{name}__scale"] = [None if one is None else str(-int(one.as_tuple().exponent)) for one in kept]
        columns[name] = values
        columns[odd_name(name)] = odd
    arrays: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    arrays["occurred_at"] = pa.array([row.occurred_at for row in rows], pa.timestamp("us", "UTC"))
    return pa.table(arrays)


def _row(row: Sequence[Any], kinds: Sequence[Kind]) -> MeasuredRow:
    starts, events, rejected, odd, total, total_scale, least, least_scale, most, most_scale, *rest = row
    averaged, averaged_of, averaged_scale, *by = rest
    whole = scaled(averaged, averaged_scale)
    return MeasuredRow(
        starts=starts_of(starts),
        by=[
            msgspec.json.decode(value) if kind == "json" and value is not None else value
            for value, kind in zip(by, kinds, strict=True)
        ],
        events=events,
        rejected=rejected,
        odd=odd,
        sum=scaled(total, total_scale),
        min=scaled(least, least_scale),
        max=scaled(most, most_scale),
        average=None if whole is None else quotient(whole, averaged_of),
    )
