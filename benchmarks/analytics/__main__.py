"""How fast rows leave and enter the database as tables, beside the usual ways, on one Postgres, in one run.

    python -m analytics exports
    python -m analytics imports
    python -m analytics measures
    python -m analytics beside
    python -m analytics exports --rows 5000000

`exports`: rows per second from the database to an Arrow stream's end, and to the end of the usual endpoint's JSON (an
ORM's objects, validated and written by pydantic), beside COPY in binary form whose bytes nobody reads, and bare ADBC.
Memory is what the process grew by. `imports`: rows per second of a Parquet and of a CSV file, checked, in short
transactions, beside COPY of bytes that were made before. `measures`: how fast events are counted, how soon that is
seen, and how fast a year of it is read (`measuring`); its rows are events, one a minute. `beside`:
what a transaction waits for while somebody asks a heavy question (`beside`).
"""

import argparse
import asyncio
import io
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.analytics.beside import beside
from benchmarks.analytics.measuring import measures
from benchmarks.figures import Claim
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse.analytics.imports import ImportOptions, import_file
from workhorse.analytics.tables import TableReply, Tables
from workhorse.embedded import attach, drop_database, fresh_database
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.postgres.ingest import PostgresIngest
from workhorse.state.postgres.migrate import apply_migrations

COLUMNS: Final = (
    "entry_id uuid NOT NULL, account_id int8 NOT NULL, amount int8 NOT NULL, currency text NOT NULL,"
    " booked_at timestamptz NOT NULL, description text NOT NULL, meta jsonb NOT NULL, rate numeric(18,6) NOT NULL"
)
FILL: Final = """INSERT INTO ledger SELECT gen_random_uuid(), g, g * 7, 'EUR', now() + g * interval '1 second',
    'payment number ' || g, jsonb_build_object('channel', 'web', 'n', g), g * 0.000137 FROM generate_series(1, %s) g"""
# The usual endpoint is so slow that a share of the rows tells its rate.
USUAL_SHARE: Final = 20
ROWS: Final = 1_000_000
YEAR: Final = 365 * 24 * 60
"""Of one a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One way."""

    name: str
    rows_per_second: float
    grown_mb: float


def timed(name: str, rows: int, do: Callable[[], int]) -> Figure:
    """Do it, and see that it was all of the rows."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    seen = do()
    seconds = time.perf_counter() - began
    if seen != rows:
        raise MeasurementError(f"{name}: {seen} rows of {rows}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Figure(name=name, rows_per_second=rows / seconds, grown_mb=grown / 1024)


def copy_out(url: str) -> int:
    """Raw COPY: the bytes are counted, and nothing is made of them."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY ledger TO STDOUT (FORMAT binary)") as copy:
            for _ in copy:
                pass
        return cursor.rowcount


def adbc_out(url: str) -> int:
    """The driver alone, in its own types."""
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(1024 * 1024)})
        cursor.execute("SELECT * FROM ledger")
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())


def ours_out(url: str, rows: int) -> Callable[[], int]:
    """The reply as it is sent; the client is not measured."""

    async def main() -> int:
        frames = PostgresFrames(url, work_mem_bytes=4 * 1024 * 1024)
        ended = False

        async def send(message: Any) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message["more_body"]

        async def receive() -> Any:
            return await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "query_string": b"format=arrow", "headers": []}
        try:
            await TableReply(Tables(frames).select("SELECT * FROM ledger", max_rows=rows))(scope, receive, send)
        finally:
            await frames.close()
        return rows if ended else 0

    return lambda: asyncio.run(main())


def usual_out(url: str, rows: int) -> Callable[[], int]:
    """An ORM's objects through pydantic to JSON, as a handler with a response model does."""
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from pydantic import BaseModel, ConfigDict, TypeAdapter
    from sqlalchemy import create_engine, select
    from sqlalchemy.dialects.postgresql import JSONB
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        """Of this mapping."""

    class Ledger(Base):
        """A row."""

        __tablename__ = "ledger"
        entry_id: Mapped[UUID] = mapped_column(primary_key=True)
        account_id: Mapped[int]
        amount: Mapped[int]
        currency: Mapped[str]
        booked_at: Mapped[datetime]
        description: Mapped[str]
        meta: Mapped[dict[str, Any]] = mapped_column(JSONB)
        rate: Mapped[Decimal]

    class Out(BaseModel):
        """A row, as it is sent."""

        model_config = ConfigDict(from_attributes=True)
        entry_id: UUID
        account_id: int
        amount: int
        currency: str
        booked_at: datetime
        description: str
        meta: dict[str, Any]
        rate: Decimal

    def do() -> int:
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
        try:
            with Session(engine) as session:
                found = session.execute(select(Ledger).limit(rows)).scalars().all()
                adapter = TypeAdapter(list[Out])
                adapter.dump_json(adapter.validate_python(found, from_attributes=True))
                return len(found)
        finally:
            engine.dispose()

    # Resolved here, since the classes are local.
    namespace = {"Decimal": Decimal, "datetime": datetime, "UUID": UUID}
    Out.model_rebuild(_types_namespace=namespace)
    return do


