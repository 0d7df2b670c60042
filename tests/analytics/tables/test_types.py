"""What a column holds comes out as it is, in Arrow and as text; and what Arrow has no place for is refused by name."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.tables.test_reply import get, run
from workhorse.analytics.imports import ImportOptions, import_file
from workhorse.analytics.tables import Access, Cells, Tables
from workhorse.analytics.tables.access import ColumnsRefused
from workhorse.contracts.frames import QueryFailed
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.postgres.ingest import PostgresIngest
from workhorse.state.postgres.migrate import apply_migrations

ID = UUID("5b2e1f5a-6a3f-4f0e-9a1b-0c6a5d4e3f21")
# Expression, the value in Arrow, and in JSON.
VALUES: list[tuple[str, Any, Any]] = [
    ("true", True, True),
    ("32767::int2", 32767, 32767),
    ("9007199254740993::int8", 9007199254740993, 9007199254740993),
    ("0.1::float8", 0.1, 0.1),
    ("'Infinity'::float8", float("inf"), "Infinity"),
    ("12.30::numeric(9,2)", Decimal("12.30"), "12.30"),
    (f"{'9' * 50}.5::numeric(60,1)", Decimal("9" * 50 + ".5"), "9" * 50 + ".5"),
    ("sum(1::bigint)", "1", "1"),
    ("'é'::varchar(3)", "é", "é"),
    ("'\\x00ff'::bytea", b"\x00\xff", "\\x00ff"),
    (f"'{ID}'::uuid", ID, str(ID)),
    ("date '0001-01-01'", date(1, 1, 1), "0001-01-01"),
    ("timestamptz '2026-01-01 00:00:00.123456+02'", datetime(2025, 12, 31, 22, 0, 0, 123456, UTC), None),
    ("timestamp '2026-01-01'", datetime(2026, 1, 1), "2026-01-01T00:00:00"),  # noqa: DTZ001 - of a column without a zone
    ("time '12:30'", time(12, 30), "12:30:00"),
    ("array[1,null]::int[]", [1, None], [1, None]),
    ("array['a','b']", ["a", "b"], ["a", "b"]),
    ("'{\"a\": [1]}'::jsonb", '{"a": [1]}', {"a": [1]}),
    ("'10.0.0.1'::inet", "10.0.0.1/32", "10.0.0.1/32"),
    ("int4range(1,5)", "[1,5)", "[1,5)"),
    ("row(1,'a')", '{"f1": 1, "f2": "a"}', {"f1": 1, "f2": "a"}),
    ("12.5::money", "12.50", "12.50"),
    ("NULL::uuid", None, None),
]


def arrow(url: str, query: Any, *params: object, **more: Any) -> pa.Table:
    async def script(tables: Tables) -> pa.Table:
        return await tables.select(query, params, **more).table()

    table: pa.Table = run(url, script)
    return table


def test_every_type_is_kept_in_arrow_and_in_json(database_url: str) -> None:
    query = "SELECT " + ", ".join(f"{text} AS c{number}" for number, (text, *_) in enumerate(VALUES))
    (row,) = arrow(database_url, query).to_pylist()
    assert list(row.values()) == [value for _, value, _ in VALUES]
    (row,) = get(database_url, query).json()
    told = list(row.values())
    assert datetime.fromisoformat(told.pop(12)) == VALUES[12][1]
    assert told == [value for number, (_, _, value) in enumerate(VALUES) if number != 12]


UNFIT = ["'infinity'::timestamptz", "'-infinity'::timestamp", "'infinity'::date", "'NaN'::numeric(5,2)"]


def test_what_arrow_has_no_place_for_is_refused_by_name_or_null(database_url: str) -> None:
    for text in UNFIT:
        query = f"SELECT {text} AS odd FROM generate_series(1, 2)"  # noqa: S608 - the words above
        with pytest.raises(QueryFailed, match="'odd' has"):
            arrow(database_url, query)
        assert arrow(database_url, query, unfit="null").to_pylist() == [{"odd": None}, {"odd": None}]
        told = get(database_url, query).json()[0]["odd"]
        assert told in {"infinity", "-infinity", "NaN"}


def test_an_array_of_two_dimensions_does_not_come_flat(database_url: str) -> None:
    query = "SELECT array[[1,2],[3,4]] AS grid"
    with pytest.raises(QueryFailed, match="2 dimensions in grid"):
        arrow(database_url, query)
    assert get(database_url, query).json() == [{"grid": [[1, 2], [3, 4]]}]


def test_names_of_columns_are_kept_whatever_they_hold(database_url: str) -> None:
    query = 'SELECT 1 AS "a""b", array[1] AS "it\'s; --", 2 AS c FROM (SELECT 1) z WHERE false'
    assert arrow(database_url, query).schema.names == ['a"b', "it's; --", "c"]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | TEXTS,
        st.none() | st.decimals(-(10**16), 10**16, places=6, allow_nan=False, allow_infinity=False),
        st.none() | st.uuids(),
        st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
        st.none() | st.floats(allow_nan=False),
        st.none() | st.lists(st.none() | TEXTS, max_size=3),
        st.none() | st.dictionaries(TEXTS, st.integers(-1000, 1000) | TEXTS | st.none(), max_size=3),
        st.none() | st.binary(max_size=10),
        st.none() | st.dates(),
        st.none() | st.booleans(),
    ),
    max_size=20,
)
COLUMNS = "i int8, t text, n numeric(24,6), u uuid, s timestamptz, f float8, l text[], j jsonb, b bytea, d date, o bool"
ORDERED = "SELECT {} FROM {} ORDER BY {}"


@pytest.mark.slow
@given(rows=ROWS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_out_comes_in_again_the_same(database_url: str, tmp_path: Path, rows: Sequence[Any]) -> None:
    asyncio.run(apply_migrations(database_url, [WORKHORSE]))
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE IF EXISTS a, b, c")
        for name in "abc":
            connection.execute(f"CREATE TABLE {name} ({COLUMNS})".encode())
        with connection.cursor() as cursor:
            made = [(*row[:7], None if row[7] is None else json.dumps(row[7]), *row[8:]) for row in rows]
            cursor.executemany(f"INSERT INTO a VALUES ({', '.join(['%s'] * 11)})".encode(), made)  # noqa: S608 - marks
        connection.execute("TRUNCATE workhorse.imports")
    table = arrow(database_url, "SELECT * FROM a")
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with pa.OSFile(str(tmp_path / "c.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    for name, ending in (("b", "parquet"), ("c", "arrow")):
        path = tmp_path / f"{name}.{ending}"
        report = asyncio.run(
            import_file(path, into=name, sink=lambda: PostgresIngest(database_url), options=ImportOptions())
        )
        assert report.written == len(rows)
    with psycopg.connect(database_url) as connection:
        for one in "bc":
            differs = f"(TABLE a EXCEPT ALL TABLE {one}) UNION ALL (TABLE {one} EXCEPT ALL TABLE a)"
            assert connection.execute(differs.encode()).fetchall() == []


class House:
    """Names are personal, health is masked for everybody, and what is not listed is unknown."""

    def class_of(self, column: str) -> str | None:
        return {"id": "public", "name": "personal", "n": "public"}.get(column)

    def access(self, class_: str, principal: Any) -> Access:
        return {"public": Access.ALLOW, "personal": Access.ALLOW, "health": Access.MASK}.get(class_, Access.REFUSE)

    def audited(self, class_: str) -> bool:
        return class_ == "personal"


def guarded(url: str, script: Callable[[Tables], Any]) -> list[tuple[Any, ...]]:
    """Run a script on tables with classes, and return the events that were noted."""

    async def main() -> None:
        await apply_migrations(url, [WORKHORSE])
        frames, database = PostgresFrames(url), PostgresDatabase(url)
        await database.open()
        try:
            await script(Tables(frames, privacy=House(), database=database))
        finally:
            await frames.close()
            await database.close()

    asyncio.run(main())
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT type, subject, data FROM workhorse.events").fetchall()


def test_columns_are_allowed_masked_or_refused_by_their_class_and_readings_are_noted(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        query = "SELECT 1 AS id, 'flu' AS illness"
        seen = await tables.select(query, classes={"illness": "health"}).table()
        assert seen.to_pylist() == [{"id": 1, "illness": None}]
        assert seen.schema.field("illness").type == pa.string()
        with pytest.raises(ColumnsRefused, match="illness"):
            await tables.select(query).table()
        with pytest.raises(ColumnsRefused, match="illness"):
            await tables.select(query, classes={"illness": "card"}).table()
        assert (await tables.select("SELECT 'Ada' AS name", name="names").table()).num_rows == 1

    assert guarded(database_url, script) == [
        ("analytics.read", "anonymous", {"query": "names", "columns": {"name": "personal"}})
    ]


def test_groups_too_small_to_hide_in_are_left_out(database_url: str) -> None:
    async def script(tables: Tables) -> None:
        query = "SELECT id, n FROM (VALUES (1, 4), (2, 5), (3, NULL)) v(id, n)"
        assert (await tables.select(query, cells=Cells(count="n")).table()).to_pylist() == [{"id": 2, "n": 5}]

    guarded(database_url, script)
