r"""A part of a frame as what Postgres reads: the lines of COPY in CSV, or an array of JSON. Pure.

Each column is first cast to the exact type of the table's, as imports are: what would lose something misfits. Then
what is not a number, a truth value or a time becomes text in the form that Postgres reads for its type:

    uuid             32 hexadecimal digits
    bytea            \x and hexadecimal digits
    arrays           {1,NULL,"two"}
    json, jsonb      itself

In CSV a null is an empty cell without quotes, and each text stands in quotes, so that an empty one is none.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from workhorse.analytics.imports.casting import cast_column
from workhorse.analytics.imports.faults import BadRow
from workhorse.analytics.imports.target import TargetColumn

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_csv", "as_json", "fit", "row_of_line"]

JSONS: Final = frozenset({"json", "jsonb"})


def fit(
    part: "pa.RecordBatch", columns: Mapping[str, TargetColumn], *, before: int
) -> "tuple[pa.RecordBatch, list[BadRow]]":
    """Cast a part of a frame for a table, and find the values that do not fit.

    Args:
        part: of the frame.
        columns: of the table, by the frame's names.
        before: rows of the frame before this part.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    arrays: list[Any] = []
    bad: list[BadRow] = []
    for name, column in columns.items():
        # The form of jsonb in COPY's binary format is not that of its text.
        wanted = replace(column, postgres="json", type=pa.string()) if column.postgres == "jsonb" else column
        array, faults = cast_column(_plain(part.column(name)), wanted, text=False)
        bad += [BadRow.of(before + index + 1, name, value, reason) for index, value, reason in faults]
        arrays.append(_written(array, wanted))
    batch = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns.values()])
    return batch, sorted(bad, key=lambda one: one.row)


def as_csv(batch: "pa.RecordBatch") -> bytes:
    """The lines that COPY reads WITH (FORMAT csv)."""
    from pyarrow import csv  # noqa: PLC0415 - an optional library

    lines = io.BytesIO()
    csv.write_csv(batch, lines, csv.WriteOptions(include_header=False))
    return lines.getvalue()


def as_json(batch: "pa.RecordBatch", columns: Sequence[TargetColumn]) -> str:
    """An array of objects that `json_populate_recordset` reads."""
    lists = [
        [None if value is None else msgspec.Raw(value.encode()) for value in array.to_pylist()]
        if column.postgres in JSONS
        else [_said(value) for value in array.to_pylist()]
        for array, column in zip(batch.columns, columns, strict=True)
    ]
    rows = [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*lists, strict=True)]
    return msgspec.json.Encoder(decimal_format="string").encode(rows).decode()


def row_of_line(batch: "pa.RecordBatch", line: int) -> int:
    """The index of the row that stands on a line of the CSV, which counts from 1 and also within texts."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    ends: Any = pa.array([1] * batch.num_rows, pa.int64())
    for array in batch.columns:
        if pa.types.is_string(array.type):
            ends = pc.add(ends, pc.fill_null(pc.cast(pc.count_substring(array, "\n"), pa.int64()), 0))
    before, rows = pc.sum(pc.less(pc.cumulative_sum(ends), line)).as_py() or 0, batch.num_rows
    return min(int(before), int(rows) - 1)


def _plain(array: Any) -> Any:
    """The array, where views of texts and bytes are what all of Arrow's functions know."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if isinstance(array.type, pa.DictionaryType):
        array = array.dictionary_decode()
    if pa.types.is_string_view(array.type) or pa.types.is_large_string(array.type):
        return pc.cast(array, pa.string())
    if pa.types.is_binary_view(array.type) or pa.types.is_large_binary(array.type):
        return pc.cast(array, pa.binary())
    return array


def _written(array: Any, column: TargetColumn) -> Any:
    """A cast array in the form that Postgres reads, where Arrow does not write it so by itself, or writes it slowly."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if column.postgres == "timestamptz":
        # As those without a zone, of which Arrow writes ten while it writes one of the others.
        naive = pc.cast(array.view(pa.timestamp("us")), pa.string())
        return pc.binary_join_element_wise(naive, "Z", "")
    if column.postgres == "uuid":
        return _hexadecimal(array, "")
    if column.postgres == "bytea":
        return _hexadecimal(array, "\\x")
    if column.postgres.startswith("_"):
        return pa.array([None if values is None else _array(values) for values in array.to_pylist()], pa.string())
    return array


def _hexadecimal(array: Any, prefix: str) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    return pa.array([None if value is None else prefix + value.hex() for value in array.to_pylist()], pa.string())


def _array(values: Sequence[object]) -> str:
    """An array of one dimension (PostgreSQL manual, section 8.15.6)."""
    return "{" + ",".join("NULL" if value is None else _element(_said(value)) for value in values) + "}"


def _element(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _said(value: object) -> object:
    """A value as Postgres reads it from JSON. What JSON has no number for is a text there too."""
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124 - NaN
        return repr(value)
    return value
