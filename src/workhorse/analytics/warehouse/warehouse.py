"""Copies events to an engine, and asks it what `Measures` tells: the same rows for the same arguments.

A table is a feed of the journal (`feeds`). No transaction spans two databases, so a page is put into the engine first,
in a transaction with the place of its last event there, and the feed's own position moves after. What was put just
before a crash comes again in the same order and with the same places, and is left out. So each event is there once,
whatever is killed and when.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from workhorse.analytics.measures import Measure, Row
from workhorse.analytics.measures.measure import Window, path_of
from workhorse.analytics.measures.measures import EPOCH, FOREVER, question_of
from workhorse.analytics.tables import Tables, TooManyRows
from workhorse.analytics.warehouse.table import Column, CopiedTable
from workhorse.contracts import Database
from workhorse.contracts.warehouse import CopiedRow, Engine, MeasuredRow, Question
from workhorse.errors import SettingsError, WorkhorseError
from workhorse.feeds import Feed, FeedReader, Recorded
from workhorse.journal import EventType
from workhorse.sql import load_queries
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NotExact", "Warehouse"]

PAGE: Final = 1_000
LAG_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0)


class NotExact(WorkhorseError):
    """The engine keeps values that do not fit their column, so what was asked for would not be exact."""


class Warehouse:
    """Tables of copied events, and measures of them: `Service(app, warehouse=warehouse)`.

    Args:
        tables: what is copied.
        measures: what can be asked of them, as of `Measures`.
        events: the kinds of events that are declared, by which personal columns are known.
        engine: where it is copied to; a service opens one by `analytics.warehouse_url`.

    Raises:
        SettingsError: two tables or measures have one name, a measure has no table with its columns, or a column is
            about people and does not say so.
    """

    def __init__(
        self,
        tables: Sequence[CopiedTable],
        *,
        measures: Sequence[Measure] = (),
        events: Sequence[EventType[Any]] = (),
        engine: Engine | None = None,
    ) -> None:
        self._tables: dict[str, CopiedTable] = {}
        self._measures: dict[str, tuple[Measure, CopiedTable]] = {}
        self._engine = engine
        kinds = {kind.name: kind for kind in events}
        for table in tables:
            if self._tables.setdefault(table.name, table) is not table:
                raise SettingsError(f"there are two tables {table.name!r} in the warehouse; rename one")
            table.check(kinds)
        for measure in measures:
            if measure.name in self._measures:
                raise SettingsError(f"there are two measures {measure.name!r}; keep one")
            self._measures[measure.name] = (measure, self._table_of(measure))
        self._queries = load_queries("workhorse.analytics.warehouse", "sql/queries.sql")
        self.bind(engine, metrics=None)

    def bind(self, engine: Engine | None, *, metrics: Registry | None) -> None:
        """Say where events are copied to from now on. A service calls this; with None it takes it back."""
        registry = metrics if metrics is not None else Registry(None)
        self._engine = engine
        self._lag = registry.histogram(
            "workhorse_warehouse_lag_seconds",
            "From an event to its copy, of the last event of each page.",
            ("table",),
            buckets=LAG_BOUNDS,
        )

    @property
    def feeds(self) -> list[Feed]:
        """What copies."""
        return [
            Feed(table.shape.definition, self._copying(table), types=[table.of], at_most=PAGE, repeatable=True)
            for table in self._tables.values()
        ]

    async def recopy(self, database: Database, table: str, *, clear: bool = False) -> None:
        """Copy the events that the journal still has anew, over what is there; for an engine that lost some.

        Args:
            database: the journal's.
            table: its name.
            clear: empty the table before; for a journal that was restored to an earlier time.

        Raises:
            KeyError: there is no such table.
            DatabaseUnavailable, QueryFailed: the engine's.
        """
        shape = self._tables[table].shape
        feed = next(feed for feed in self.feeds if feed.name == shape.definition)
        if clear:
            await self._opened().clear(shape)
        await FeedReader(database, feed).restart("beginning")

    async def lag(self, work: Work, table: str) -> float:
        """Seconds since the oldest event happened that is not copied yet; 0.0 where all are.

        Args:
            work: a unit on the journal's database.
            table: its name.

        Raises:
            KeyError: there is no such table.
        """
        shape = self._tables[table].shape
        feed = next(feed for feed in self.feeds if feed.name == shape.definition)
        cursor = await work.execute(self._queries["waiting"], (shape.definition, feed.pattern))
        found = await cursor.fetchone()
        return max(0.0, float(found[0])) if found is not None and found[0] is not None else 0.0

    async def read(
        self,
        name: str,
        *,
        since: datetime = EPOCH,
        until: datetime = FOREVER,
        window: str | None = None,
        by: Sequence[str] | None = None,
        only: Mapping[str, Any] | None = None,
        at_most: int = 10_000,
    ) -> list[Row]:
        """What was measured, ordered by time; see `Measures.read`, which tells the same.

        Raises:
            KeyError: there is no such measure.
            ValueError: as `Measures.read`, or `only` has a value that the column's kind does not have.
            NotExact: an event has a value that its column cannot hold.
            DatabaseUnavailable, DatabaseTimeout, QueryFailed: the engine's.
        """
        measure, table = self._measures[name]
        seconds, names, source = question_of(measure, since, until, window, by, only, at_most)
        question = Question(
            shape=table.shape,
            own_seconds=source.seconds,
            seconds=seconds,
            since=max(since, _kept_since(source, time.time())),
            until=until,
            by=[_column(table, path).name for path in names],
            only={(column := _column(table, path)).name: _only(column, value) for path, value in (only or {}).items()},
            sum=_name(table, measure.sum),
            min=_name(table, measure.min),
            max=_name(table, measure.max),
            average=_name(table, measure.average),
            at_most=at_most,
        )
        return [_row(row, names, table, name) for row in await self._opened().measure(question)]

    async def arrow(self, statement: str, params: Sequence[object] = (), *, max_rows: int = 1_000_000) -> "pa.Table":
        """Run a query in the engine's own SQL, on its schema `warehouse`, and read its rows.

        Args:
            statement: one SELECT of the program's own, with the engine's marks for values: `%s` of Postgres, `?` of
                DuckDB.
            params: the values.
            max_rows: at most.

        Raises:
            TooManyRows: the result has more.
            DatabaseUnavailable, DatabaseTimeout, QueryFailed: the engine's.
        """
        engine = self._opened()
        if engine.frames is None:
            found = await engine.arrow(statement, params, max_rows=max_rows)
            if found.num_rows > max_rows:
                raise TooManyRows(max_rows)
            return found
        return await Tables(engine.frames, max_rows=max_rows).select(cast("Any", statement), params).table()

    def _opened(self) -> Engine:
        if self._engine is None:
            raise SettingsError(
                "this warehouse has no engine: set analytics.warehouse_url and give it to Service(warehouse=...), or"
                " give it one with Warehouse(engine=...)"
            )
        return self._engine

    def _table_of(self, measure: Measure) -> CopiedTable:
        if measure.has_sketches:
            raise SettingsError(
                f"the measure {measure.name!r} has distinct, quantiles or top, which a warehouse does not tell by"
                " measures: ask the engine for them with Warehouse.arrow, and give it a measure without them"
            )
        numbers = [path for path in (measure.sum, measure.min, measure.max, measure.average) if path is not None]
        for table in self._tables.values():
            columns = [table.column_of(path) for path in (*measure.by, *numbers)]
            numeric = [table.column_of(path) for path in numbers]
            told = [column for path in measure.by if (column := table.column_of(path)) is not None]
            if (
                table.of == measure.of
                and None not in columns
                and all(column is not None and column.kind == "number" for column in numeric)
                and not any(column.kind == "number" for column in told)
            ):
                return table
        raise SettingsError(
            f"no table of the warehouse has of={measure.of!r} and columns for all that the measure {measure.name!r} is"
            f" made of: {', '.join(dict.fromkeys(numbers)) or 'no'} as numbers, {', '.join(measure.by) or 'nothing'} as"
            " text or json"
        )

    def _copying(self, table: CopiedTable) -> "_Copying":
        return _Copying(self, table)

    async def put(self, table: CopiedTable, rows: Sequence[CopiedRow]) -> None:
        """Put rows into the engine; for the feeds."""
        await self._opened().append(table.shape, rows)
        if rows:
            self._lag.labels(table.name).observe(max(0.0, time.time() - rows[-1].occurred_at.timestamp()))

    @property
    def values(self) -> str:
        """The statement that reads a page; for the feeds."""
        return self._queries["values"]


class _Copying:
    """Copies the pages of one table: the handler of its feed."""

    def __init__(self, warehouse: Warehouse, table: CopiedTable) -> None:
        self._warehouse = warehouse
        self._table = table
        self._params: dict[str, Any] = {
            "kinds": [column.kind for column in table.columns],
            "paths": ["{" + ",".join(path_of(column.field_path, column.name)) + "}" for column in table.columns],
        }

    async def __call__(self, work: Work, events: Sequence[Recorded]) -> None:
        places = {event.id: event.place for event in events}
        cursor = await work.execute(self._warehouse.values, {**self._params, "ids": list(places)})
        rows = [
            CopiedRow(
                place=places[id_],
                id=id_,
                type=type_,
                occurred_at=occurred_at,
                subject=subject if self._table.subject else None,
                values=values,
                odd=odd,
            )
            for id_, type_, subject, occurred_at, values, odd in await cursor.fetchall()
        ]
        await self._warehouse.put(self._table, sorted(rows, key=lambda row: row.place))


def _kept_since(window: Window, now: float) -> datetime:
    """The beginning of the oldest window that a measure keeps; the rows of older ones are there, and not counted."""
    if window.keep_seconds is None:
        return EPOCH
    return EPOCH + timedelta(seconds=(now - window.keep_seconds) // window.seconds * window.seconds)


def _column(table: CopiedTable, path: str) -> Column:
    column = table.column_of(path)
    assert column is not None, "a measure's table has its columns"
    return column


def _name(table: CopiedTable, path: str | None) -> str | None:
    return None if path is None else _column(table, path).name


def _only(column: Column, value: Any) -> str | None:
    """A value as its column has it."""
    if value is None or (column.kind == "text" and isinstance(value, str)):
        return value
    if column.kind == "json" and isinstance(value, bool | int | str | Decimal):
        return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
    raise ValueError(
        f"only={{{column.field_path!r}: {value!r}}} is no value of a column of the kind {column.kind!r}: text has"
        " strings, json has whole numbers, decimals, strings and truths"
    )


def _row(row: MeasuredRow, names: Sequence[str], table: CopiedTable, measure: str) -> Row:
    if row.odd:
        raise NotExact(
            f"the measure {measure!r} is not exact in the window of {row.starts.isoformat()}: {row.odd} events of the"
            f" table {table.name!r} have a value that its column cannot hold, as its columns ending in __odd show."
            " Declare what is not always a string as json; a number has at most 20 digits, nine more after the point,"
            " where the engine is DuckDB"
        )
    return Row(
        starts=row.starts,
        by=dict(zip(names, row.by, strict=True)),
        events=row.events,
        rejected=row.rejected,
        sum=row.sum,
        min=row.min,
        max=row.max,
        average=row.average,
    )
