"""Reads a file in batches of bounded size, whatever the file says of itself.

A file is somebody else's. Its declared sizes are looked at before they are believed: rows, columns and the bytes of a
row group. Compressed text is counted as it is expanded. Parquet's texts are read as dictionaries, since a page of
a kilobyte may name one text of a megabyte a million times; what a batch would take in full is counted first.

Not defended against: Parquet pages and Arrow buffers whose headers lie about what they expand to cost up to 2 GiB
before they are refused. Import files of strangers in a process whose memory is bounded.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from workhorse.analytics.imports.faults import BadRow, ImportRefused

__all__ = ["FileFormat", "Limits", "RawBatch", "find_format", "open_file"]

FileFormat = Literal["csv", "ndjson", "parquet", "arrow"]
_ENDINGS: Final[Mapping[str, FileFormat]] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
_PACKED: Final[Mapping[str, str]] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
LINES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a file may be, in every way in which it can be."""

    file_bytes: int = 10 * 1024**3
    """As it lies there."""
    expanded_bytes: int = 50 * 1024**3
    """Of all batches, or of a text, when expanded."""
    batch_bytes: int = 128 * 1024**2
    """Of one batch, expanded."""
    group_bytes: int = 512 * 1024**2
    """Of one row group of Parquet, expanded, as it says itself."""
    line_bytes: int = 4 * 1024**2
    """Of one line of text, and so of one value."""
    rows: int = 100_000_000
    columns: int = 1_600


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Rows as they were read, and those that could not be."""

    rows: Any
    """A record batch."""
    numbers: list[int] | None = None
    """The number of each row in the file, where rows between them could not be read."""
    refused: list[BadRow] = field(default_factory=list)

    @property
    def consumed(self) -> int:
        """Rows of the file that these are, read or not."""
        return int(self.rows.num_rows) + len(self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A file that is being read."""

    names: list[str]
    text: bool
    """Whether binary columns are text that is not decoded yet."""
    batches: Iterator[RawBatch]
    close: Callable[[], object]


def find_format(path: Path) -> FileFormat:
    """The format that a file's name tells.

    Raises:
        ImportRefused: it tells none.
    """
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in _PACKED:
        endings.pop()
    if not endings or endings[-1] not in _ENDINGS:
        raise ImportRefused(
            f"{path.name} does not tell its format; name it: {', '.join(sorted(set(_ENDINGS.values())))}"
        )
    return _ENDINGS[endings[-1]]


def open_file(path: Path, format_: FileFormat, limits: Limits, *, delimiter: str = ",") -> OpenFile:
    """Begin to read a file.

    Raises:
        ImportRefused: it is larger than allowed, or not what it is called; here, or while it is read.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    size = path.stat().st_size
    if size > limits.file_bytes:
        raise ImportRefused(f"{path.name} has {size} bytes; at most {limits.file_bytes} are read")
    readers = {"csv": _open_csv, "ndjson": _open_ndjson, "parquet": _open_parquet, "arrow": _open_arrow}
    try:
        opened = readers[format_](path, limits, delimiter)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ImportRefused(f"{path.name} cannot be read as {format_}: {error}") from error
    if len(opened.names) > limits.columns:
        opened.close()
        raise ImportRefused(f"{path.name} has {len(opened.names)} columns; at most {limits.columns} are read")
    batches = _bounded(opened.batches, path, format_, limits)
    return replace(opened, batches=batches)


def _bounded(batches: Iterator[RawBatch], path: Path, format_: str, limits: Limits) -> Iterator[RawBatch]:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    rows = expanded = 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise ImportRefused(f"{path.name} cannot be read as {format_} after {rows} rows: {error}") from error
        if batch is None:
            return
        rows += batch.consumed
        size = sum(expanded_bytes(column) for column in batch.rows.columns)
        expanded += size
        if rows > limits.rows or expanded > limits.expanded_bytes or size > limits.batch_bytes:
            raise ImportRefused(
                f"{path.name} is larger than allowed: {rows} rows (of {limits.rows}), {expanded} bytes expanded (of"
                f" {limits.expanded_bytes}), {size} in one batch (of {limits.batch_bytes})"
            )
        yield batch


def expanded_bytes(column: Any) -> int:
    """What a column takes when it is no dictionary any more."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if isinstance(column.type, pa.DictionaryType):
        lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
        return int(pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0)
    return int(column.nbytes)


