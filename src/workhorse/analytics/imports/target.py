"""The table that a file goes into: its columns, and the Arrow type whose bytes Postgres takes for each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from workhorse.analytics.imports.faults import ImportRefused
from workhorse.contracts.frames import FrameSink
from workhorse.sql import Queries

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Target", "TargetColumn", "make_target", "match_columns", "read_target", "split_name"]

TEXTS: Final = frozenset({"text", "varchar", "bpchar", "citext", "name", "xml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetColumn:
    """One column of a table."""

    name: str
    postgres: str
    """The name of its type in the catalogue; that of arrays begins with an underscore."""
    type: "pa.DataType"
    """Of the array that is sent."""
    required: bool
    """Whether null is refused."""
    has_default: bool
    length: int | None = None
    """Characters at most, of varchar(n) and char(n)."""
    labels: tuple[str, ...] = ()
    """Of an enum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table."""

    schema: str
    table: str
    columns: Mapping[str, TargetColumn]
    """Those that a file may fill."""

    @property
    def name(self) -> str:
        """Schema and table, for people and for the ledger of imports."""
        return f"{self.schema}.{self.table}"


def read_target(sink: FrameSink, queries: Queries, into: str) -> Target:
    """Read a table's columns.

    Args:
        sink: where the table is.
        queries: of this room.
        into: `table` or `schema.table`, as it stands in the catalogue; without a schema it is `public`.

    Raises:
        ImportRefused: there is no such table.
    """
    schema, table = split_name(into)
    return make_target(schema, table, cast("list[tuple[Any, ...]]", sink.ask(queries["columns"], (schema, table))))


def split_name(into: str) -> tuple[str, str]:
    """The schema and the table of `table` or `schema.table`."""
    schema, dot, table = into.partition(".")
    return (schema, table) if dot else ("public", into)


def make_target(schema: str, table: str, rows: Sequence[tuple[Any, ...]]) -> Target:
    """A table of what the catalogue says of its columns (the query `columns`). Pure.

    Raises:
        ImportRefused: there is no such table.
    """
    if not rows:
        raise ImportRefused(f"there is no table {schema}.{table} to write into; it is written as in the catalogue")
    columns: dict[str, TargetColumn] = {}
    for name, postgres, modifier, required, has_default, generated, labels in rows:
        type_ = arrow_type(postgres, modifier, enum=labels is not None)
        if generated or type_ is None:
            continue
        columns[name] = TargetColumn(
            name=name,
            postgres=postgres,
            type=type_,
            required=required,
            has_default=has_default,
            length=modifier - 4 if postgres in {"varchar", "bpchar"} and modifier >= 4 else None,
            labels=tuple(json.loads(labels)) if labels else (),
        )
    return Target(schema=schema, table=table, columns=columns)


def arrow_type(postgres: str, modifier: int, *, enum: bool) -> "pa.DataType | None":
    """The Arrow type whose bytes Postgres takes for one of its own; None: there is none."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if postgres.startswith("_"):
        element = arrow_type(postgres[1:], modifier, enum=False)
        # Of an array of jsonb, each element would need its mark.
        return None if element is None or postgres == "_jsonb" else pa.list_(element)
    if enum or postgres in TEXTS or postgres == "json":
        return pa.string()
    if postgres == "numeric":
        bound = modifier - 4
        if bound < 0:
            return pa.decimal128(38, 9)
        precision, scale = bound >> 16 & 0xFFFF, ((bound & 0x7FF) ^ 0x400) - 0x400
        return pa.decimal128(precision, scale) if 0 <= scale <= precision <= 38 else None
    plain: dict[str, pa.DataType] = {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
        "uuid": pa.binary(16),
        "bytea": pa.binary(),
        "jsonb": pa.binary(),
    }
    return plain.get(postgres)


def match_columns(
    names: Sequence[str], target: Target, renamed: Mapping[str, str], *, of: str = "file"
) -> dict[str, TargetColumn]:
    """Which column of the file fills which column of the table, by name. Pure.

    Args:
        names: of the file's columns.
        target: the table.
        renamed: columns of the file by their names, with the table's; an empty name leaves a column out.
        of: what has the columns, for the message.

    Raises:
        ImportRefused: a column has no place, two have one, or the table needs one that the file lacks.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    absent = sorted(name for name in renamed if name not in names)
    matched = {name: renamed.get(name, name) for name in names if renamed.get(name, name)}
    placeless = sorted(name for name, place in matched.items() if place not in target.columns)
    filled = list(matched.values())
    contested = sorted({place for place in filled if filled.count(place) > 1})
    lacking = sorted(
        column.name
        for column in target.columns.values()
        if column.required and not column.has_default and column.name not in filled
    )
    for what, which in (
        ("has two columns of one name", twice),
        ("lacks columns that are renamed", absent),
        (
            f"has columns that {target.name} has no place for (rename them, or leave them out with an empty name)",
            placeless,
        ),
        ("has two columns for one of the table", contested),
        (f"lacks columns that {target.name} needs", lacking),
        ("has no columns", [] if matched else ["none"]),
    ):
        if which:
            raise ImportRefused(f"the {of} {what}: {', '.join(which[:20])}")
    return {name: target.columns[place] for name, place in matched.items()}
