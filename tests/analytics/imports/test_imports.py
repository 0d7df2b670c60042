"""Files go into a table whole or not at all, or without their bad rows; each once, and whatever they hold."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from workhorse.analytics.imports import (
    ImportBusy,
    ImportOptions,
    ImportRefused,
    ImportReport,
    Limits,
    TooManyBadRows,
    import_file,
    importing,
)
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.ingest import PostgresIngest
from workhorse.state.postgres.migrate import apply_migrations

TABLE = """CREATE TABLE accounts (
    id int8 PRIMARY KEY, owner uuid, name varchar(10) NOT NULL, balance numeric(12,2) CHECK (balance > -100),
    opened date, seen timestamptz, tags text[], meta jsonb, open bool, rate float8,
    kind mood, note text DEFAULT 'none', twice int8 GENERATED ALWAYS AS (id * 2) STORED)"""


@pytest.fixture(scope="module")
def migrated_url(servers: Attachment) -> Iterator[str]:
    url = fresh_database(servers.database_url)
    asyncio.run(apply_migrations(url, [WORKHORSE]))
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
        connection.execute(TABLE)
    yield url
    drop_database(url)


@pytest.fixture
def table_url(migrated_url: str) -> str:
    """The table, empty, and no file known."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("TRUNCATE accounts, workhorse.imports")
    return migrated_url


def rows_of(url: str, query: str = "SELECT id, name FROM accounts ORDER BY id") -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def bring(url: str, path: Path, **options: Any) -> ImportReport:
    return asyncio.run(
        import_file(path, into="accounts", sink=lambda: PostgresIngest(url), options=ImportOptions(**options))
    )


def write(folder: Path, text: str | bytes, name: str = "accounts.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


FULL = {
    "id": 1,
    "owner": "5b2e1f5a-6a3f-4f0e-9a1b-0c6a5d4e3f21",
    "name": "Ada",
    "balance": "12.50",
    "opened": "2026-01-02",
    "seen": "2026-01-02T03:04:05.678901+02:00",
    "tags": ["a", "b"],
    "meta": {"x": [1]},
    "open": True,
    "rate": 0.1,
    "kind": "good",
}
STORED = (
    1,
    UUID("5b2e1f5a-6a3f-4f0e-9a1b-0c6a5d4e3f21"),
    "Ada",
    Decimal("12.50"),
    date(2026, 1, 2),
    datetime(2026, 1, 2, 1, 4, 5, 678901, UTC),
    ["a", "b"],
    {"x": [1]},
    True,
    0.1,
    "good",
    "none",
)


def full_file(folder: Path, format_: str) -> Path:
    if format_ == "ndjson":
        return write(folder, json.dumps(FULL) + "\n", "full.ndjson")
    if format_ == "csv":
        cells = [value if isinstance(value, str) else json.dumps(value) for value in FULL.values()]
        quoted = ",".join('"' + str(cell).replace('"', '""') + '"' for cell in cells)
        return write(folder, ",".join(FULL) + "\n" + quoted + "\n", "full.csv")
    typed = {
        **FULL,
        "balance": Decimal("12.50"),
        "opened": date(2026, 1, 2),
        "seen": datetime.fromisoformat(str(FULL["seen"])).astimezone(UTC),
        "meta": json.dumps(FULL["meta"]),
    }
    table = pa.Table.from_pylist([typed])
    path = folder / f"full.{format_}"
    if format_ == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path)
    return path


@pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet", "arrow"])
def test_every_format_fills_every_type(table_url: str, tmp_path: Path, format_: str) -> None:
    report = bring(table_url, full_file(tmp_path, format_))
    assert (report.rows, report.written, report.refused) == (1, 1, 0)
    query = "SELECT id,owner,name,balance,opened,seen,tags,meta,open,rate,kind::text,note FROM accounts"
    assert rows_of(table_url, query) == [STORED]