class Counted(io.RawIOBase):
    """A stream that is refused when it has given more than so many bytes: a zip bomb ends here."""

    def __init__(self, stream: Any, most: int, name: str) -> None:
        self._stream = stream
        self._left = most
        self._most = most
        self._name = name

    def readable(self) -> bool:
        """As files are asked."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some.

        Raises:
            ImportRefused: it was more than allowed.
        """
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise ImportRefused(f"{self._name} expands to more than {self._most} bytes")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it, and what it reads."""
        if not self.closed:
            self._stream.close()
        super().close()


def _text(path: Path, limits: Limits) -> io.BufferedReader:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    packed = _PACKED.get(path.suffix.lower())
    stream: Any = path.open("rb") if packed is None else pa.input_stream(str(path), compression=packed)
    return io.BufferedReader(Counted(stream, limits.expanded_bytes, path.name), 1024 * 1024)


def _open_csv(path: Path, limits: Limits, delimiter: str) -> OpenFile:
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    from pyarrow import csv  # noqa: PLC0415 - as above

    refused: list[BadRow] = []

    def remember(row: Any) -> str:
        # The number is of the line, the header being the first.
        reason = f"has {row.actual_columns} cells, and the header has {row.expected_columns}"
        refused.append(BadRow.of((row.number or 0) - 1, "", row.text, reason))
        return "skip"

    stream = _text(path, limits)
    try:
        header = _header(stream, limits, delimiter, path)
        reader = csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            # In one thread, so that lines have numbers.
            read_options=csv.ReadOptions(use_threads=False, block_size=limits.line_bytes),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except BaseException:
        stream.close()
        raise

    def batches() -> Iterator[RawBatch]:
        row = told = 0
        while (batch := _next(reader)) is not None:
            # The parser reads ahead: what it could not read may lie behind this batch, and then waits for its own.
            waiting = refused[told:]
            mine: list[BadRow] = []
            numbers: list[int] = []
            if waiting:
                for _ in range(batch.num_rows):
                    row += 1
                    while len(mine) < len(waiting) and waiting[len(mine)].row == row:
                        mine.append(waiting[len(mine)])
                        row += 1
                    numbers.append(row)
            else:
                row += batch.num_rows
            told += len(mine)
            yield RawBatch(batch, numbers if mine else None, mine)
        if refused[told:]:
            yield RawBatch(_nothing(reader.schema), [], refused[told:])

    def close() -> None:
        reader.close()
        stream.close()

    return OpenFile(names=list(reader.schema.names), text=True, batches=batches(), close=close)


def _header(stream: io.BufferedReader, limits: Limits, delimiter: str, path: Path) -> list[str]:
    """The names of the columns, without reading them away."""
    import csv  # noqa: PLC0415 - the name is pyarrow's elsewhere

    line = stream.peek(1024 * 1024)[: min(limits.line_bytes, 1024 * 1024)]
    try:
        first = line.decode("utf-8-sig", "strict" if b"\n" in line else "ignore").splitlines()[:1]
    except UnicodeDecodeError:
        first = line.split(b"\n", 1)[0].decode("utf-8-sig", "strict").splitlines()[:1]
    if not first:
        raise ImportRefused(f"{path.name} is empty; its first line names the columns")
    names: list[str] = []
    return next(csv.reader(first, delimiter=delimiter), names)


def _nothing(schema: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    return pa.RecordBatch.from_pylist([], schema=schema)


def _next(reader: Any) -> Any:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _open_ndjson(path: Path, limits: Limits, delimiter: str) -> OpenFile:
    del delimiter  # of CSV
    stream = _text(path, limits)
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    names: list[str] = []
    for line in stream.peek(1024 * 1024).splitlines()[:1]:
        try:
            names = list(decoder.decode(line))
        except msgspec.MsgspecError as error:
            stream.close()
            raise ImportRefused(f"{path.name} does not begin with a JSON object: {error}") from error

    def batches() -> Iterator[RawBatch]:
        number = 0
        while True:
            lines: list[bytes] = []
            held = 0
            while len(lines) < LINES and held < limits.line_bytes:
                line = stream.readline(limits.line_bytes + 1)
                if not line:
                    break
                if len(line) > limits.line_bytes:
                    raise ImportRefused(
                        f"{path.name}: line {number + len(lines) + 1} has more than {limits.line_bytes} bytes"
                    )
                lines.append(line)
                held += len(line)
            if not lines:
                return
            yield _objects(lines, names, decoder, number)
            number += len(lines)

    return OpenFile(names=names, text=False, batches=batches(), close=stream.close)


def _objects(lines: list[bytes], names: list[str], decoder: Any, before: int) -> RawBatch:
    """Lines as columns of text: numbers as they are written, so that none loses a digit."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    columns: dict[str, list[str | None]] = {name: [] for name in names}
    numbers: list[int] = []
    refused: list[BadRow] = []
    for number, line in enumerate(lines, start=before + 1):
        try:
            found = decoder.decode(line)
            unknown = [name for name in found if name not in columns]
            if unknown:
                raise msgspec.ValidationError(f"has the member {unknown[0]!r}, which the first line lacks")
            values = [_plain(found.get(name)) for name in names]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            refused.append(BadRow.of(number, "", line, str(error)))
            continue
        numbers.append(number)
        for name, value in zip(names, values, strict=True):
            columns[name].append(value)
    arrays = [pa.array(column, pa.string()) for column in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=names)
    return RawBatch(batch, numbers if refused else None, refused)