async def exports(url: str, rows: int) -> str:
    """Measure the ways out. What grows most comes last, since a process's peak does not shrink."""
    share = max(1, rows // USUAL_SHARE)
    await asyncio.to_thread(copy_out, url)  # warm
    figures = [
        await asyncio.to_thread(timed, "COPY", rows, lambda: copy_out(url)),
        await asyncio.to_thread(timed, "ADBC", rows, lambda: adbc_out(url)),
        await asyncio.to_thread(timed, "workhorse", rows, ours_out(url, rows)),
        await asyncio.to_thread(timed, "ORM + JSON", share, usual_out(url, share)),
    ]
    copy, _, ours, usual = figures
    return report(
        figures,
        [
            Claim("exports.rows_per_row_of_json", ours.rows_per_second / usual.rows_per_second, 10),
            Claim("exports.share_of_copy", ours.rows_per_second / copy.rows_per_second, 0.5),
            Claim("exports.grown_mb", ours.grown_mb, 64, "<"),
        ],
    )


async def imports(url: str, rows: int) -> str:
    """Measure the ways in."""
    import pyarrow.csv
    import pyarrow.parquet

    frames = PostgresFrames(url)
    table = await Tables(frames).select("SELECT * FROM ledger", max_rows=rows).table()
    await frames.close()
    with tempfile.TemporaryDirectory() as folder:
        parquet, text = Path(folder) / "ledger.parquet", Path(folder) / "ledger.csv"
        pyarrow.parquet.write_table(table, parquet)
        with (
            psycopg.connect(url) as connection,
            connection.cursor() as cursor,
            text.open("wb") as file,
            cursor.copy("COPY ledger TO STDOUT (FORMAT csv, HEADER)") as copy,
        ):
            for part in copy:
                file.write(part)
        del table
        held = io.BytesIO()
        with (
            psycopg.connect(url) as connection,
            connection.cursor() as cursor,
            cursor.copy("COPY ledger TO STDOUT (FORMAT binary)") as copy,
        ):
            for part in copy:
                held.write(part)

        def copy_in() -> int:
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                held.seek(0)
                with cursor.copy("COPY filled FROM STDIN (FORMAT binary)") as copy:
                    while part := held.read(256 * 1024):
                        copy.write(part)
                return cursor.rowcount

        def ours_in(path: Path) -> Callable[[], int]:
            options = ImportOptions(mode="quarantine")

            def do() -> int:
                return asyncio.run(
                    import_file(path, into="filled", sink=lambda: PostgresIngest(url), options=options)
                ).written

            return do

        figures: list[Figure] = []
        for name, do in (("COPY", copy_in), ("Parquet", ours_in(parquet)), ("CSV", ours_in(text))):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"DROP TABLE IF EXISTS filled; CREATE TABLE filled ({COLUMNS})".encode())
                connection.execute("CHECKPOINT")
            figures.append(await asyncio.to_thread(timed, name, rows, do))
    copy_, ours, from_text = figures
    return report(
        figures,
        [
            Claim("imports.parquet_share_of_copy", ours.rows_per_second / copy_.rows_per_second, 0.45),
            Claim("imports.csv_share_of_copy", from_text.rows_per_second / copy_.rows_per_second, 0.45),
        ],
    )


def report(figures: Sequence[Figure], claims: Sequence[Claim]) -> str:
    """The table and the claims."""
    lines = [f"{'':12} {'rows/s':>10} {'grown MB':>9}"]
    lines += [f"{one.name:12} {one.rows_per_second:10,.0f} {one.grown_mb:9.0f}" for one in figures]
    return "\n".join([*lines, "", *map(str, claims)])


SUBJECTS: Final[dict[str, Callable[[str, int], Awaitable[str]]]] = {
    "exports": exports,
    "imports": imports,
    "measures": measures,
    "beside": beside,
}


async def measure(what: str, rows: int) -> str:
    """Measure on a database of this run's own.

    Raises:
        MeasurementError: something was not as it should have been; then there are no figures.
    """
    with tempfile.TemporaryDirectory() as folder, attach(Path(folder), linger_seconds=0) as servers:
        url = fresh_database(servers.database_url)
        await apply_migrations(url, [WORKHORSE])
        if what != "measures":
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE TABLE ledger ({COLUMNS})".encode())
                connection.execute(FILL, (rows,))
                connection.execute("VACUUM ANALYZE ledger")
        try:
            return await SUBJECTS[what](url, rows)
        finally:
            drop_database(url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m analytics", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=tuple(SUBJECTS))
    parser.add_argument("--rows", type=int, help="rows of the table (1000000), or events (525600: a year)")
    given = parser.parse_args(arguments)
    return conduct(measure(given.what, given.rows or (YEAR if given.what == "measures" else ROWS)))


if __name__ == "__main__":
    sys.exit(main())
