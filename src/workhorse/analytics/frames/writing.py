"""Frames into tables, in the unit of the job or request that is being served.

    append     the rows are added
    replace    the rows of the table that have a key of the frame's go, and the frame's take their place: a day, say.
               Where the key is given with its values, `key={"day": day}`, they go also if the frame has no rows
    upsert     by a unique key: a row that is there gets the frame's values, another is added

All of it is done on the unit's own connection. So the frame, the events of the job and the end of the job are one
commit: a job that is killed before it has written nothing, and one that is run again after it is not run at all.

Rows go by COPY where the unit's connection can, else as JSON; parts of 50,000 are cast, checked and sent one by one, so
the memory is that of a part beside the frame. For `replace` and `upsert` they go into a temporary table first.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from workhorse.analytics.frames.cells import as_csv, as_json, fit, row_of_line
from workhorse.analytics.frames.faults import FrameMisfit, FrameTooLarge
from workhorse.analytics.imports.faults import BadRow, ImportRefused
from workhorse.analytics.imports.target import Target, TargetColumn, make_target, match_columns, split_name
from workhorse.analytics.tables.columns import quoted
from workhorse.contracts.transactions import CopiesRows
from workhorse.sql import load_queries
from workhorse.state.postgres.faults import related, sqlstates
from workhorse.units.threads import wait_for
from workhorse.units.work import Work, current_opener, unit

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MAX_ROWS", "WriteMode", "Written", "sync_write_frame", "write_frame"]

WriteMode = Literal["append", "replace", "upsert"]

MAX_ROWS: Final = 10_000_000
# Each part is one statement, which has to end within the database's time-out.
PART_ROWS: Final = 50_000
# As JSON, a part is one parameter of a statement.
JSON_ROWS: Final = 2_000
# Data exceptions, and violations of constraints (PostgreSQL manual, appendix A).
REFUSED: Final = ("22", "23")
_LINE: Final = re.compile(r"^COPY [^,]+, line (\d+)")
# What Pandas calls an index that has no name.
_INDEX: Final = re.compile(r"__index_level_\d+__")
_COPIED: Final = {"append": "", "replace": "workhorse_frame", "upsert": "workhorse_frame"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a frame."""

    rows: int
    """Of the frame."""
    removed: int
    """Rows of the table whose place they took (`replace`)."""


async def write_frame(
    frame: object,
    *,
    into: str,
    mode: WriteMode = "append",
    key: Sequence[str] | Mapping[str, object] = (),
    max_rows: int = MAX_ROWS,
) -> Written:
    """Write a frame into a table, to be committed with the unit that is being served here.

    Columns go by their names; an index of Pandas is one if it has a name. Each value must fit its column: what would be
    cut or guessed is refused. Floats are rounded to the scale of a numeric column, since they are not exact before.

    Args:
        frame: of Pandas, Polars, Arrow, a relation of DuckDB, or anything else that gives an Arrow stream
            (`__arrow_c_stream__`); it is read once.
        into: `table` or `schema.table`.
        mode: see above.
        key: the columns that say which rows are replaced; for `upsert` those of a unique index. For `replace` it may
            have the values, which every row of the frame must have; with columns alone, a frame without rows replaces
            nothing.
        max_rows: of the frame.

    Raises:
        FrameMisfit: it is no frame, a column or a value does not fit, or the database refused a row.
        FrameTooLarge: it has more rows.
        NoUnit: no job or request is being served here.
        ValueError: `mode` and `key` do not go together.
    """
    if mode not in _COPIED or bool(key) == (mode == "append") or (isinstance(key, Mapping) and mode != "replace"):
        raise ValueError(
            f"mode={mode!r} with key={list(key)}: `replace` and `upsert` need a key, `append` takes none; only"
            " `replace` takes one with values"
        )
    if isinstance(key, Mapping) and None in key.values():
        raise ValueError(f"key={dict(key)} has a null, which is the key of no row")
    work = await unit()
    target = await _target(work, into)
    reader = await asyncio.to_thread(_open, frame)
    try:
        left_out = {name: "" for name in reader.schema.names if _INDEX.fullmatch(name)}
        columns = match_columns(reader.schema.names, target, left_out, of="frame")
    except ImportRefused as error:
        raise FrameMisfit(str(error)) from None
    if "%" in into + "".join(columns):
        raise FrameMisfit("a name with a per cent sign would be read as a place for a value: rename it in the table")
    lacking = sorted(set(key) - set(columns))
    if lacking:
        raise FrameMisfit(f"the frame lacks columns of the key: {', '.join(lacking)}")
    one = _Writing(work, target, columns, mode=mode, key=key, max_rows=max_rows)
    return await one.run(reader)


