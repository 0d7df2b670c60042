"""A service's table as a frame in another process, over a real server; and a stream that is cut is no frame."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from workhorse.client import CutShort, read_pandas, read_polars, read_table

SCHEMA = pa.schema([("a", pa.int64()), ("d", pa.decimal128(9, 2)), ("j", pa.json_(pa.string()))])


def stream(*, ended: bool, counted: int | None) -> bytes:
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, SCHEMA)
    values: list[dict[str, Any]] = [{"a": 1, "d": Decimal("1.50"), "j": "{}"}, {"a": 2, "d": None, "j": None}]
    storage = [pa.array([row["a"] for row in values]), pa.array([row["d"] for row in values], pa.decimal128(9, 2))]
    texts = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array([row["j"] for row in values], pa.string()))
    writer.write_batch(pa.RecordBatch.from_arrays([*storage, texts], schema=SCHEMA))
    if counted is not None:
        nothing = pa.RecordBatch.from_pylist([], schema=SCHEMA)
        writer.write_batch(nothing, custom_metadata={b"workhorse.rows": str(counted).encode()})
    if ended:
        writer.close()
    body: bytes = sink.getvalue().to_pybytes()
    return body


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """A server that answers one request with these bytes and closes, as one does that breaks off."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def test_a_whole_stream_becomes_a_frame_of_exact_types() -> None:
    body = stream(ended=True, counted=2)
    with serving(body) as url:
        frame = read_pandas(url)
    assert frame["d"].tolist()[0] == Decimal("1.50")
    assert str(frame["a"].dtype) == "int64[pyarrow]"
    with serving(body) as url:
        assert read_polars(url)["a"].to_list() == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        stream(ended=True, counted=None),
        stream(ended=False, counted=None),
        stream(ended=True, counted=3),
        stream(ended=True, counted=2)[:300],
        stream(ended=True, counted=2)[:-300],
        b"",
        b"<html>",
    ],
    ids=["no count", "no end", "another count", "cut early", "cut late", "nothing", "a page"],
)
def test_a_stream_that_is_not_whole_is_no_frame(body: bytes) -> None:
    with serving(body) as url, pytest.raises(CutShort):
        read_table(url)


def test_a_file_is_no_service() -> None:
    with pytest.raises(ValueError, match="http"):
        read_table("file:///etc/hosts")
