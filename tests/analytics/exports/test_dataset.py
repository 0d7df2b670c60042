"""An export is whole, exact and made once, whatever was killed on the way; and readers of Hive's folders read it."""

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString, cast

import duckdb
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.analytics.exports.conftest import MakeStore
from workhorse.analytics.exports import DatasetOptions, ExportRefused, ExportReport, export_dataset, read_manifest
from workhorse.analytics.exports.partitions import folder_of
from workhorse.analytics.tables import Tables
from workhorse.contracts.frames import QueryFailed
from workhorse.contracts.objects import ObjectStore, ObjectStoreFailed
from workhorse.state.objects import FolderStore
from workhorse.state.postgres.frames import PostgresFrames

SMALL = DatasetOptions(part_bytes=64 * 1024)
QUERY: LiteralString = "SELECT id, day, region, amount FROM entries"
BY = ("day", "region")


@pytest.fixture
def url(database_url: str) -> str:
    """9,000 entries of three days in two regions, and a few of none."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "CREATE TABLE entries AS SELECT n AS id, date '2026-11-21' + (n % 3)::int AS day,"
            " CASE WHEN n % 100 = 0 THEN NULL WHEN n % 2 = 0 THEN 'a/b c' ELSE 'EU' END AS region,"
            " (n * 0.01)::numeric(12,2) AS amount FROM generate_series(1, 9000) AS n"
        )
    return database_url


@asynccontextmanager
async def asked(url: str) -> AsyncGenerator[Tables]:
    source = PostgresFrames(url, batch_bytes=16 * 1024)
    try:
        yield Tables(source)
    finally:
        await source.close()


def exported(url: str, store: ObjectStore, query: LiteralString = QUERY, **options: Any) -> ExportReport:
    async def main() -> ExportReport:
        async with asked(url) as tables:
            return await export_dataset(
                tables.select(query, name="entries"), to=store, **{"partition_by": BY, **options}
            )

    return asyncio.run(main())


def held(store: ObjectStore) -> dict[str, bytes]:
    """The files that readers of folders see, with their bytes."""

    async def main() -> dict[str, bytes]:
        names = [name for name in await store.names() if not name.startswith("_")]
        return {name: await store.read(name) or b"" for name in names}

    return asyncio.run(main())


def test_folders_are_named_as_hive_names_them_and_the_manifest_knows_each_file(url: str, make_store: MakeStore) -> None:
    store = make_store()
    report = exported(url, store)
    files = held(store)
    assert {name.rpartition("/")[0] for name in files} == {
        f"day=2026-11-2{day}/region={region}"
        for day in (1, 2, 3)
        for region in ("EU", "a%2Fb%20c", "__HIVE_DEFAULT_PARTITION__")
    }
    assert (report.rows, report.partitions, report.again, report.resumed) == (9_000, 9, False, 0)
    assert {file.name: file.sha256 for file in report.files} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    schema = pa.parquet.read_schema(pa.BufferReader(next(iter(files.values()))))
    assert [(field.name, str(field.type)) for field in schema] == [("id", "int32"), ("amount", "decimal128(12, 2)")]


def test_polars_duckdb_and_arrow_read_the_folders_and_find_every_row(url: str, tmp_path: Path) -> None:
    exported(url, FolderStore(tmp_path / "entries"))
    pattern = f"{tmp_path}/entries/**/*.parquet"
    sums = pl.read_parquet(pattern, hive_partitioning=True).group_by("day").agg(pl.col("amount").sum()).sort("day")
    assert sums["amount"].to_list() == [sum_of(url, day) for day in ("2026-11-21", "2026-11-22", "2026-11-23")]
    with duckdb.connect() as connection:
        rows = connection.read_parquet(pattern, hive_partitioning=True)
        [found] = rows.aggregate("count(*), count(DISTINCT id), count(region)").fetchall()
    assert found == (9_000, 9_000, 8_910)
    assert pa.parquet.read_table(tmp_path / "entries", partitioning="hive").num_rows == 9_000


def sum_of(url: str, day: str) -> object:
    with psycopg.connect(url) as connection:
        [(amount,)] = connection.execute("SELECT sum(amount) FROM entries WHERE day = %s::date", (day,)).fetchall()
    return amount


def test_given_again_an_export_does_nothing_and_another_query_is_refused(url: str, make_store: MakeStore) -> None:
    first, before = exported(url, make_store()), held(make_store())
    again = exported(url, make_store())
    assert (again.again, again.files) == (True, first.files)
    with pytest.raises(ExportRefused, match="another query"):
        exported(url, make_store(), "SELECT id, day, region FROM entries")
    with pytest.raises(ExportRefused, match="another query"):
        exported(url, make_store(), partition_by=["day"])
    assert held(make_store()) == before


class Failing:
    """A store whose connection is cut with an upload that has arrived, as when the process is killed there."""

    def __init__(self, store: ObjectStore, uploads: int) -> None:
        self._store = store
        self._left = uploads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def upload(self, name: str, file: Path) -> None:
        await self._store.upload(name, file)
        if self._left == 0:
            raise ObjectStoreFailed("cut")
        self._left -= 1


def ids(files: dict[str, bytes]) -> list[int]:
    tables = [pa.parquet.read_table(pa.BufferReader(data), columns=["id"]) for data in files.values()]
    found: list[int] = pa.concat_tables(tables)["id"].to_pylist()
    return sorted(found)


def test_an_export_that_was_cut_short_goes_on_behind_the_last_whole_partition(url: str, make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(ObjectStoreFailed, match="cut"):
        exported(url, cast("ObjectStore", Failing(store, 4)))
    assert asyncio.run(read_manifest(store)) is None
    before = held(store)
    report = exported(url, store)
    files = held(store)
    assert (report.rows, report.resumed, report.again) == (9_000, 4, False)
    assert set(files) == {file.name for file in report.files}
    assert len(set(before) - set(files)) == 1, "the file of the cut partition is gone, with its rows"
    assert {name: before[name] for name in before if name in files} == {
        name: data for name, data in files.items() if name in before
    }
    assert ids(files) == list(range(1, 9_001))


def test_a_large_partition_has_several_files(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO entries (id) SELECT n FROM generate_series(9001, 600000) AS n")
    report = exported(url, FolderStore(tmp_path), "SELECT id, day FROM entries", partition_by=["day"], options=SMALL)
    assert max(file.rows for file in report.files) >= 500_000
    assert [file.name[-13:] for file in report.files][-2:] == ["00000.parquet", "00001.parquet"]
    assert ids(held(FolderStore(tmp_path))) == list(range(1, 600_001))


def test_two_that_export_at_once_leave_each_row_once(url: str, make_store: MakeStore) -> None:
    async def main() -> list[ExportReport]:
        async with asked(url) as tables:
            runs = [export_dataset(tables.select(QUERY), to=make_store(), partition_by=BY) for _ in range(2)]
            return await asyncio.gather(*runs)

    first, second = asyncio.run(main())
    assert first.files == second.files
    files = held(make_store())
    assert set(files) == {file.name for file in first.files}
    assert ids(files) == list(range(1, 9_001))


def test_without_partitions_all_rows_are_in_one_folder_and_no_rows_make_a_file_with_its_types(
    url: str, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "all")
    assert exported(url, store, partition_by=()).rows == 9_000
    assert ids(held(store)) == list(range(1, 9_001))
    none = FolderStore(tmp_path / "none")
    report = exported(url, none, "SELECT id, amount FROM entries WHERE id < 0", partition_by=())
    assert (report.rows, len(report.files)) == (0, 1)
    assert pa.parquet.read_table(tmp_path / "none" / report.files[0].name).schema.names == ["id", "amount"]
    assert exported(url, FolderStore(tmp_path / "x"), "SELECT id, day, region FROM entries WHERE id < 0").files == ()


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (["month"], 'column "month" does not exist'),
        (["amount"], "is of the type decimal128"),
        (["day", "day"], "each once"),
        (["id", "day", "region", "amount"], "what the files hold|decimal"),
    ],
    ids=["missing", "a number with a point", "twice", "all"],
)
def test_columns_that_make_no_folders_are_refused(url: str, tmp_path: Path, by: list[str], words: str) -> None:
    with pytest.raises((ExportRefused, QueryFailed), match=words):
        exported(url, FolderStore(tmp_path), partition_by=by)


def test_more_partitions_than_allowed_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="more than 100 partitions"):
        exported(url, FolderStore(tmp_path), partition_by=["id"], options=DatasetOptions(most_partitions=100))


def test_values_of_a_query_and_what_it_asks_for_are_told_apart(url: str, tmp_path: Path) -> None:
    async def main(most: int, **named: Any) -> ExportReport:
        async with asked(url) as tables:
            rows = tables.select("SELECT id, day FROM entries WHERE id <= %(most)s", {"most": most})
            return await export_dataset(rows, to=FolderStore(tmp_path), partition_by=["day"], **named)

    assert asyncio.run(main(10)).rows == 10
    assert asyncio.run(main(10)).again
    with pytest.raises(ExportRefused, match="another query"):
        asyncio.run(main(11))


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("EU", "r=EU"),
        (None, "r=__HIVE_DEFAULT_PARTITION__"),
        ("../x", "r=..%2Fx"),
        ("é", "r=%C3%A9"),
        ("a=b%", "r=a%3Db%25"),
    ],
    ids=["plain", "null", "a path", "not ascii", "special"],
)
def test_a_value_cannot_lead_out_of_its_folder(value: str | None, folder: str) -> None:
    assert folder_of(["r"], (value,)) == folder


@pytest.mark.slow
def test_exports_that_are_killed_again_and_again_end_whole(url: str, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from tests.analytics.exports.test_dataset import exported\n"
        "from workhorse.state.objects import FolderStore\n"
        "exported(sys.argv[1], FolderStore(pathlib.Path(sys.argv[2])))\n"
    )
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO entries SELECT n, date '2026-01-01' + n % 40, 'US', random() * 1e9"
            " FROM generate_series(9001, 200000) AS n"
        )
    killed, folder = 0, tmp_path / "entries"
    for turn in range(3):
        command = [sys.executable, "-c", script, url, str(folder)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
        give_up = time.monotonic() + 20
        before = len(list(folder.glob("*/*/*.parquet")))
        while process.poll() is None and len(list(folder.glob("*/*/*.parquet"))) < before + 2 + 6 * turn:
            assert time.monotonic() < give_up
            time.sleep(0.005)
        process.kill()
        killed += process.wait(10) == -9
    assert killed >= 2
    report = exported(url, FolderStore(folder))
    assert report.rows == 200_000
    files = held(FolderStore(folder))
    assert set(files) == {file.name for file in report.files}
    assert ids(files) == list(range(1, 200_001))