def test_a_file_that_is_given_again_is_not_written_again(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n1,a\n2,b\n")
    assert bring(table_url, path).written == 2
    copy = write(tmp_path, path.read_bytes(), "other.csv")
    report = bring(table_url, copy)
    assert (report.again, report.written) == (True, 2)
    assert rows_of(table_url) == [(1, "a"), (2, "b")]


DIRT = [
    (b"id,name\nx,a\n", "id", "x"),
    (b"id,name\n1.5,a\n", "id", "1.5"),
    (b"id,name\n99999999999999999999,a\n", "id", "99999999999999999999"),
    (b"id,name\n1,\n", "name", ""),
    (b"id,name\n1,12345678901\n", "name", "12345678901"),
    (b"id,name\n1,a\x00b\n", "name", "a\x00b"),
    (b"id,name\n1,\xff\n", "name", "�"),
    (b"id,name,balance\n1,a,1.005\n", "balance", "1.005"),
    (b"id,name,balance\n1,a,12345678901.00\n", "balance", "12345678901.00"),
    (b"id,name,opened\n1,a,2026-02-30\n", "opened", "2026-02-30"),
    (b"id,name,seen\n1,a,2026-02-01 00:00:00\n", "seen", "2026-02-01 00:00:00"),
    (b"id,name,kind\n1,a,ugly\n", "kind", "ugly"),
    (b"id,name,owner\n1,a,nobody\n", "owner", "nobody"),
    (b"id,name,meta\n1,a,{\n", "meta", "{"),
    (b"id,name,tags\n1,a,x\n", "tags", "x"),
    (b"id,name,open\n1,a,perhaps\n", "open", "perhaps"),
    (b"id,name\n1,a,b\n", "", "1,a,b"),
    (b"id,name\n1\n", "", "1"),
]


@pytest.mark.parametrize(
    ("text", "column", "value"), DIRT, ids=[f"{column}-{n}" for n, (_, column, _v) in enumerate(DIRT)]
)
def test_each_kind_of_dirt_is_named_with_its_row_and_refuses_the_file(
    table_url: str, tmp_path: Path, text: bytes, column: str, value: str
) -> None:
    # A good row before and one behind, so that the number is looked at.
    header, row = text.split(b"\n")[:2]
    good = b"7,good" + b"," * (header.count(b",") - 1)
    path = write(tmp_path, b"\n".join([header, good, row, good.replace(b"7", b"8"), b""]))
    with pytest.raises(TooManyBadRows, match=f"row 2, {column or 'whole row'}"):
        bring(table_url, path)
    assert rows_of(table_url) == []
    told = tmp_path / "bad.ndjson"
    report = bring(table_url, path, mode="quarantine", report=told)
    assert (report.rows, report.written, report.refused) == (3, 2, 1)
    (line,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (line["row"], line["column"], line["value"]) == (2, column, value)
    assert line["reason"]
    assert rows_of(table_url) == [(7, "good"), (8, "good")]


def test_rows_that_only_the_database_refuses_are_found_one_by_one(table_url: str, tmp_path: Path) -> None:
    lines = [f"{number},n,{-500 if number % 400 == 0 else 1}" for number in range(1, 1001)] + ["5,twice,1"]
    told = tmp_path / "bad.ndjson"
    path = write(tmp_path, "id,name,balance\n" + "\n".join(lines) + "\n")
    report = bring(table_url, path, mode="quarantine", report=told)
    assert (report.written, report.refused) == (998, 3)
    assert [json.loads(line)["row"] for line in told.read_text().splitlines()] == [400, 800, 1001]
    assert rows_of(table_url, "SELECT count(*) FROM accounts") == [(998,)]


def test_a_row_that_only_the_database_refuses_refuses_the_whole_file(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n1,a\n1,b\n")
    with pytest.raises(TooManyBadRows, match="duplicate key"):
        bring(table_url, path)
    assert rows_of(table_url) == []


@pytest.mark.parametrize("mode", ["all", "quarantine"])
def test_an_import_that_dies_on_its_way_goes_on_where_it_stood(
    table_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    monkeypatch.setattr(importing, "CHUNK_ROWS", 10_000)
    path = write(tmp_path, "id,name\n" + "".join(f"{n},{n}\n" for n in range(35_000)))
    chunks = 0

    class Dying(PostgresIngest):
        def load(self, schema: str, table: str, batches: Any) -> None:
            nonlocal chunks
            chunks += 1
            super().load(schema, table, batches)
            if chunks == 2:
                raise ConnectionError

    options = ImportOptions(mode=mode, limits=Limits(line_bytes=50_000))
    with pytest.raises(ConnectionError):
        asyncio.run(import_file(path, into="accounts", sink=lambda: Dying(table_url), options=options))
    (stands,) = rows_of(table_url, "SELECT count(*) FROM accounts")[0]
    assert stands == 0 if mode == "all" else 0 < stands < 35_000
    report = bring(table_url, path, mode=mode)
    assert (report.rows, report.written) == (35_000, 35_000)
    assert rows_of(table_url, "SELECT count(*), sum(id)::int8 FROM accounts") == [(35_000, 35_000 * 34_999 // 2)]


def test_two_importers_of_one_file_write_it_once(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n" + "".join(f"{n},{n}\n" for n in range(20_000)))

    async def both() -> list[Any]:
        def one() -> Any:
            return import_file(path, into="accounts", sink=lambda: PostgresIngest(table_url))

        return list(await asyncio.gather(one(), one(), return_exceptions=True))

    outcomes = asyncio.run(both())
    assert any(isinstance(outcome, ImportReport) for outcome in outcomes)
    # The other came later and found it done, was told of it, or waited for the first one's rows and found them there.
    assert all(isinstance(outcome, (ImportReport, ImportBusy, TooManyBadRows)) for outcome in outcomes)
    assert rows_of(table_url, "SELECT count(*) FROM accounts") == [(20_000,)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,name,more\n1,a,b\n", "no place for"),
        ("id,name,twice\n1,a,2\n", "no place for"),
        ("id\n1\n", "needs: name"),
        ("id,id,name\n1,2,a\n", "two columns of one name"),
        ("", "empty"),
    ],
)
def test_columns_that_do_not_fit_refuse_the_file(table_url: str, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ImportRefused, match=words):
        bring(table_url, write(tmp_path, text))


def test_columns_are_renamed_and_left_out(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "number;who;junk\n1;a;x\n")
    bring(table_url, path, delimiter=";", columns={"number": "id", "who": "name", "junk": ""})
    assert rows_of(table_url) == [(1, "a")]


def test_a_table_that_is_not_there_is_refused_whatever_its_name(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a\n1\n")
    for name in ("nothing", "accounts; DROP TABLE accounts", '"', "a.b.c"):
        with pytest.raises(ImportRefused, match="no table"):
            asyncio.run(import_file(path, into=name, sink=lambda: PostgresIngest(table_url)))
    assert rows_of(table_url) == []


def test_integers_that_a_float_cannot_hold_are_refused(table_url: str, tmp_path: Path) -> None:
    path = tmp_path / "rates.parquet"
    pyarrow.parquet.write_table(pa.table({"id": [1, 2], "name": ["a", "b"], "rate": [2, 2**53 + 1]}), path)
    report = bring(table_url, path, mode="quarantine")
    assert (report.written, report.bad[0].row, report.bad[0].column) == (1, 2, "rate")
    assert rows_of(table_url, "SELECT rate FROM accounts") == [(2.0,)]


def test_unsigned_integers_do_not_wrap(table_url: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pyarrow.parquet.write_table(pa.table({"id": pa.array([2**63], pa.uint64()), "name": ["a"]}), path)
    with pytest.raises(TooManyBadRows, match="row 1, id"):
        bring(table_url, path)


def test_a_compressed_file_that_expands_beyond_measure_is_refused(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"id,name\n" + b"1,a\n" * 2_000_000), "bomb.csv.gz")
    assert path.stat().st_size < 50_000
    with pytest.raises(ImportRefused, match="expands to more than 1000000 bytes"):
        bring(table_url, path, limits=Limits(expanded_bytes=1_000_000))


def test_a_parquet_file_that_names_one_text_a_million_times_is_refused(table_url: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    names = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1_000_000]))
    pyarrow.parquet.write_table(pa.table({"id": pa.array(range(100_000)), "name": names}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ImportRefused, match="larger than allowed"):
        bring(table_url, path)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(rows=10), "100 rows"),
        (Limits(columns=1), "2 columns"),
        (Limits(file_bytes=100), "at most 100"),
        (Limits(group_bytes=10), "row group"),
        (Limits(batch_bytes=10), "larger than allowed"),
    ],
)
def test_a_parquet_file_beyond_a_limit_is_refused(table_url: str, tmp_path: Path, limits: Limits, words: str) -> None:
    path = tmp_path / "large.parquet"
    pyarrow.parquet.write_table(pa.table({"id": list(range(100)), "name": ["a"] * 100}), path)
    with pytest.raises(ImportRefused, match=words):
        bring(table_url, path, limits=limits)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.ndjson", "a.csv.gz", "a.xlsx"])
def test_a_file_that_is_not_what_its_name_says_is_refused(table_url: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImportRefused):
        bring(table_url, write(tmp_path, b"\x00\x01nonsense\n" * 100, name))


def test_a_line_without_an_end_is_refused(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, 'id,name\n1,"' + "x" * 300_000)
    with pytest.raises(ImportRefused):
        bring(table_url, path, limits=Limits(line_bytes=100_000))


def test_ndjson_keeps_every_digit_and_names_lines_that_are_none(table_url: str, tmp_path: Path) -> None:
    lines = ['{"id":9007199254740993,"name":"a","balance":0.10}', "nonsense", '{"id":2,"name":"b","x":1}', '{"id":3}']
    report = bring(table_url, write(tmp_path, "\n".join(lines) + "\n", "a.ndjson"), mode="quarantine")
    assert (report.rows, report.written) == (4, 0) if rows_of(table_url) == [] else (4, 1)
    assert [bad.row for bad in report.bad] == [2, 3, 4]
    assert rows_of(table_url, "SELECT id, balance FROM accounts") == [(9007199254740993, Decimal("0.10"))]


def test_more_bad_rows_than_allowed_end_the_import(table_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n" + "x,a\n" * 100)
    with pytest.raises(TooManyBadRows, match="more than 5"):
        bring(table_url, path, mode="quarantine", most_bad_rows=5)
