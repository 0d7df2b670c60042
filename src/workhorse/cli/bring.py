"""`workhorse import FILE --into TABLE`: a file of CSV, NDJSON, Parquet or Arrow into a table, checked and once."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from workhorse.service.rooms import find_urls
from workhorse.settings import load_settings

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "import"
SUMMARY: Final = "Import a file of CSV, NDJSON, Parquet or Arrow into a table; the same file only once."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file", type=Path, help="its ending tells the format: .csv, .ndjson, .parquet, .arrow; .gz, .zst"
    )
    parser.add_argument("--into", required=True, metavar="TABLE", help="table, or schema.table")
    parser.add_argument("--quarantine", action="store_true", help="leave bad rows out instead of refusing the file")
    parser.add_argument("--report", type=Path, help="where bad rows are written to, an object of JSON a line")
    parser.add_argument("--delimiter", default=",", help="between the cells of CSV (default: a comma)")


def run(arguments: argparse.Namespace) -> int:
    """Import; exit code 1 if rows were left out."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    from workhorse.analytics.imports import ImportOptions, import_file  # noqa: PLC0415 - most verbs need neither
    from workhorse.state.postgres.ingest import PostgresIngest  # noqa: PLC0415 - as above

    options = ImportOptions(
        mode="quarantine" if arguments.quarantine else "all", delimiter=arguments.delimiter, report=arguments.report
    )
    async with find_urls(load_settings()) as urls:
        report = await import_file(
            arguments.file,
            into=arguments.into,
            sink=lambda: PostgresIngest(urls.database),
            options=options,
            progress=lambda rows: sys.stderr.write(f"{rows} rows\n"),
        )
    before = ", all of them before" if report.again else ""
    sys.stdout.write(f"{report.rows} rows, {report.written} written{before}\n")
    return int(bool(report.refused))
