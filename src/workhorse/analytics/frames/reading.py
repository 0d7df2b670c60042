"""Results of queries as whole frames, on the connections of analytics and within a bound.

    frame = await read_frame(tables.select("SELECT ..."), "polars")

The rows come through `Tables`, so whoever may not read a column there may not read it here either. A job acts for
whoever enqueued it, without that caller's scopes: it reads what such a caller may read.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from workhorse.analytics.frames.faults import FrameTooLarge
from workhorse.analytics.tables import Source
from workhorse.errors import SettingsError
from workhorse.units.threads import wait_for
from workhorse.units.work import current_opener

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MAX_BYTES", "MAX_ROWS", "FrameKind", "read_frame", "sync_read_frame"]

MAX_ROWS: Final = 10_000_000
MAX_BYTES: Final = 1024 * 1024 * 1024
"""Of Arrow's buffers. What a library makes of them may take more."""

FrameKind = Literal["arrow", "pandas", "polars", "duckdb"]
"""`pandas`: a DataFrame whose columns are of `pd.ArrowDtype`, with exact decimals. `polars`: a DataFrame. `duckdb`: a
relation on a database in memory of its own. `arrow`: a `pa.Table`."""


@overload
async def read_frame(source: Source, *, max_rows: int = ..., max_bytes: int = ...) -> "pa.Table": ...


@overload
async def read_frame(source: Source, kind: FrameKind, *, max_rows: int = ..., max_bytes: int = ...) -> Any: ...


async def read_frame(
    source: Source, kind: FrameKind = "arrow", *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> Any:
    """Read all rows of a query into a frame.

    Args:
        source: such as `tables.select(...)`.
        kind: whose frame; see `FrameKind`.
        max_rows: of the frame.
        max_bytes: of the frame, as Arrow has it in memory.

    Raises:
        ColumnsRefused: the caller for whom this runs may not read a column.
        FrameTooLarge: the result has more rows or bytes; the query is ended.
        DatabaseUnavailable, DatabaseTimeout, QueryFailed, TooManyRows: as `Selection.open`.
        SettingsError: the library of `kind` is not installed.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    batches: list[pa.RecordBatch] = []
    rows = size = 0
    async with source.open() as frames:
        async for batch in frames:
            rows += batch.num_rows
            size += batch.nbytes
            if rows > max_rows or size > max_bytes:
                raise FrameTooLarge(
                    f"the frame has more than {max_rows} rows or {max_bytes} bytes: aggregate in the query, read it in"
                    " parts, or raise max_rows or max_bytes"
                )
            batches.append(batch)
        table = pa.Table.from_batches(batches, schema=frames.schema)
    return await asyncio.to_thread(_as_kind, table, kind)


def sync_read_frame(
    source: Source, kind: FrameKind = "arrow", *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> Any:
    """As `read_frame`, in a job or handler that is not async, which runs in a thread.

    Raises:
        NoUnit: no job or request is being served here.
        Exception: as `read_frame`.
    """
    return wait_for(current_opener().loop, read_frame(source, kind, max_rows=max_rows, max_bytes=max_bytes))


def _as_kind(table: "pa.Table", kind: FrameKind) -> Any:
    """The table as another library's frame, without a copy where the library can."""
    try:
        match kind:
            case "arrow":
                return table
            case "pandas":
                import pandas as pd  # noqa: PLC0415 - an optional library

                return table.to_pandas(types_mapper=pd.ArrowDtype)
            case "polars":
                import polars as pl  # noqa: PLC0415 - an optional library

                return pl.DataFrame(_without_extensions(table))
            case "duckdb":
                import duckdb  # noqa: PLC0415 - an optional library

                return duckdb.connect().from_arrow(_without_extensions(table))
    except ImportError as error:
        raise SettingsError(f"frames of {kind} need its library: pip install {kind}") from error


def _without_extensions(table: "pa.Table") -> "pa.Table":
    """UUID and JSON as the bytes and texts that they are: not every library knows Arrow's own extension types."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    columns: list[Any] = []
    for column in table.columns:
        extended = isinstance(column.type, pa.BaseExtensionType)
        columns.append(
            pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
            if extended
            else column
        )
    return pa.Table.from_arrays(columns, names=table.column_names)
