"""Folders in the manner of Hive, `day=2026-11-23/region=EU`, and batches cut where they change. Pure.

Readers take the folders' names for columns (PyArrow, Polars, DuckDB, Spark), so the files do not repeat them.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from workhorse.analytics.exports.faults import ExportRefused

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Key", "check_keys", "cut", "folder_of"]

Key = tuple[str | None, ...]
"""The values of one partition, as text."""

NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""What Hive calls the partition whose value is null."""
# What Hive escapes in values, and what some store or file system minds.
SPECIAL: Final = frozenset("\"#%'*/:=?\\{}[]^|<>~`&+,;@$! ")


def folder_of(names: Sequence[str], key: Key) -> str:
    """The folder of a partition, without a slash at its end; empty for that of no columns."""
    return "/".join(
        f"{_escaped(name)}={NULL if value is None else _escaped(value)}" for name, value in zip(names, key, strict=True)
    )


def _escaped(text: str) -> str:
    """As Hive does: a byte of UTF-8 that is special as `%` and two digits."""
    if text in {"", ".", "..", NULL}:
        raise ExportRefused(f"a partition cannot be called {text!r}: make it another text in the query")
    safe = (c if c.isascii() and c.isprintable() and c not in SPECIAL else _bytes_of(c) for c in text)
    return "".join(safe)


def _bytes_of(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def check_keys(schema: "pa.Schema", names: Sequence[str]) -> None:
    """Refuse columns whose values have no one text.

    Raises:
        ExportRefused: a column is of a type that makes no folder, or nothing would be left for the files.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    for name in names:
        type_: Any = schema.field(name).type
        plain = pa.types.is_string(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)
        if not plain and not pa.types.is_date(type_):
            raise ExportRefused(
                f"the column {name!r} is of the type {type_}, and folders are made of dates, whole numbers, texts and"
                " truth values: cast it in the query, as in created_at::date AS day"
            )
    if len(set(names)) != len(names) or len(names) >= len(schema.names):
        raise ExportRefused("partition by some of the query's columns, each once: the others are what the files hold")


def cut(batch: "pa.RecordBatch", names: Sequence[str]) -> "Iterator[tuple[Key, pa.RecordBatch]]":
    """The runs of rows of one partition, in order, without the columns that say which."""
    import pyarrow.compute as pc  # noqa: PLC0415 - an optional library

    rows = batch.num_rows
    rest = batch.drop_columns(list(names)) if names else batch
    starts = {0}
    for name in names:
        encoded: Any = pc.dictionary_encode(batch.column(name), null_encoding="encode")
        codes = encoded.indices
        changed = pc.not_equal(codes.slice(1), codes.slice(0, max(0, rows - 1)))
        starts.update(index + 1 for index in pc.indices_nonzero(changed).to_pylist())
    bounds = [*sorted(starts), rows] if rows else []
    for first, end in pairwise(bounds):
        key = tuple(_text(batch.column(name)[first].as_py()) for name in names)
        yield key, rest.slice(first, end - first)


def _text(value: object) -> str | None:
    """As Postgres casts it to text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)
