"""One file into one table: read, cast, checked, and written once, however often it is given.

    quarantine   chunks of the file, each in a short transaction of its own with the note of how far the file has come.
                 Bad rows go into a report. Killed and started again, it goes on behind the last chunk that stands.
    all          the file is read twice: first to find every bad row, writing nothing; without any, it is written in one
                 transaction. That one is as long as the file: feeds read anew from the oldest open one.

What a file is, is the SHA-256 of its bytes and of how it is read. Its row in `workhorse.imports` moves in the
transaction of the rows, on the condition that it stands where this importer has left it: of two, one is refused.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal, Self

from workhorse.analytics.imports.casting import cast_column
from workhorse.analytics.imports.faults import BadRow, ImportBusy, ImportRefused, TooManyBadRows
from workhorse.analytics.imports.sources import FileFormat, Limits, OpenFile, RawBatch, find_format, open_file
from workhorse.analytics.imports.target import Target, TargetColumn, match_columns, read_target
from workhorse.contracts.frames import FrameSink, QueryFailed
from workhorse.sql import load_queries

__all__ = ["ImportOptions", "ImportReport", "import_file"]

# Rows of one transaction; a bad row among them that only the database finds costs a logarithm of further ones.
CHUNK_ROWS: Final = 50_000

Mode = Literal["all", "quarantine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a file is imported."""

    mode: Mode = "all"
    """Whether one bad row refuses the file, or is left out of it."""
    format: FileFormat | None = None
    """None: as the file's name tells."""
    delimiter: str = ","
    """Of CSV."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Columns of the file by their names, with the table's; an empty name leaves one out. Others keep their names."""
    report: Path | None = None
    """Where bad rows are written to, an object of JSON a line: row, column, value, reason. None: nowhere."""
    most_bad_rows: int = 10_000
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a file."""

    rows: int
    """Of the file."""
    written: int
    refused: int
    """Rows that were left out, by this run."""
    again: bool
    """Whether the whole file had been imported before, and nothing was done."""
    bad: tuple[BadRow, ...] = ()
    """The first hundred bad rows."""


Progress = Callable[[int], object]
"""Told after each chunk how many rows of the file were read. Called in the importing thread."""


async def import_file(
    path: Path,
    *,
    into: str,
    sink: Callable[[], FrameSink],
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a file into a table. Cancelled, it stops behind the chunk that it is at.

    Args:
        path: of the file, which nobody changes meanwhile.
        into: `table` or `schema.table`.
        sink: opens the connection that writes, such as `lambda: PostgresIngest(url)`.
        options: see `ImportOptions`.
        progress: see `Progress`.

    Raises:
        ImportRefused: the file cannot be read, is too large, or does not fit the table; with mode "all" also when it
            has a bad row (`TooManyBadRows`).
        ImportBusy: another process imports the same file.
        DatabaseUnavailable, DatabaseTimeout: what was committed stands, and the next run goes on behind it.
    """
    stop = Event()
    chosen = options or ImportOptions()
    running = asyncio.ensure_future(asyncio.to_thread(_import, path, into, sink, chosen, progress, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # taken, so that nobody misses it
        raise


def _import(
    path: Path,
    into: str,
    sink: Callable[[], FrameSink],
    options: ImportOptions,
    progress: Progress | None,
    stop: Event,
) -> ImportReport:
    format_ = options.format or find_format(path)
    connection = sink()
    try:
        target = read_target(connection, load_queries("workhorse.analytics.imports", "sql/queries.sql"), into)
        connection.rollback()
        with _Bad(options) as bad:
            one = _Import(connection, target, path, format_, options, bad, progress or (lambda _: None), stop)
            return one.run()
    finally:
        connection.close()


class _Bad:
    """The bad rows of one run: counted, the first kept, all written to the report."""

    def __init__(self, options: ImportOptions) -> None:
        self._most = options.most_bad_rows
        self._file = options.report.open("w", encoding="utf-8") if options.report is not None else None
        self.first: list[BadRow] = []
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rows: Sequence[BadRow]) -> None:
        """Take bad rows.

        Raises:
            TooManyBadRows: they are more than allowed.
        """
        for row in rows:
            self.count += 1
            if len(self.first) < 100:
                self.first.append(row)
            if self._file is not None:
                self._file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        if self.count > self._most:
            raise TooManyBadRows(f"more than {self._most} values are bad; {_tell(self.first)}")


class _Import:
    """One run over one file."""

    def __init__(
        self,
        sink: FrameSink,
        target: Target,
        path: Path,
        format_: FileFormat,
        options: ImportOptions,
        bad: _Bad,
        progress: Progress,
        stop: Event,
    ) -> None:
        self._sink = sink
        self._target = target
        self._path = path
        self._format: FileFormat = format_
        self._options = options
        self._bad = bad
        self._progress = progress
        self._stop = stop
        self._queries = load_queries("workhorse.analytics.imports", "sql/queries.sql")
        self._digest = _digest(path, format_, options)
        self._began = self._read = 0
        """Rows of the file that were behind us when this run began, and that are now, in the ledger."""
        self._written = 0

    def run(self) -> ImportReport:
        """Import."""
        self._sink.ask(self._queries["begin"], (self._target.name, self._digest))
        self._sink.commit()
        ((read, written, done),) = self._sink.ask(self._queries["standing"], (self._target.name, self._digest))
        self._sink.rollback()
        assert isinstance(read, int)
        assert isinstance(written, int)
        if done:
            return ImportReport(rows=read, written=written, refused=0, again=True)
        self._read = self._began = read
        self._written = written
        rows = self._all() if self._options.mode == "all" else self._chunks()
        return ImportReport(
            rows=rows, written=self._written, refused=rows - self._written, again=False, bad=tuple(self._bad.first)
        )

    def _all(self) -> int:
        for _batch, _numbers, _consumed in self._cast():
            pass
        if self._bad.count:
            raise TooManyBadRows(f"{self._bad.count} values are bad, and nothing was written; {_tell(self._bad.first)}")
        rows = 0
        for chunk, _numbers, consumed in self._gathered():
            try:
                self._sink.load(self._target.schema, self._target.table, chunk)
            except QueryFailed as error:
                self._sink.rollback()
                raise TooManyBadRows(
                    f"nothing was written: among rows {rows + 1} to {rows + consumed}, {error}"
                ) from error
            rows += consumed
            self._progress(rows)
        self._settle(rows, rows, done=True)
        return rows

    def _chunks(self) -> int:
        before = self._read
        rows = 0
        for chunk, numbers, consumed in self._gathered():
            rows += consumed
            if rows <= before:
                continue
            # An earlier run may have ended within this chunk.
            fresh, named = (chunk, numbers) if rows - consumed >= before else _behind(chunk, numbers, before)
            self._write(fresh, named, rows)
            self._progress(rows)
        self._settle(rows, 0, done=True)
        return rows

    def _write(self, chunk: list[Any], numbers: list[int], upto: int) -> None:
        """Write a chunk, without the rows that the database refuses.

        What it refuses is tried in halves, in order, until the rows that it refuses stand alone. Each part that it
        takes is a transaction of its own, which moves the position to its last row.
        """
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        waiting: list[tuple[Any, list[int]]] = [(pa.Table.from_batches(chunk), numbers)] if chunk else []
        while waiting:
            table, named = waiting.pop()
            try:
                self._sink.load(self._target.schema, self._target.table, table.to_batches())
                self._settle(named[-1] if waiting else upto, table.num_rows, done=False)
            except QueryFailed as error:
                self._sink.rollback()
                if table.num_rows > 1:
                    middle = table.num_rows // 2
                    waiting += [(table.slice(middle), named[middle:]), (table.slice(0, middle), named[:middle])]
                    continue
                self._bad.add([BadRow.of(named[0], "", table.to_pylist()[0], str(error))])
        if self._read < upto:
            self._settle(upto, 0, done=False)

    def _settle(self, read: int, written: int, *, done: bool) -> None:
        """Commit what was loaded, with the position behind it."""
        key = (self._target.name, self._digest)
        if not self._sink.ask(self._queries["move"], (*key, read, written, done, self._read)):
            self._sink.rollback()
            raise ImportBusy(f"another process imports {self._path.name} into {self._target.name}; its run goes on")
        self._sink.commit()
        self._read = read
        self._written += written

    def _gathered(self) -> Any:
        """Batches of about `CHUNK_ROWS` rows together, with their numbers and the rows of the file that they are."""
        chunk: list[Any] = []
        numbers: list[int] = []
        rows = 0
        for batch, named, consumed in self._cast():
            if batch.num_rows:
                chunk.append(batch)
            numbers += named
            rows += consumed
            if rows >= CHUNK_ROWS:
                yield chunk, numbers, rows
                chunk, numbers, rows = [], [], 0
        if rows:
            yield chunk, numbers, rows

    def _cast(self) -> Any:
        """Each batch in the types of the table, without its bad rows."""
        opened = open_file(self._path, self._format, self._options.limits, delimiter=self._options.delimiter)
        try:
            matched = match_columns(opened.names, self._target, self._options.columns)
            row = 0
            for raw in opened.batches:
                if self._stop.is_set():
                    raise ImportRefused("the import was stopped; the next run goes on from here")
                yield self._cast_one(opened, raw, matched, row)
                row += raw.consumed
        finally:
            opened.close()

    def _cast_one(
        self, opened: OpenFile, raw: RawBatch, matched: Mapping[str, TargetColumn], before: int
    ) -> tuple[Any, list[int], int]:
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        numbers = raw.numbers if raw.numbers is not None else list(range(before + 1, before + 1 + raw.rows.num_rows))
        misfits: set[int] = set()
        # Of rows that an earlier run has left behind, that run has told.
        told: list[BadRow] = list(raw.refused)
        arrays: list[Any] = []
        for name, column in matched.items():
            array, faults = cast_column(raw.rows.column(opened.names.index(name)), column, text=opened.text)
            arrays.append(array)
            for index, value, reason in faults:
                misfits.add(index)
                told.append(BadRow.of(numbers[index], name, value, reason))
        self._bad.add(sorted((bad for bad in told if bad.row > self._began), key=lambda bad: bad.row))
        schema = pa.schema([pa.field(column.name, column.type) for column in matched.values()])
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if misfits:
            kept = [index for index in range(batch.num_rows) if index not in misfits]
            batch = batch.take(pa.array(kept, pa.int64()))
            numbers = [numbers[index] for index in kept]
        return batch, numbers, raw.consumed


def _behind(chunk: list[Any], numbers: list[int], row: int) -> tuple[list[Any], list[int]]:
    """The rows of a chunk whose number is above `row`."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    first = next((index for index, number in enumerate(numbers) if number > row), len(numbers))
    table = pa.Table.from_batches(chunk).slice(first) if chunk else None
    return table.to_batches() if table is not None and table.num_rows else [], numbers[first:]


def _digest(path: Path, format_: str, options: ImportOptions) -> bytes:
    """What makes a file the same one: its bytes, and how they are read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1024 * 1024):
            digest.update(part)
    how = json.dumps([format_, options.delimiter, sorted(options.columns.items()), options.mode])
    digest.update(b"\0" + how.encode())
    return digest.digest()


def _tell(rows: Sequence[BadRow]) -> str:
    return "; ".join(f"row {bad.row}, {bad.column or 'whole row'}: {bad.value!r} {bad.reason}" for bad in rows[:3])
