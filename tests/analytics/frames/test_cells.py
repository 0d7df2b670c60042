"""Whatever a frame holds, Postgres reads the same from its CSV and from its JSON."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import tuple_row

from workhorse.analytics.frames.cells import as_csv, as_json, fit, row_of_line
from workhorse.analytics.imports.target import make_target
from workhorse.embedded import Attachment, drop_database, fresh_database

# Hypothesis takes bounds without a zone.
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
TYPES: dict[str, tuple[str, Any, st.SearchStrategy[Any]]] = {
    "i": ("int8", pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "d": ("numeric(20,4)", pa.decimal128(20, 4), st.decimals(-(10**15), 10**15, places=4)),
    "t": ("text", pa.string(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)),
    "f": ("float8", pa.float64(), st.floats(allow_nan=False)),
    "b": ("bool", pa.bool_(), st.booleans()),
    "y": ("bytea", pa.binary(), st.binary(max_size=10)),
    "z": ("timestamptz", pa.timestamp("us", "UTC"), TIMES),
    "c": ("time", pa.time64("us"), st.times()),
    "l": ("text[]", pa.list_(pa.string()), st.lists(st.none() | st.text("\"\\,{} NULL'ab\n", max_size=5), max_size=4)),
    "n": ("int4[]", pa.list_(pa.int32()), st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=4)),
}


@pytest.fixture(scope="module")
def connection(servers: Attachment) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    url = fresh_database(servers.database_url)
    with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as opened:
        opened.execute("SET TimeZone TO 'Asia/Kolkata'")
        columns = ", ".join(f"{name} {type_}" for name, (type_, _, _) in TYPES.items())
        opened.execute(f"CREATE TABLE t (row int8, {columns})".encode())
        yield opened
    drop_database(url)


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    cells = {name: st.none() | values for name, (_, _, values) in TYPES.items()}
    return st.lists(st.fixed_dictionaries(cells), max_size=8)


@given(rows())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(connection: psycopg.Connection[tuple[Any, ...]], frame: list[dict[str, Any]]) -> None:
    catalogue = connection.execute(
        "SELECT attname::text, typname::text, atttypmod, false, false, false, NULL FROM pg_attribute a"
        " JOIN pg_type t ON t.oid = atttypid WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    target = make_target("public", "t", catalogue)
    arrays: dict[str, Any] = {"row": pa.array(range(len(frame)), pa.int64())}
    for name, (_, type_, _) in TYPES.items():
        arrays[name] = pa.array([row[name] for row in frame], type_)
    batch, bad = fit(pa.RecordBatch.from_pydict(arrays), target.columns, before=0)
    assert bad == []
    wanted = [(number, *(row[name] for name in TYPES)) for number, row in enumerate(frame)]
    columns = list(target.columns.values())
    with connection.cursor() as cursor:
        for way in ("csv", "json"):
            cursor.execute("TRUNCATE t")
            if way == "csv":
                with cursor.copy("COPY t FROM STDIN WITH (FORMAT csv)") as copy:
                    copy.write(as_csv(batch))
            else:
                text = as_json(batch, columns)
                cursor.execute("INSERT INTO t SELECT * FROM json_populate_recordset(NULL::t, %s::json)", (text,))
            assert cursor.execute("SELECT * FROM t ORDER BY row").fetchall() == wanted, way


@given(st.lists(st.text("a\n\r", max_size=4), min_size=1, max_size=8), st.data())
def test_the_row_of_each_line_is_found_also_where_texts_have_several(texts: list[str], data: st.DataObject) -> None:
    batch = pa.RecordBatch.from_pydict({"t": texts})
    row = data.draw(st.integers(0, len(texts) - 1))
    # Postgres counts to the last line of a row.
    line = sum(1 + text.count("\n") for text in texts[: row + 1])
    assert row_of_line(batch, line) == row


def test_an_array_of_numbers_that_json_has_none_for_is_read(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    column = make_target("public", "t", [("x", "_float8", -1, False, False, False, None)])
    values = [float("inf"), float("-inf"), None, 0.1]
    batch, _ = fit(pa.RecordBatch.from_pydict({"x": pa.array([values])}), column.columns, before=0)
    text = batch.column("x")[0].as_py()
    [(read,)] = connection.execute("SELECT %s::float8[]", (text,)).fetchall()
    assert read == values