def _plain(value: msgspec.Raw | None) -> str | None:
    if value is None:
        return None
    text = bytes(value).strip()
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str) if text[:1] == b'"' else text.decode()


def _open_parquet(path: Path, limits: Limits, delimiter: str) -> OpenFile:
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    from pyarrow import parquet  # noqa: PLC0415 - as above

    del delimiter  # of CSV
    with parquet.ParquetFile(path, thrift_string_size_limit=10_000_000, thrift_container_size_limit=1_000_000) as file:
        about, schema = file.metadata, file.schema_arrow
    if about.num_rows > limits.rows or about.num_columns > limits.columns:
        raise ImportRefused(f"{path.name} says that it has {about.num_rows} rows and {about.num_columns} columns")
    for number in range(about.num_row_groups):
        size = about.row_group(number).total_byte_size
        if not 0 <= size <= limits.group_bytes:
            raise ImportRefused(
                f"{path.name}: a row group says it has {size} bytes; at most {limits.group_bytes} are read"
            )
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
    file = parquet.ParquetFile(path, read_dictionary=texts, pre_buffer=False)
    batches = (RawBatch(batch) for batch in file.iter_batches(batch_size=LINES, use_threads=False))
    return OpenFile(names=list(schema.names), text=False, batches=batches, close=file.close)


def _open_arrow(path: Path, limits: Limits, delimiter: str) -> OpenFile:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    del delimiter, limits  # of CSV; looked at as batches come
    file = pa.OSFile(str(path))
    try:
        if file.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(file)
            names = list(reader.schema.names)
            count = reader.num_record_batches
            batches = (reader.get_batch(number) for number in range(count))
        else:
            file.seek(0)
            reader = pa.ipc.open_stream(file)
            names = list(reader.schema.names)
            batches = iter(reader)
    except BaseException:
        file.close()
        raise
    sliced = (RawBatch(batch.slice(start, LINES)) for batch in batches for start in range(0, batch.num_rows, LINES))
    return OpenFile(names=names, text=False, batches=sliced, close=file.close)
