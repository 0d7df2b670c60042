"""What the columns of a query become: in the SQL around it, and in Arrow. Pure.

The driver keeps most types. Where it does not, either the SQL around the query makes a text of the value, or the
batch is mended as it comes:

    numeric(p, s)      comes as text; decimal128, or decimal256 above 38 digits
    numeric            comes and stays as text, because it has no bound: cast it to numeric(p, s) for a decimal
    infinity, NaN      in dates, times and decimals have no place in Arrow: refused by name, or null if asked so
    int[][]            would come flat, so it is refused by name
    inet, ranges, ...  text, as Postgres writes it
    composites         JSON

In textual formats every value is text as Postgres writes it in JSON, with `infinity` and all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from workhorse.analytics.tables.access import Cells, Decision
from workhorse.contracts.frames import QueryFailed
from workhorse.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Columns", "Unfit", "column_names", "quoted", "shape"]

Unfit = Literal["refuse", "null"]
"""What becomes of an infinite date or a NaN where Arrow's type has no place for it."""

# The first day of Postgres's calendar, 4713 BC, in days since 1970. What is below was infinite, and went round.
FIRST_DAY: Final = -2_440_588
DAY_MICROSECONDS: Final = 86_400_000_000
MAX_COLUMNS: Final = 1_600

Mend = Callable[["pa.Array[Any]"], "pa.Array[Any]"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The SQL that is run, and what its batches are made into."""

    statement: str
    schema: "pa.Schema"
    mends: tuple[Mend | None, ...]

    def mend(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """A batch of the driver in the types of `schema`.

        Raises:
            QueryFailed: a value has no place in its column's type.
        """
        import pyarrow as pa  # noqa: PLC0415 - an optional library, of 100 MB

        arrays = [array if mend is None else mend(array) for array, mend in zip(batch.columns, self.mends, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def quoted(name: str) -> str:
    """A name as SQL's identifier."""
    return '"' + name.replace('"', '""') + '"'


def column_names(schema: "pa.Schema") -> tuple[str, ...]:
    """The names of a result's columns.

    Raises:
        QueryFailed: two have one name, so that no reader could tell them apart, or there are none, or too many.
    """
    names = tuple(schema.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise QueryFailed(f"the query has two columns named {twice[0]!r}; name one of them otherwise with AS")
    if not 1 <= len(names) <= MAX_COLUMNS:
        raise QueryFailed(f"the query has {len(names)} columns; it has 1 to {MAX_COLUMNS}")
    return names


def shape(
    statement: str,
    described: "pa.Schema",
    *,
    textual: bool,
    unfit: Unfit,
    decision: Decision,
    cells: Cells | None,
    limit: int,
) -> Columns:
    """Put the SQL around a query, and say what its batches become.

    Args:
        statement: the query, its values bound.
        described: its columns, as the driver tells them.
        textual: whether the values are wanted as text.
        unfit: see `Unfit`.
        decision: which columns are masked.
        cells: which rows are left out.
        limit: rows at most.

    Raises:
        QueryFailed: columns cannot be told apart.
        SettingsError: `cells` names none of them.
    """
    import pyarrow as pa  # noqa: PLC0415 - as above

    names = column_names(described)
    expressions: list[str] = []
    fields: list[pa.Field[Any]] = []
    mends: list[Mend | None] = []
    for field in described:
        name = quoted(field.name)
        expression, type_, mend = _textual(name, field) if textual else _typed(name, field, unfit)
        if field.name in decision.masked:
            expression = f"CASE WHEN false THEN {expression} END"
        expressions.append(expression if expression == name else f"{expression} AS {name}")
        fields.append(pa.field(field.name, type_))
        mends.append(mend)
    where = ""
    if cells is not None:
        if cells.count not in names:
            raise SettingsError(f"cells count by {cells.count!r}, and the query's columns are {', '.join(names)}")
        where = f" WHERE {quoted(cells.count)} >= {cells.at_least}"
    inner = statement.strip().rstrip(";")
    # On a line of its own, since the query may end with a comment.
    sql = f'SELECT {", ".join(expressions)} FROM (\n{inner}\n) AS "rows"{where} LIMIT {limit}'  # noqa: S608 - names are quoted
    return Columns(sql, pa.schema(fields), tuple(mends))


def _typed(  # noqa: PLR0911 - a table of types
    name: str, field: "pa.Field[Any]", unfit: Unfit
) -> "tuple[str, pa.DataType, Mend | None]":
    """The expression, the type and the mend of a column in Arrow."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    type_: Any = field.type
    postgres = _postgres_type(field)
    if isinstance(type_, pa.OpaqueType):
        if postgres != "numeric":
            return f"{name}::text", pa.string(), None
        decimal = _decimal(field)
        if decimal is None:
            return name, pa.string(), _storage
        return name, decimal, lambda array: _to_decimal(array, decimal, field.name, unfit)
    if postgres == "money":
        return f"{name}::numeric::text", pa.string(), None
    if pa.types.is_struct(type_):
        return f"to_jsonb({name})::text", pa.json_(pa.string()), _as_json
    if pa.types.is_list(type_):
        return _list(name, field)
    if pa.types.is_timestamp(type_) or pa.types.is_date32(type_):
        return name, type_, lambda array: _finite(array, field.name, unfit)
    return name, type_, None


def _list(name: str, field: "pa.Field[Any]") -> "tuple[str, pa.DataType, Mend | None]":
    """An array of one dimension. One of more is refused where it comes: its type does not tell."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    dimensions = f"array_ndims({name})::text || ' dimensions in {_in_text(field.name)}, make it JSON with to_jsonb()'"
    # A text that is no number is refused with its words, and only where it is reached.
    flat = f"CASE WHEN array_ndims({name}) > 1 THEN ({name})[:({dimensions})::int] ELSE {name} END"
    type_: Any = field.type
    element: Any = type_.value_type
    if isinstance(element, pa.OpaqueType):
        return f"({flat})::text[]", pa.list_(pa.string()), None
    if pa.types.is_timestamp(element) or pa.types.is_date32(element):

        def check(array: "pa.Array[Any]") -> "pa.Array[Any]":
            _finite(array.flatten(), field.name, "refuse")
            return array

        return flat, type_, check
    return flat, type_, None


def _textual(  # noqa: PLR0911 - as above
    name: str, field: "pa.Field[Any]"
) -> "tuple[str, pa.DataType, Mend | None]":
    """The expression, the type and the mend of a column that will be written as text."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    type_: Any = field.type
    if isinstance(type_, pa.OpaqueType) and _postgres_type(field) == "numeric":
        return f"{name}::text", pa.string(), None
    if pa.types.is_list(type_) or pa.types.is_struct(type_):
        return f"to_jsonb({name})::text", pa.json_(pa.string()), _as_json
    if pa.types.is_timestamp(type_):
        return f"trim(both '\"' from to_json({name})::text)", pa.string(), None
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        if _postgres_type(field) == "money":
            return f"{name}::numeric::text", pa.string(), None
        return name, type_, None
    if isinstance(type_, pa.JsonType):
        return name, type_, None
    return f"{name}::text", pa.string(), None


def _postgres_type(field: "pa.Field[Any]") -> str:
    metadata: Mapping[bytes, bytes] = field.metadata or {}
    return metadata.get(b"POSTGRESQL:type", b"").decode()


def _decimal(field: "pa.Field[Any]") -> "pa.DataType | None":
    """The type of numeric(p, s); None where it has no bound, or one that Arrow lacks."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    metadata: Mapping[bytes, bytes] = field.metadata or {}
    modifier = int(metadata.get(b"POSTGRESQL:typmod", b"-1")) - 4
    if modifier < 0:
        return None
    # As in Postgres's numeric.c: the precision above 16 bits, the scale in 11 bits with a sign.
    precision, scale = modifier >> 16 & 0xFFFF, ((modifier & 0x7FF) ^ 0x400) - 0x400
    if not 0 <= scale <= precision <= 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _storage(array: Any) -> Any:
    return getattr(array, "storage", array)


def _as_json(array: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), _storage(array))


def _to_decimal(array: Any, type_: Any, name: str, unfit: Unfit) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    text = _storage(array)
    try:
        return pc.cast(text, type_)
    except pa.ArrowInvalid as error:
        if unfit == "refuse":
            raise _has_no_place(name, "NaN or an infinity") from error
    digits = pc.utf8_slice_codeunits(pc.utf8_ltrim(text, "-"), 0, 1)
    return pc.cast(pc.if_else(pc.utf8_is_decimal(digits), text, pa.scalar(None, text.type)), type_)


def _finite(array: Any, name: str, unfit: Unfit) -> Any:
    """The array, where infinite dates and times are refused or null."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    days = pa.types.is_date32(array.type)
    numbers = array.view(pa.int32() if days else pa.int64())
    least = pc.min(numbers).as_py()
    first = FIRST_DAY if days else FIRST_DAY * DAY_MICROSECONDS
    if least is None or least >= first:
        return array
    if unfit == "refuse":
        raise _has_no_place(name, "an infinite date, or one past the year 294246")
    return pc.if_else(pc.less(numbers, first), pa.scalar(None, array.type), array)


def _has_no_place(name: str, what: str) -> QueryFailed:
    return QueryFailed(
        f"the column {name!r} has {what}, which Arrow's type has no place for: make it text with ::text, leave it"
        " out with WHERE, or ask with unfit='null'"
    )


def _in_text(name: str) -> str:
    return name.replace("'", "''")
