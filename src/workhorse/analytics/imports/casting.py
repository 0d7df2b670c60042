"""Values of a file in the exact type of their column, and the rows whose values do not fit. Pure.

Arrow casts a whole array, or refuses it whole. So an array that is refused is cut in halves until the values that do
not fit stand alone: an array without faults is cast in one step, and each fault costs a logarithm of steps.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.analytics.imports.target import TEXTS, TargetColumn

__all__ = ["Fault", "cast_column"]

Fault = tuple[int, Any, str]
"""The index of a value that does not fit, the value, and why."""

_UUID: Final = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"
_UNIT: Final = re.compile(r"^(In CSV column #\d+: )?(CSV conversion error to [^:]*: )?")


def cast_column(array: Any, column: TargetColumn, *, text: bool) -> tuple[Any, list[Fault]]:
    """Cast an array for a column. Where a value does not fit, null stands in its place, and a fault tells of it.

    Args:
        array: of any type.
        column: what it is cast for.
        text: whether the bytes of a binary array are a text, as those of a CSV file are, and are read as UTF-8.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    source = getattr(array, "storage", array)
    if isinstance(source.type, pa.DictionaryType):
        source = source.dictionary_decode()
    faults: list[Fault] = []
    if column.required and source.null_count:
        absent = pc.indices_nonzero(pc.is_null(source)).to_pylist()
        faults += [(index, None, "is null, and the column takes no null") for index in absent]
    if text and pa.types.is_binary(source.type):
        source, wrong = _halve(source, lambda part: pc.cast(part, pa.string()), pa.string(), "is not UTF-8")
        faults += wrong
    cast, wrong = _halve(source, _caster(source.type, column), column.type, None)
    return cast, sorted(faults + wrong, key=lambda fault: fault[0])


def _caster(  # noqa: PLR0911 - a table of types
    source: Any, column: TargetColumn
) -> Callable[[Any], Any]:
    """What casts arrays of one type for one column, and raises ValueError where a value misfits."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    textual = pa.types.is_string(source) or pa.types.is_large_string(source)
    if column.postgres in {"json", "jsonb"}:
        return lambda part: _json(pc.cast(part, pa.string()), marked=column.postgres == "jsonb")
    if column.labels or column.postgres in TEXTS:
        return lambda part: _text(pc.cast(part, pa.string()), column)
    if column.postgres == "uuid":
        return _uuids
    if column.postgres == "bytea" and (textual or pa.types.is_binary(source)):
        return _bytes
    if column.postgres.startswith("_") and textual:
        return lambda part: _lists(part, column.type)
    if (
        pa.types.is_timestamp(source)
        and pa.types.is_timestamp(column.type)
        and (source.tz is None) != (column.type.tz is None)
    ):
        return lambda part: _no_zone(part, column.type)
    if pa.types.is_integer(source) and pa.types.is_decimal(column.type):
        # By way of a decimal that holds every integer: Arrow refuses a narrower one whatever the values are.
        wide = pa.decimal256(20 + column.type.scale, column.type.scale)
        return lambda part: pc.cast(pc.cast(part, wide), column.type)
    return lambda part: pc.cast(part, column.type)


def _halve(
    array: Any, cast: Callable[[Any], Any], type_: Any, reason: str | None, offset: int = 0
) -> tuple[Any, list[Fault]]:
    """Cast what can be cast. The depth is the logarithm of the length."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    try:
        return cast(array), []
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        if len(array) <= 1:
            value = array[0].as_py() if len(array) else None
            return pa.nulls(len(array), type_), [(offset, value, reason or _told(error))]
    middle = len(array) // 2
    left, left_faults = _halve(array.slice(0, middle), cast, type_, reason, offset)
    right, right_faults = _halve(array.slice(middle), cast, type_, reason, offset + middle)
    return pa.concat_arrays([left, right]), left_faults + right_faults


def _told(error: Exception) -> str:
    return _UNIT.sub("", str(error).splitlines()[0] if str(error) else type(error).__name__)


def _text(array: Any, column: TargetColumn) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if pc.any(pc.match_substring(array, "\0")).as_py():
        raise ValueError("has U+0000, which Postgres does not keep")
    if column.length is not None and (pc.max(pc.utf8_length(array)).as_py() or 0) > column.length:
        raise ValueError(f"has more than {column.length} characters")
    if column.labels:
        known = pc.or_kleene(pc.is_in(array, pa.array(column.labels)), pc.is_null(array))
        if not pc.all(known).as_py() and len(array):
            raise ValueError(f"is none of {', '.join(column.labels[:10])}")
    return array


def _json(array: Any, *, marked: bool) -> Any:
    """JSON texts as they are; those of jsonb with the version before them that its binary form begins with."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    texts = array.drop_null()
    # All as one array of JSON, which costs a tenth of each by itself. Where two wrong ones make a right one together,
    # Postgres still refuses them.
    if len(texts) and len(msgspec.json.decode(b"[%s]" % _joined(texts, ","), type=list[msgspec.Raw])) != len(texts):
        raise ValueError("is more than one value of JSON, or none")
    if pc.any(pc.match_substring(array, "\\u0000")).as_py():
        raise ValueError("has \\u0000, which Postgres does not keep")
    if not marked:
        return array
    return pc.binary_join_element_wise(pa.scalar(b"\x01"), pc.cast(array, pa.binary()), pa.scalar(b""))


def _uuids(array: Any) -> Any:
    """UUIDs as 16 bytes, all of an array by one call of `bytes.fromhex`."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    if pa.types.is_fixed_size_binary(array.type) and array.type.byte_width == 16:
        return array
    texts = pc.cast(array, pa.string())
    if pc.all(pc.match_substring_regex(texts, _UUID)).as_py() is False:
        raise ValueError("is no UUID")
    if texts.null_count:
        return pa.array([None if text is None else UUID(text).bytes for text in texts.to_pylist()], pa.binary(16))
    packed = bytes.fromhex(_joined(pc.replace_substring(texts, "-", ""), "").decode())
    return pa.Array.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(packed)])


def _joined(texts: Any, between: str) -> bytes:
    """All texts of an array as one, in one call."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    joined: bytes = pc.binary_join(whole, between)[0].as_buffer().to_pybytes()
    return joined


def _bytes(array: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if pa.types.is_binary(array.type):
        return array
    values = array.to_pylist()
    if any(value is not None and not value.startswith("\\x") for value in values):
        raise ValueError("is no bytea: it begins with \\x, and hexadecimal digits follow")
    return pa.array([None if value is None else bytes.fromhex(value[2:]) for value in values], pa.binary())


def _lists(array: Any, type_: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    values = [None if text is None else msgspec.json.decode(text, type=list[Any]) for text in array.to_pylist()]
    return pa.array(values, type_)


def _no_zone(array: Any, type_: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if len(array) == array.null_count:
        return pa.nulls(len(array), type_)
    raise ValueError(
        "has no time zone, and the column has one" if array.type.tz is None else "has a time zone too many"
    )
