"""What a reply is made of: a query that is run when it is asked for, or a table in memory.

    tables = Tables()
    entries = tables.select("SELECT id, amount FROM entries WHERE account = %s", (account,))

A selection is a value: nothing runs before it is opened, and each opening runs it anew.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString, Protocol

from workhorse.analytics.tables.access import Cells, ColumnsRefused, Decision, Privacy, decide
from workhorse.analytics.tables.columns import Columns, Unfit, column_names, shape
from workhorse.context import CURRENT
from workhorse.contracts import Database
from workhorse.contracts.frames import FrameSource
from workhorse.errors import PROBLEM_PREFIX, Problem, SettingsError
from workhorse.principal import ANONYMOUS, Principal
from workhorse.units import Unit

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Frames", "InMemory", "Selection", "Source", "Tables", "TooManyRows"]

MAX_ROWS: Final = 10_000_000


class TooManyRows(Problem):
    """422: the result has more rows than one reply may have."""

    status = 422
    type = PROBLEM_PREFIX + "too-many-rows"
    title = "The result has more rows than one reply may have"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Ask for {limit} rows at most.", limit=limit)


class Frames:
    """The batches of one opened source, with their schema."""

    __slots__ = ("_batches", "schema")

    def __init__(self, schema: "pa.Schema", batches: "AsyncIterator[pa.RecordBatch]") -> None:
        self.schema = schema
        self._batches = batches

    def __aiter__(self) -> "AsyncIterator[pa.RecordBatch]":
        return self._batches


class Source(Protocol):
    """What can be opened and read."""

    def open(self, *, textual: bool = False) -> AbstractAsyncContextManager[Frames]:
        """Begin to read. With `textual`, values come as the text that they will be written as."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """A table that is there already: of Arrow, or made by `pa.Table.from_pandas`, `polars.DataFrame.to_arrow()`."""

    table: "pa.Table"
    batch_rows: int = field(default=10_000, kw_only=True)

    @asynccontextmanager
    async def open(self, *, textual: bool = False) -> AsyncGenerator[Frames]:
        """See `Source`."""
        del textual  # the encoders know how to write what Python knows

        async def batches() -> "AsyncIterator[pa.RecordBatch]":
            for batch in self.table.to_batches(max_chunksize=self.batch_rows):
                yield batch

        yield Frames(self.table.schema, batches())


class Tables:
    """Runs queries, and says who may see what of them.

    Args:
        source: where queries run; a `Service(tables=...)` gives it by its settings.
        max_rows: of one result.
        privacy: classes of columns, and who may read them; None: there are none.
        database: where readings of sensitive columns are noted. Needed with `privacy`; a service gives its own.
    """

    def __init__(
        self,
        source: FrameSource | None = None,
        *,
        max_rows: int | None = None,
        privacy: Privacy | None = None,
        database: Database | None = None,
    ) -> None:
        self._source = source
        self._max_rows = max_rows
        self._privacy = privacy
        self._database = database

    def __repr__(self) -> str:
        return f"<Tables {'open' if self._source is not None else 'not bound'}>"

    @property
    def database(self) -> Database | None:
        """Where readings are noted, and where the jobs of downloads are looked up."""
        return self._database

    def bind(self, source: FrameSource | None, *, database: Database | None, max_rows: int) -> None:
        """Say where queries run from now on. A service calls this; with None it takes it back."""
        self._source = source
        self._database = database
        if self._max_rows is None:
            self._max_rows = max_rows

    def select(
        self,
        statement: LiteralString,
        params: Sequence[object] | Mapping[str, object] = (),
        *,
        name: str = "rows",
        classes: Mapping[str, str] | None = None,
        cells: Cells | None = None,
        unfit: Unfit = "refuse",
        max_rows: int | None = None,
    ) -> "Selection":
        """A query.

        Args:
            statement: one SELECT, with `%s` or `%(name)s` for values. It is a text of the program's own: a type checker
                refuses one that was put together from what a client sent.
            params: the values, which are bound as values whatever they hold.
            name: what a downloaded file is called, and what an event about a reading says.
            classes: of columns, by their names in the result; see `Privacy`.
            cells: see `Cells`.
            unfit: what becomes of infinite dates and NaN where Arrow has no place for them.
            max_rows: of this result, below the bound of all.
        """
        return Selection(
            self, statement, params, name=name, classes=classes or {}, cells=cells, unfit=unfit, max_rows=max_rows
        )

    @asynccontextmanager
    async def open(self, selection: "Selection", *, textual: bool) -> AsyncGenerator[Frames]:
        """See `Selection.open`."""
        source = self._source
        if source is None:
            raise SettingsError("these tables have no database yet: give them to a Service, or to Tables(source)")
        limit = min(bound for bound in (self._max_rows or MAX_ROWS, selection.max_rows) if bound is not None)
        principal = _principal()
        statement = source.bind(selection.statement, selection.params)
        columns: Columns | None = None
        decision = Decision(audited={})

        def shaped(described: "pa.Schema") -> str:
            nonlocal columns, decision
            decision = decide(column_names(described), selection.classes, self._privacy, principal)
            columns = shape(
                statement,
                described,
                textual=textual,
                unfit=selection.unfit,
                decision=decision,
                cells=selection.cells,
                limit=limit + 1,
            )
            return columns.statement

        async with source.stream(statement, shape=shaped) as stream:
            assert columns is not None
            made = columns
            await self._note(selection, decision, principal)

            async def batches() -> "AsyncIterator[pa.RecordBatch]":
                rows = 0
                async for batch in stream:
                    rows += batch.num_rows
                    if rows > limit:
                        raise TooManyRows(limit)
                    yield made.mend(batch)

            yield Frames(made.schema, batches())

    async def _note(self, selection: "Selection", decision: Decision, principal: Principal) -> None:
        """Commit an event about the reading. Without it no row leaves."""
        if not decision.audited:
            return
        if self._database is None:
            raise ColumnsRefused("Readings of these columns are to be noted, and nobody can note them here.")
        async with Unit(self._database) as work:
            await work.emit(
                "analytics.read",
                subject=principal.id or "anonymous",
                data={"query": selection.name, "columns": dict(decision.audited)},
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """A query and its values; see `Tables.select`."""

    tables: Tables
    statement: str
    params: Sequence[object] | Mapping[str, object] = field(repr=False)
    name: str = field(kw_only=True)
    classes: Mapping[str, str] = field(kw_only=True)
    cells: Cells | None = field(kw_only=True)
    unfit: Unfit = field(kw_only=True)
    max_rows: int | None = field(kw_only=True)

    def open(self, *, textual: bool = False) -> AbstractAsyncContextManager[Frames]:
        """Run the query, and read its batches within the block.

        Raises:
            DatabaseUnavailable, DatabaseTimeout, QueryFailed: as `FrameSource.stream`.
            ColumnsRefused: the caller may not read a column.
            TooManyRows: while it is read.
            ValueError: values and their places do not agree.
        """
        return self.tables.open(self, textual=textual)

    async def table(self) -> "pa.Table":
        """All rows in memory, for jobs that work on whole frames: `(await selection.table()).to_pandas()`.

        Raises:
            as `open`.
        """
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        async with self.open() as frames:
            batches: list[Any] = [batch async for batch in frames]
            return pa.Table.from_batches(batches, schema=frames.schema)


def _principal() -> Principal:
    request = CURRENT.get(None)
    return ANONYMOUS if request is None else request.principal
