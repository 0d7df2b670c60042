"""Frames go into tables with the unit: whole, exact, and once; and come out of queries within a bound."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest

from workhorse.analytics.frames import (
    FrameMisfit,
    FrameTooLarge,
    Written,
    read_frame,
    write_frame,
)
from workhorse.analytics.tables import Tables
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.errors import NoUnit
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit

TABLE = """CREATE TABLE sums (
    account int8, day date, total numeric(12,2) CHECK (total > -100), note varchar(10), owner uuid, seen timestamptz,
    tags text[], meta jsonb, raw bytea, open bool, rate float8, at time, UNIQUE (account, day))"""
OWNER = UUID("5b2e1f5a-6a3f-4f0e-9a1b-0c6a5d4e3f21")
DAY = date(2026, 11, 23)


@pytest.fixture(scope="module")
def migrated_url(servers: Attachment) -> Iterator[str]:
    url = fresh_database(servers.database_url)
    asyncio.run(apply_migrations(url, [WORKHORSE]))
    with psycopg.connect(url) as connection:
        connection.execute(TABLE)
    yield url
    drop_database(url)


@pytest.fixture
def url(migrated_url: str) -> str:
    """The table, empty."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("TRUNCATE sums")
    return migrated_url


def rows_of(url: str, query: str = "SELECT account, day, total FROM sums ORDER BY account, day") -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[PostgresDatabase]:
    database = PostgresDatabase(url, pool_min=1, pool_max=3)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def asked(url: str, **options: Any) -> AsyncGenerator[Tables]:
    source = PostgresFrames(url)
    try:
        yield Tables(source, **options)
    finally:
        await source.close()


def written(url: str, frame: object, **options: Any) -> Written:
    """Write a frame in a unit of its own."""

    async def main() -> Written:
        async with opened(url) as database, Unit(database):
            return await write_frame(frame, into="sums", **options)

    return asyncio.run(main())


def sums(*rows: tuple[int, date, str]) -> pa.Table:
    return pa.table(
        {
            "account": [row[0] for row in rows],
            "day": pa.array([row[1] for row in rows], pa.date32()),
            "total": pa.array([Decimal(row[2]) for row in rows], pa.decimal128(12, 2)),
        }
    )


COLUMNS = {"account": [1, 2], "total": [1.5, 2.25], "note": ["a", None]}


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(lambda: pd.DataFrame(COLUMNS, index=[7, 8]), id="pandas"),
        pytest.param(lambda: pl.DataFrame(COLUMNS), id="polars"),
        pytest.param(lambda: pa.table(COLUMNS), id="arrow"),
        pytest.param(lambda: duckdb.connect().from_arrow(pa.table(COLUMNS)), id="duckdb"),
    ],
)
def test_a_frame_of_any_library_goes_into_a_table_by_its_columns(url: str, frame: Callable[[], object]) -> None:
    assert written(url, frame()) == Written(rows=2, removed=0)
    assert rows_of(url, "SELECT account, total, note FROM sums ORDER BY 1") == [
        (1, Decimal("1.50"), "a"),
        (2, Decimal("2.25"), None),
    ]


def test_each_type_arrives_as_it_was(url: str) -> None:
    seen = datetime(2026, 11, 23, 18, 30, 1, 234567, tzinfo=UTC)
    row = {
        "account": 1,
        "day": DAY,
        "total": Decimal("-12.30"),
        "note": 'a "b"\n,\\.',
        "owner": OWNER.bytes,
        "seen": seen,
        "tags": ["x", None, 'y"\\,{}'],
        "meta": '{"a": [1, null]}',
        "raw": b"\x00\xff",
        "open": False,
        "rate": 1e-300,
        "at": time(1, 2, 3),
    }
    schema = pa.schema({"total": pa.decimal128(12, 2), "owner": pa.binary(16)})
    arrays = {
        name: pa.array([value], schema.field(name).type if name in schema.names else None)
        for name, value in row.items()
    }
    empty = {name: pa.array([None], array.type) for name, array in arrays.items()}
    texts = {**empty, "account": pa.array([2]), "note": pa.array([""]), "rate": pa.array([float("inf")])}
    written(url, pa.concat_tables([pa.table(arrays), pa.table(texts)]))
    first, second = rows_of(url, "SELECT * FROM sums ORDER BY account")
    assert first == (
        1,
        DAY,
        Decimal("-12.30"),
        'a "b"\n,\\.',
        OWNER,
        seen,
        ["x", None, 'y"\\,{}'],
        {"a": [1, None]},
        b"\x00\xff",
        False,
        1e-300,
        time(1, 2, 3),
    )
    assert second == (2, None, None, "", *[None] * 6, float("inf"), None)


