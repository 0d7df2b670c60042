"""Writes batches in one format. Each encoder writes into a sink, from which the reply takes bytes after each batch.

How the end of a stream is known to be its end: a cut JSON array is not JSON, a cut Parquet file has no footer, a cut
gzip or zstd body has no trailer. An Arrow stream that is cut between two batches reads as whole; so its last batch is
empty, and carries the count of rows in its metadata. NDJSON and CSV rely on the framing of HTTP, or on a coding.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from workhorse.analytics.tables.formats import Coding, Format

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROWS_KEY", "Encoder", "Formulas", "Sink", "make_encoder"]

ROWS_KEY: Final = b"workhorse.rows"
"""Key of the count of rows, in the metadata of the last batch of an Arrow stream."""
# A row group is as large as its pages are in memory until it is written.
GROUP_BYTES: Final = 16 * 1024 * 1024
GROUP_ROWS: Final = 500_000
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
FORMULA: Final = r"^([=+\-@\t\r])"

Formulas = Literal["quote", "keep"]
"""What becomes of texts in CSV that a spreadsheet would run: an apostrophe before them, or nothing."""


class Sink:
    """A file that is written by an encoder and emptied by a reply. Never larger than what one batch becomes."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Keep a copy: the writer uses its buffer again."""
        copy = bytes(data)
        self._parts.append(copy)
        return len(copy)

    def take(self) -> bytes:
        """What was written since."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The bytes stay, to be taken."""

    def writable(self) -> bool:
        """As files are asked."""
        return True

    def readable(self) -> bool:
        """As files are asked."""
        return False

    def seekable(self) -> bool:
        """As files are asked."""
        return False


class Encoder(Protocol):
    """Writes one stream."""

    def write(self, batch: "pa.RecordBatch") -> None:
        """Write a batch."""
        ...

    def end(self, rows: int) -> None:
        """Write the end, which tells that there were so many rows."""
        ...


def make_encoder(format_: Format, coding: Coding, schema: "pa.Schema", sink: Sink, *, formulas: Formulas) -> Encoder:
    """An encoder of a format onto a sink. The formats' head, if they have one, is written."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    file: Any = pa.PythonFile(sink, mode="w")
    if coding is not Coding.IDENTITY:
        file = pa.CompressedOutputStream(file, coding.value)
    match format_:
        case Format.JSON:
            return _Json(schema, file, opening=b"[", between=b",\n", closing=b"]\n")
        case Format.NDJSON:
            return _Json(schema, file, opening=b"", between=b"\n", closing=b"\n")
        case Format.CSV:
            return _Csv(schema, file, formulas)
        case Format.ARROW:
            return _Arrow(schema, file)
        case Format.PARQUET:
            return _Parquet(schema, file)


class _Json:
    def __init__(self, schema: "pa.Schema", file: Any, *, opening: bytes, between: bytes, closing: bytes) -> None:
        self._names = schema.names
        self._file = file
        self._between, self._closing = between, closing
        self._encoder = msgspec.json.Encoder(decimal_format="string")
        self._first = True
        file.write(opening)

    def write(self, batch: "pa.RecordBatch") -> None:
        columns = [json_values(column) for column in batch.columns]
        names, encode = self._names, self._encoder.encode
        lines = [encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        if lines:
            text = self._between.join(lines)
            self._file.write(text if self._first else self._between + text)
            self._first = False

    def end(self, rows: int) -> None:
        del rows  # the bracket tells
        if self._closing != b"\n" or not self._first:
            self._file.write(self._closing)
        self._file.close()


class _Csv:
    def __init__(self, schema: "pa.Schema", file: Any, formulas: Formulas) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional library
        from pyarrow import csv  # noqa: PLC0415 - as above

        self._formulas: Formulas = formulas
        self._schema = pa.schema([pa.field(field.name, csv_type(field.type)) for field in schema])
        self._file = file
        self._writer = csv.CSVWriter(file, self._schema)

    def write(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        columns = [csv_values(column, self._formulas) for column in batch.columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def end(self, rows: int) -> None:
        del rows  # the framing tells
        self._writer.close()
        self._file.close()


class _Arrow:
    def __init__(self, schema: "pa.Schema", file: Any) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        self._file = file
        self._schema = schema
        self._writer = pa.ipc.new_stream(file, schema)

    def write(self, batch: "pa.RecordBatch") -> None:
        self._writer.write_batch(batch)

    def end(self, rows: int) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._writer.write_batch(nothing, custom_metadata={ROWS_KEY: str(rows).encode()})
        self._writer.close()
        self._file.close()


class _Parquet:
    def __init__(self, schema: "pa.Schema", file: Any) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - an optional library

        self._writer = parquet.ParquetWriter(file, schema, compression="zstd")
        self._file = file
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = self._rows = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        self._rows += batch.num_rows
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            self._flush()

    def end(self, rows: int) -> None:
        del rows  # the footer tells
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=GROUP_ROWS)
        self._waiting, self._bytes, self._rows = [], 0, 0


def json_values(column: Any) -> Sequence[Any]:
    """The values of a column as msgspec writes them. What JSON has no number for is a text, as in Postgres."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if isinstance(column.type, pa.JsonType):
        return [None if text is None else msgspec.Raw(text.encode()) for text in column.storage.to_pylist()]
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
        return [value if value is None or math.isfinite(value) else _not_finite(value) for value in values]
    return values


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def csv_type(type_: Any) -> Any:
    """The type in which a column is given to the writer of CSV: numbers, days and truth values as they are."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    plain = pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_)
    return type_ if plain or pa.types.is_date(type_) or pa.types.is_decimal(type_) else pa.string()


def csv_values(column: Any, formulas: Formulas) -> Any:
    """A column as it is given to the writer of CSV."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    type_ = csv_type(column.type)
    if not pa.types.is_string(type_):
        return column
    text = getattr(column, "storage", column)
    if not pa.types.is_string(text.type):
        text = pa.array([_as_text(value) for value in column.to_pylist()], pa.string())
    if formulas == "keep":
        return text
    return pc.replace_substring_regex(text, FORMULA, r"'\1")


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    encoded = msgspec.json.encode(value, enc_hook=str).decode()
    return msgspec.json.decode(encoded) if encoded.startswith('"') else encoded
