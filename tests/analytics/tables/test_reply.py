"""One table, in each format that a client may ask for; and what becomes of replies that go wrong."""

import asyncio
import gzip
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.asgi_client import Seen, call
from workhorse.analytics.tables import Format, InMemory, NotAcceptable, TableReply, Tables, TooManyRows
from workhorse.analytics.tables.encoders import ROWS_KEY
from workhorse.analytics.tables.formats import Coding, choose_coding, choose_format
from workhorse.contracts.frames import QueryFailed
from workhorse.errors import DatabaseTimeout, DatabaseUnavailable
from workhorse.state.postgres.frames import PostgresFrames

ARROW = [("accept", "application/vnd.apache.arrow.stream")]
Script = Callable[[Tables], Awaitable[Any]]


def run(url: str, script: Script, *, max_rows: int = 1_000_000, **options: Any) -> Any:
    async def main() -> Any:
        frames = PostgresFrames(url, **options)
        try:
            return await script(Tables(frames, max_rows=max_rows))
        finally:
            await frames.close()

    return asyncio.run(main())


def get(url: str, query: Any, *params: object, format_: str = "json", **more: Any) -> Seen:
    async def script(tables: Tables) -> Seen:
        return await call(TableReply(tables.select(query, params, **more)), "GET", f"/?format={format_}")

    seen: Seen = run(url, script)
    assert (seen.status, seen.complete) == (200, True)
    return seen


SAMPLE = "SELECT 7::int8 AS n, 1.50::numeric(9,2) AS price, 'é,\"x\"' AS text, NULL::text AS nothing, '' AS empty"


def test_json_is_an_array_of_objects(database_url: str) -> None:
    seen = get(database_url, SAMPLE)
    assert seen.json() == [{"n": 7, "price": "1.50", "text": 'é,"x"', "nothing": None, "empty": ""}]
    assert seen.header("content-type") == "application/json"


def test_json_of_no_rows_is_an_empty_array(database_url: str) -> None:
    assert get(database_url, "SELECT 1 AS a WHERE false").json() == []


def test_ndjson_is_an_object_a_line(database_url: str) -> None:
    body = get(database_url, "SELECT g AS a FROM generate_series(1, 3) g", format_="ndjson").body
    assert body == b'{"a":1}\n{"a":2}\n{"a":3}\n'
    assert get(database_url, "SELECT 1 AS a WHERE false", format_="ndjson").body == b""


def test_csv_tells_null_from_an_empty_text(database_url: str) -> None:
    seen = get(database_url, SAMPLE, format_="csv")
    assert seen.body.decode() == '"n","price","text","nothing","empty"\n7,"1.50","é,""x""",,""\n'
    assert seen.header("content-disposition") == 'attachment; filename="rows.csv"'


def test_a_text_that_a_spreadsheet_would_run_is_quoted_in_csv(database_url: str) -> None:
    body = get(database_url, "SELECT '=1+1' AS a, '-5' AS b, -5 AS c, 'a=b' AS d", format_="csv").body
    assert body == b'"a","b","c","d"\n"\'=1+1","\'-5",-5,"a=b"\n'


def test_an_arrow_stream_keeps_types_and_ends_with_its_count_of_rows(database_url: str) -> None:
    seen = get(database_url, SAMPLE, format_="arrow")
    reader = pa.ipc.open_stream(seen.body)
    batches = list(reader.iter_batches_with_custom_metadata())
    assert reader.schema.types == [pa.int64(), pa.decimal128(9, 2), pa.string(), pa.string(), pa.string()]
    assert [batch.batch.num_rows for batch in batches] == [1, 0]
    assert batches[-1].custom_metadata[ROWS_KEY] == b"1"
    assert batches[0].batch.to_pylist()[0]["price"] == Decimal("1.50")


def test_parquet_has_the_same_rows_as_arrow(database_url: str) -> None:
    rows = "SELECT g AS a, g::text AS b, NULL::float8 AS c FROM generate_series(1, 30000) g"
    arrow = pa.ipc.open_stream(get(database_url, rows, format_="arrow").body).read_all()
    parquet = pyarrow.parquet.read_table(io.BytesIO(get(database_url, rows, format_="parquet").body))
    assert arrow.num_rows == 30_000
    assert parquet.to_pylist() == arrow.to_pylist()


@pytest.mark.parametrize("word", [format_.word for format_ in Format])
def test_a_table_in_memory_is_answered_in_every_format(word: str) -> None:
    table = pa.table({"a": [1, None], "b": [[1], None], "d": pa.array([Decimal("1.5"), None]), "raw": [b"\x00", None]})

    async def main() -> Seen:
        return await call(TableReply(InMemory(table)), "GET", f"/?format={word}")

    seen = asyncio.run(main())
    assert seen.complete
    if word == "json":
        assert seen.json()[0] == {"a": 1, "b": [1], "d": "1.5", "raw": "AA=="}
    if word == "csv":
        assert seen.body == b'"a","b","d","raw"\n1,"[1]",1.5,"\\x00"\n,,,\n'
    if word == "arrow":
        assert pa.ipc.open_stream(seen.body).read_all().equals(table)
    if word == "parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(seen.body)).to_pylist() == table.to_pylist()