def test_values_that_do_not_fit_are_named_by_row_and_column_and_nothing_is_written(url: str) -> None:
    frame = pl.DataFrame({"account": [1, 2, 3], "total": ["1.00", "2.005", "much"], "note": ["a", "b", "far too long"]})
    with pytest.raises(FrameMisfit) as refused:
        written(url, frame)
    assert [(bad.row, bad.column, bad.value) for bad in refused.value.rows] == [
        (2, "total", "2.005"),
        (3, "total", "much"),
        (3, "note", "far too long"),
    ]
    assert "row 2, total: '2.005'" in str(refused.value)
    assert rows_of(url) == []


def test_a_row_that_only_the_database_refuses_is_named_too(url: str) -> None:
    notes = ["one\ntwo\n"] * 60_000
    frame = pa.table({"account": range(60_000), "note": notes, "total": [1.0] * 59_990 + [-200.0] + [1.0] * 9})
    with pytest.raises(FrameMisfit, match="sums_total_check") as refused:
        written(url, frame)
    assert [bad.row for bad in refused.value.rows] == [59_991]
    assert rows_of(url) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ([{"account": 1}], "builtins.list is no frame"),
        (pa.table({"account": [1], "amount": [1]}), "no place for .*amount"),
        (pd.DataFrame({"account": [1, "x"]}), "Could not convert 'x'.* column account"),
    ],
    ids=["a list", "a strange column", "mixed objects"],
)
def test_what_is_no_frame_for_the_table_is_refused_in_words(url: str, frame: object, words: str) -> None:
    with pytest.raises(FrameMisfit, match=words):
        written(url, frame)


def test_replace_takes_the_place_of_the_rows_with_its_keys_and_leaves_the_others(url: str) -> None:
    other = date(2026, 11, 22)
    written(url, sums((1, DAY, "1"), (2, DAY, "2"), (1, other, "9")))
    assert written(url, sums((3, DAY, "3")), mode="replace", key=["day"]) == Written(rows=1, removed=2)
    assert rows_of(url) == [(1, other, Decimal(9)), (3, DAY, Decimal(3))]


def test_with_the_keys_values_a_frame_without_rows_replaces_too_and_strange_rows_are_refused(url: str) -> None:
    other = date(2026, 11, 22)
    written(url, sums((1, DAY, "1"), (2, DAY, "2"), (1, other, "9")))
    with pytest.raises(FrameMisfit, match=r"1 rows of the frame are not of day=datetime\.date\(2026, 11, 23\)"):
        written(url, sums((1, other, "1"), (1, DAY, "1")), mode="replace", key={"day": DAY})
    assert written(url, sums((3, DAY, "3")), mode="replace", key={"day": DAY}) == Written(rows=1, removed=2)
    assert written(url, sums(), mode="replace", key={"day": DAY}) == Written(rows=0, removed=1)
    assert rows_of(url) == [(1, other, Decimal(9))]


@pytest.mark.parametrize(
    ("mode", "key"), [("append", ["day"]), ("replace", []), ("upsert", {"day": DAY}), ("merge", ["day"])], ids=str
)
def test_a_mode_and_a_key_that_do_not_go_together_are_refused(url: str, mode: str, key: Any) -> None:
    with pytest.raises(ValueError, match="need a key"):
        written(url, sums(), mode=mode, key=key)
    with pytest.raises(ValueError, match="has a null"):
        written(url, sums(), mode="replace", key={"day": None})


