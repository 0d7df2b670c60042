"""Tables from a service's Arrow streams, checked to be whole.

    frame = read_pandas("https://api.example/entries", headers={"authorization": f"Bearer {token}"})

An Arrow stream that is cut between two batches reads as whole. The service ends each with an empty batch that says how
many rows there were, and here its absence is an error: a frame is whole, or there is none.
"""

import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from workhorse.errors import WorkhorseError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["CutShort", "read_pandas", "read_polars", "read_table", "stream_batches"]

ARROW: Final = "application/vnd.apache.arrow.stream"
_ROWS: Final = b"workhorse.rows"


class CutShort(WorkhorseError):
    """A stream ended before its end, or is none of a service's: what came of it is not all."""


@contextmanager
def stream_batches(
    url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 60
) -> "Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]":
    """Read batches as they come, for tables larger than memory; within the block.

    Args:
        url: of the table, http or https.
        headers: such as Authorization.
        timeout_seconds: longest pause of the server.

    Raises:
        CutShort: the stream ended before its end; raised after its last batch.
        urllib.error.HTTPError: the service refused; its body is a problem document.
        ValueError: the URL is neither http nor https.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url[:100]!r} is not a URL of http or https")
    request = urllib.request.Request(url, headers={"accept": ARROW, **(headers or {})})  # noqa: S310 - seen to above
    with urllib.request.urlopen(request, timeout=timeout_seconds) as reply:  # noqa: S310 - as above
        try:
            reader = pa.ipc.open_stream(reply)
        except pa.ArrowException as error:
            raise CutShort(f"{url} did not begin an Arrow stream: {error}") from error
        yield reader.schema, _checked(reader, url)


def _checked(reader: Any, url: str) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    rows, told = 0, None
    batches = reader.iter_batches_with_custom_metadata()
    while True:
        try:
            batch, metadata = next(batches)
        except StopIteration:
            break
        except (pa.ArrowException, OSError) as error:
            raise CutShort(f"{url} broke off after {rows} rows: {error}") from error
        if metadata is not None and _ROWS in metadata:
            told = int(metadata[_ROWS])
        rows += batch.num_rows
        if batch.num_rows:
            yield batch
    if told != rows:
        raise CutShort(f"{url} ended after {rows} rows without the end that a whole stream has")


def read_table(url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 60) -> "pa.Table":
    """A whole table, as Arrow.

    Raises:
        as `stream_batches`.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    with stream_batches(url, headers=headers, timeout_seconds=timeout_seconds) as (schema, batches):
        return pa.Table.from_batches(list(batches), schema=schema)


def read_pandas(url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 60) -> "pd.DataFrame":
    """A whole table as a frame whose columns stay Arrow's: decimals are exact, and nothing becomes a Python object.

    Raises:
        as `stream_batches`.
    """
    import pandas as pd  # noqa: PLC0415 - an optional library

    table = read_table(url, headers=headers, timeout_seconds=timeout_seconds)
    frame: pd.DataFrame = _plain(table).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def read_polars(url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 60) -> "pl.DataFrame":
    """A whole table as a frame of Polars.

    Raises:
        as `stream_batches`.
    """
    import polars as pl  # noqa: PLC0415 - an optional library

    frame = pl.from_arrow(_plain(read_table(url, headers=headers, timeout_seconds=timeout_seconds)))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _plain(table: Any) -> Any:
    """JSON as text and UUIDs as 16 bytes: Arrow's extension types, which not every library knows."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    for index, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):
            storage = field.type.storage_type
            table = table.set_column(index, pa.field(field.name, storage), table.column(index).cast(storage))
    return table