def sync_write_frame(
    frame: object,
    *,
    into: str,
    mode: WriteMode = "append",
    key: Sequence[str] | Mapping[str, object] = (),
    max_rows: int = MAX_ROWS,
) -> Written:
    """As `write_frame`, in a job or handler that is not async, which runs in a thread.

    Raises:
        Exception: as `write_frame`.
    """
    return wait_for(current_opener().loop, write_frame(frame, into=into, mode=mode, key=key, max_rows=max_rows))


@dataclass(frozen=True, slots=True)
class _Ready:
    """A part of a frame as it is sent."""

    rows: "pa.RecordBatch"
    csv: bytes
    """For COPY."""
    json: tuple[str, ...]
    """Where there is no COPY."""


class _Writing:
    """One frame on its way into one table."""

    def __init__(
        self,
        work: Work,
        target: Target,
        columns: Mapping[str, TargetColumn],
        *,
        mode: WriteMode,
        key: Sequence[str] | Mapping[str, object],
        max_rows: int,
    ) -> None:
        self._work = work
        self._target = target
        self._columns = columns
        self._mode: WriteMode = mode
        self._key = tuple(key)
        self._values: tuple[object, ...] = tuple(key.values()) if isinstance(key, Mapping) else ()
        self._max_rows = max_rows
        self._table = f"{quoted(target.schema)}.{quoted(target.table)}"
        self._names = ", ".join(quoted(column.name) for column in columns.values())
        self._into = f"pg_temp.{_COPIED[mode]}" if _COPIED[mode] else self._table

    async def run(self, reader: "pa.RecordBatchReader") -> Written:
        """Write all of it."""
        staged = self._into != self._table
        if staged:
            queries = load_queries("workhorse.analytics.frames", "sql/queries.sql")
            await self._work.execute(queries["turn"], (self._target.name,))
            await self._work.execute(f"DROP TABLE IF EXISTS {self._into}")
            await self._work.execute(
                f"CREATE TEMPORARY TABLE {_COPIED[self._mode]} ON COMMIT DROP AS"  # noqa: S608 - names are quoted
                f" SELECT {self._names} FROM {self._table} WITH NO DATA"
            )
        rows = await self._send_all(_parts(reader))
        removed = await self._merge() if staged and (rows or self._values) else 0
        return Written(rows=rows, removed=removed)

    async def _send_all(self, parts: "Iterator[pa.RecordBatch]") -> int:
        """Send all parts; while one is on its way, the next is made ready. Returns the rows."""
        rows = 0
        ready = asyncio.ensure_future(asyncio.to_thread(self._make_ready, parts, rows))
        try:
            while (batch := await asyncio.shield(ready)) is not None:
                before = rows
                rows += batch.rows.num_rows
                ready = asyncio.ensure_future(asyncio.to_thread(self._make_ready, parts, rows))
                await self._send(batch, before)
        finally:
            # A thread cannot be ended. Awaited, so that nobody reads the frame any more when this returns.
            await asyncio.wait({ready})
            ready.exception()  # taken, so that nobody misses it
        return rows

    def _make_ready(self, parts: "Iterator[pa.RecordBatch]", before: int) -> "_Ready | None":
        """The next part as it is sent; None: there is none. Called in a thread."""
        part = next(parts, None)
        if part is None:
            return None
        if before + part.num_rows > self._max_rows:
            raise FrameTooLarge(f"the frame has more than {self._max_rows} rows: write it in parts, or raise max_rows")
        batch, bad = fit(part, self._columns, before=before)
        if bad:
            raise FrameMisfit(f"the frame does not fit {self._target.name}", bad)
        nulls = [name for name in self._key if part.column(name).null_count]
        if nulls:
            raise FrameMisfit(f"the key's column {nulls[0]!r} has nulls, which are the key of no row")
        if isinstance(self._work.transaction, CopiesRows):
            return _Ready(batch, as_csv(batch), ())
        columns = list(self._columns.values())
        firsts = range(0, batch.num_rows, JSON_ROWS)
        return _Ready(batch, b"", tuple(as_json(batch.slice(first, JSON_ROWS), columns) for first in firsts))

    async def _send(self, ready: "_Ready", before: int) -> None:
        transaction = self._work.transaction
        try:
            if isinstance(transaction, CopiesRows):
                statement = f"COPY {self._into} ({self._names}) FROM STDIN WITH (FORMAT csv)"
                await transaction.copy_rows(statement, ready.csv)
            for text in ready.json:
                await self._work.execute(
                    f"INSERT INTO {self._into} ({self._names}) SELECT {self._names}"  # noqa: S608 - names are quoted
                    f" FROM json_populate_recordset(CAST(NULL AS {self._table}), CAST(%s AS json))",
                    (text,),
                )
        except Exception as error:
            raise self._told(error, ready.rows, before) from error

    async def _merge(self) -> int:
        """Bring the rows of the temporary table into the target. Returns how many have gone."""
        keys = [quoted(name) for name in self._key]
        # A plan that takes it for empty would compare each row with each.
        await self._work.execute(f"ANALYZE {self._into}")
        try:
            removed = await (self._upsert(keys) if self._mode == "upsert" else self._replace(keys))
        except FrameMisfit:
            raise
        except Exception as error:
            raise self._told(error, None, 0) from error
        await self._work.execute(f"DROP TABLE {self._into}")
        return removed

    async def _upsert(self, keys: Sequence[str]) -> int:
        others = [quoted(name) for name in self._columns if name not in self._key]
        changed = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        await self._work.execute(
            f"INSERT INTO {self._table} ({self._names}) SELECT {self._names} FROM {self._into}"  # noqa: S608 - quoted
            f" ON CONFLICT ({', '.join(keys)}) DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"
        )
        return 0

    async def _replace(self, keys: Sequence[str]) -> int:
        if self._values:
            removed = await self._delete_of_values(keys)
        else:
            same = " AND ".join(f"kept.{name} = gone.{name}" for name in keys)
            rows = await self._work.execute(
                f"DELETE FROM {self._table} AS kept"  # noqa: S608 - names are quoted
                f" USING (SELECT DISTINCT {', '.join(keys)} FROM {self._into}) AS gone WHERE {same}"
            )
            removed = rows.rowcount
        await self._work.execute(
            f"INSERT INTO {self._table} ({self._names}) SELECT {self._names} FROM {self._into}"  # noqa: S608 - quoted
        )
        return removed

    async def _delete_of_values(self, keys: Sequence[str]) -> int:
        """Delete the rows with the values of the key, which all rows of the frame must have."""
        same = " AND ".join(f"{name} = %s" for name in keys)
        strange = f"SELECT count(*) FROM {self._into} WHERE NOT ({same})"  # noqa: S608 - names are quoted
        if (count := (await (await self._work.execute(strange, self._values)).fetchone())[0]) > 0:
            said = ", ".join(f"{name}={value!r}" for name, value in zip(self._key, self._values, strict=True))
            raise FrameMisfit(f"{count} rows of the frame are not of {said}, whose rows they were to replace")
        deleted = await self._work.execute(f"DELETE FROM {self._table} WHERE {same}", self._values)  # noqa: S608
        removed: int = deleted.rowcount
        return removed

    def _told(self, error: Exception, batch: "pa.RecordBatch | None", before: int) -> Exception:
        """What the database's error is to the caller: a misfit where it refused a row, else the error itself."""
        states = sqlstates(error)
        if any(state.startswith(REFUSED) for state in states):
            message, detail, line = _diagnosed(error)
            row = 0 if line is None or batch is None else before + row_of_line(batch, line) + 1
            bad = [BadRow.of(row, "", detail, message)] if row else []
            said = f"{self._target.name} refused the frame"
            return FrameMisfit(said if bad else f"{said}: {message} {detail}".strip(), bad)
        if "21000" in states:
            return FrameMisfit(f"the frame has two rows with one key ({', '.join(self._key)}), of which one would win")
        if "42P10" in states:
            return FrameMisfit(f"{self._target.name} has no unique index on exactly {', '.join(self._key)}")
        return error