ACCEPTED = [
    ("", "", Format.JSON),
    ("", "*/*", Format.JSON),
    ("", "text/html,application/xhtml+xml,*/*;q=0.8", Format.JSON),
    ("", "text/csv", Format.CSV),
    ("", "text/*", Format.CSV),
    ("", "application/json;q=0.1, application/vnd.apache.arrow.stream", Format.ARROW),
    ("", "application/json;q=nonsense, text/csv;q=0.2", Format.CSV),
    ("format=parquet", "text/csv", Format.PARQUET),
    ("format=CSV&format=json", "", Format.CSV),
]


@pytest.mark.parametrize(("query", "accept", "format_"), ACCEPTED)
def test_the_format_is_what_the_query_names_else_what_accept_prefers(query: str, accept: str, format_: Format) -> None:
    headers = [(b"accept", accept.encode())] if accept else []
    assert choose_format({"query_string": query.encode(), "headers": headers}) is format_


@pytest.mark.parametrize(
    ("query", "accept"), [("format=xlsx", ""), ("", "image/png"), ("", "application/json;q=0"), ("format=", "")]
)
def test_a_format_that_is_not_offered_is_refused(query: str, accept: str) -> None:
    if query == "format=":
        # Said without a value, it is not said.
        assert choose_format({"query_string": query.encode(), "headers": []}) is Format.JSON
        return
    headers = [(b"accept", accept.encode())] if accept else []
    with pytest.raises(NotAcceptable):
        choose_format({"query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("", Coding.IDENTITY), ("gzip, br", Coding.GZIP), ("gzip, zstd", Coding.ZSTD), ("zstd;q=0.1, gzip", Coding.GZIP)],
)
def test_the_coding_is_one_that_the_client_takes(accepted: str, coding: Coding) -> None:
    scope = {"headers": [(b"accept-encoding", accepted.encode())]}
    assert choose_coding(scope, Format.CSV) is coding
    assert choose_coding(scope, Format.PARQUET) is Coding.IDENTITY


def test_a_body_is_compressed_as_the_client_takes_it(database_url: str) -> None:
    async def script(tables: Tables) -> Seen:
        reply = TableReply(tables.select("SELECT g AS a FROM generate_series(1, 20000) g"))
        return await call(reply, "GET", "/", headers=[("accept-encoding", "gzip")])

    seen: Seen = run(database_url, script)
    assert seen.header("content-encoding") == "gzip"
    assert len(json.loads(gzip.decompress(seen.body))) == 20_000


@pytest.mark.parametrize("value", ["'; DROP TABLE kept; --", "\\", "\\'", "%s", "é\n", "$1", "') --", ""])
def test_a_value_stays_a_value_whatever_it_holds(database_url: str, value: str) -> None:
    assert get(database_url, "SELECT %s::text AS a, '%%' AS b", value).json() == [{"a": value, "b": "%"}]


def test_a_negative_value_makes_no_comment_of_a_minus(database_url: str) -> None:
    assert get(database_url, "SELECT 5 -%s AS a", -2).json() == [{"a": 7}]


def test_values_may_have_names(database_url: str) -> None:
    async def script(tables: Tables) -> Any:
        selection = tables.select("SELECT %(a)s + %(b)s + %(a)s AS sum", {"a": 1, "b": 2})
        return (await selection.table()).to_pylist()

    assert run(database_url, script) == [{"sum": 4}]


@pytest.mark.parametrize(
    ("query", "params"),
    [("SELECT %s", ()), ("SELECT 1", (1,)), ("SELECT %d", (1,)), ("SELECT %(a)s", {"b": 1}), ("SELECT %s", {"a": 1})],
)
def test_places_and_values_that_disagree_are_refused(database_url: str, query: Any, params: Any) -> None:
    async def script(tables: Tables) -> None:
        await tables.select(query, params).table()

    with pytest.raises(ValueError, match="query"):
        run(database_url, script)


@pytest.mark.parametrize(
    "query", ["SELECT nonsense", "INSERT INTO kept VALUES (1) RETURNING 1", "SELECT 1; SELECT 2", "DROP TABLE kept"]
)
def test_a_query_that_is_none_or_writes_is_refused_before_the_reply_begins(database_url: str, query: Any) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept (a int)")

    async def script(tables: Tables) -> None:
        with pytest.raises(QueryFailed):
            await call(TableReply(tables.select(query)), "GET", "/")

    run(database_url, script)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_function_that_writes_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept (a int)")
        connection.execute(
            "CREATE FUNCTION sly() RETURNS int LANGUAGE sql AS 'INSERT INTO kept VALUES (1) RETURNING a'"
        )

    async def script(tables: Tables) -> None:
        with pytest.raises(QueryFailed, match="read-only"):
            await tables.select("SELECT sly() AS a").table()

    run(database_url, script)


def test_two_columns_of_one_name_are_refused(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        with pytest.raises(QueryFailed, match="two columns named 'a'"):
            await tables.select("SELECT 1 AS a, 2 AS a").table()

    run(database_url, script)


def test_more_rows_than_allowed_cut_the_reply_off(database_url: str) -> None:
    async def script(tables: Tables) -> Seen:
        seen = Seen()

        async def send(message: Any) -> None:
            seen.status = message.get("status", seen.status)
            seen.body += message.get("body", b"")
            seen.complete = message["type"] == "http.response.body" and not message["more_body"]

        async def receive() -> Any:
            return await asyncio.Event().wait()

        selection = tables.select("SELECT g AS a, repeat('x', 100) AS b FROM generate_series(1, 100000) g")
        scope = {"type": "http", "method": "GET", "query_string": b"", "headers": ARROW}
        scope["headers"] = [(b"accept", b"application/vnd.apache.arrow.stream")]
        with pytest.raises(TooManyRows):
            await TableReply(selection)(scope, receive, send)
        return seen

    seen: Seen = run(database_url, script, max_rows=50_000, batch_bytes=100_000)
    assert seen.status == 200
    assert not seen.complete
    # What came reads as a whole stream; only the count that is not there tells.
    assert ROWS_KEY not in seen.body


def test_a_result_just_as_long_as_allowed_is_whole(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        assert (await tables.select("SELECT g AS a FROM generate_series(1, 10) g", max_rows=10).table()).num_rows == 10
        with pytest.raises(TooManyRows):
            await tables.select("SELECT g AS a FROM generate_series(1, 10) g", max_rows=9).table()

    run(database_url, script)


def test_a_query_that_runs_away_is_ended_by_the_server(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        with pytest.raises(DatabaseTimeout):
            await tables.select("SELECT pg_sleep(60)::text AS a").table()
        assert (await tables.select("SELECT 1 AS a").table()).num_rows == 1

    run(database_url, script, statement_timeout_seconds=0.3)


def test_a_query_that_finds_no_turn_in_time_is_told_so(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        async with tables.select("SELECT 1 AS a").open():
            with pytest.raises(DatabaseUnavailable):
                await tables.select("SELECT 2 AS a").table()

    run(database_url, script, connections=1, acquire_timeout_seconds=0.1)


def running(url: str, words: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            " AND position(%s in query) > 0",
            (words,),
        ).fetchone()
    assert row is not None
    return int(row[0])


async def until(happens: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not happens():
            await asyncio.sleep(0.02)


ENDLESS = "SELECT g AS a, repeat('x', 1000) AS b, 'endless' AS c FROM generate_series(1, 100000000) g"


@pytest.mark.parametrize("when", ["before the first row", "between rows"])
def test_a_client_that_goes_away_ends_the_query_at_once(database_url: str, when: str) -> None:
    query: Any = ENDLESS if when == "between rows" else "SELECT pg_sleep(60)::text AS a, 'endless' AS c"

    async def script(tables: Tables) -> None:
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            # A client that stops reading: the server's buffer is full.
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "query_string": b"format=arrow", "headers": []}
        reply = asyncio.create_task(TableReply(tables.select(query))(scope, receive, send))
        await until(lambda: running(database_url, "endless") == 1)
        await asyncio.sleep(0.1)
        gone.set()
        async with asyncio.timeout(5):
            await reply
        await until(lambda: running(database_url, "endless") == 0, seconds=2)
        assert (await tables.select("SELECT 1 AS a").table()).num_rows == 1

    run(database_url, script, connections=1)


def test_a_request_that_is_cancelled_ends_its_query(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        task = asyncio.create_task(tables.select("SELECT pg_sleep(60)::text AS a, 'endless' AS c").table())
        await until(lambda: running(database_url, "endless") == 1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: running(database_url, "endless") == 0, seconds=2)

    run(database_url, script)


def test_a_server_that_ended_the_idle_connections_is_asked_on_new_ones(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        assert (await tables.select("SELECT 1 AS a").table()).num_rows == 1
        with psycopg.connect(database_url, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                " WHERE application_name = 'workhorse analytics' AND datname = current_database()"
            ).fetchone()
        assert ended == (1,)
        assert (await tables.select("SELECT 2 AS a").table()).to_pylist() == [{"a": 2}]

    run(database_url, script)