def test_upsert_changes_rows_that_are_there_and_adds_the_others(url: str) -> None:
    written(url, pa.table({"account": [1], "day": pa.array([DAY]), "total": [1], "note": ["kept"]}))
    written(url, sums((1, DAY, "5"), (2, DAY, "2")), mode="upsert", key=["account", "day"])
    assert rows_of(url, "SELECT account, total, note FROM sums ORDER BY 1") == [
        (1, Decimal(5), "kept"),
        (2, Decimal(2), None),
    ]


@pytest.mark.parametrize(
    ("frame", "key", "words"),
    [
        (sums((1, DAY, "1"), (1, DAY, "2")), ["account", "day"], "two rows with one key"),
        (sums((1, DAY, "1")), ["total"], "no unique index on exactly total"),
        (pa.table({"account": pa.array([None], pa.int64()), "day": [DAY]}), ["account", "day"], "'account' has nulls"),
        (pa.table({"account": [1]}), ["account", "day"], "lacks columns of the key: day"),
    ],
    ids=["a key twice", "no such index", "a key that is null", "a key that is missing"],
)
def test_a_key_that_says_nothing_is_refused(url: str, frame: pa.Table, key: list[str], words: str) -> None:
    with pytest.raises(FrameMisfit, match=words):
        written(url, frame, mode="upsert", key=key)


def test_a_frame_is_undone_with_its_unit(url: str) -> None:
    async def main() -> None:
        async with opened(url) as database, Unit(database):
            await write_frame(sums((1, DAY, "1")), into="sums")
            raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"):
        asyncio.run(main())
    assert rows_of(url) == []


def test_two_frames_of_one_unit_may_replace_one_after_the_other(url: str) -> None:
    async def main() -> None:
        async with opened(url) as database, Unit(database):
            for total in ("1", "2"):
                await write_frame(sums((1, DAY, total)), into="sums", mode="replace", key=["day"])

    asyncio.run(main())
    assert rows_of(url) == [(1, DAY, Decimal(2))]


def test_two_units_that_replace_the_same_rows_take_turns(url: str) -> None:
    frame = pa.table({"day": pa.array([DAY] * 3), "total": [1, 2, 3]})

    async def one(database: PostgresDatabase) -> None:
        async with Unit(database):
            await write_frame(frame, into="sums", mode="replace", key=["day"])
            await asyncio.sleep(0.1)

    async def main() -> None:
        async with opened(url) as database:
            await asyncio.gather(one(database), one(database))

    asyncio.run(main())
    assert rows_of(url, "SELECT count(*) FROM sums") == [(3,)]


def test_without_a_unit_nothing_is_written(url: str) -> None:
    with pytest.raises(NoUnit):
        asyncio.run(write_frame(sums((1, DAY, "1")), into="sums"))


def test_a_frame_beyond_its_bounds_is_refused_on_both_ways(url: str) -> None:
    async def reading(bounds: dict[str, int]) -> None:
        async with asked(url) as tables:
            await read_frame(tables.select("SELECT n FROM generate_series(1, 100000) AS n"), **bounds)

    for bounds in ({"max_rows": 99_999}, {"max_bytes": 100_000}):
        with pytest.raises(FrameTooLarge):
            asyncio.run(reading(bounds))
    with pytest.raises(FrameTooLarge):
        written(url, pa.table({"account": [1, 2, 3]}), max_rows=2)


def test_a_query_is_read_as_the_frame_of_each_library(url: str) -> None:
    async def main() -> None:
        async with asked(url) as tables:
            rows = tables.select(
                "SELECT 1.10::numeric(9,2) AS price, 'x' AS name, %s::uuid AS owner, '{\"a\":1}'::jsonb AS meta",
                (OWNER,),
            )
            assert (await read_frame(rows)).column("price").to_pylist() == [Decimal("1.10")]
            frame = await read_frame(rows, "pandas")
            assert str(frame.dtypes["price"]) == "decimal128(9, 2)[pyarrow]"
            assert (await read_frame(rows, "polars"))["price"].to_list() == [Decimal("1.10")]
            assert (await read_frame(rows, "duckdb")).project("price + 1, name").fetchall() == [(Decimal("2.10"), "x")]

    asyncio.run(main())