def _diagnosed(error: BaseException) -> tuple[str, str, int | None]:
    """The server's words, its detail, and the line of COPY that it speaks of."""
    for one in related(error):
        diag = getattr(one, "diag", None)
        if diag is not None and diag.message_primary:
            line = _LINE.match(diag.context or "")
            return diag.message_primary, diag.message_detail or "", int(line[1]) if line else None
    return str(error), "", None


async def _target(work: Work, into: str) -> Target:
    schema, table = split_name(into)
    statement = load_queries("workhorse.analytics.imports", "sql/queries.sql")["columns"]
    # Written for a driver whose places are $1 and $2, each of which stands there once and in this order.
    asked = re.sub(r"\$\d", "%s", statement.replace("%", "%%"))
    rows = await (await work.execute(asked, (schema, table))).fetchall()
    try:
        return make_target(schema, table, [tuple(row) for row in rows])
    except ImportRefused as error:
        raise FrameMisfit(str(error)) from None


def _open(frame: object) -> "pa.RecordBatchReader":
    """The frame as a stream of Arrow's."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if not hasattr(frame, "__arrow_c_stream__"):
        raise FrameMisfit(
            f"a {type(frame).__module__}.{type(frame).__qualname__} is no frame: give one of Pandas, Polars, Arrow or"
            " DuckDB, or what has __arrow_c_stream__"
        )
    try:
        return pa.RecordBatchReader.from_stream(cast("Any", frame))
    except (pa.ArrowException, TypeError) as error:
        # Pandas, of a column of objects that are not all of one type.
        raise FrameMisfit(f"the frame cannot be read as Arrow: {' '.join(str(said) for said in error.args)}") from error


def _parts(reader: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
    for batch in reader:
        for first in range(0, batch.num_rows, PART_ROWS):
            yield batch.slice(first, PART_ROWS)
