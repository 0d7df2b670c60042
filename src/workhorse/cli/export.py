"""`workhorse export TABLE_OR_QUERY --to WHERE`: a table or the result of a query into a file, or into a store.

    workhorse export entries --to entries.parquet
    workhorse export 'SELECT day, sum(amount) FROM entries GROUP BY day' --to days.csv
    workhorse export entries --to s3://bucket/entries/2026-11-23 --partition-by day

A file appears when it is whole; an export in a store goes on where a killed one stood. With `--service` the classes of
columns that the service declares hold, and readings of sensitive ones are noted: whoever exports is known by the name
of the account, and has the scopes that `--scope` says. Without it no classes are known, and the verb says so.
"""

import argparse
import asyncio
import getpass
import re
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from workhorse.cli.target import load_service
from workhorse.context import CURRENT, RequestContext
from workhorse.errors import SettingsError
from workhorse.principal import Kind, Principal
from workhorse.service.rooms import find_urls, open_rooms
from workhorse.service.tables import asking, open_frames
from workhorse.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from workhorse.analytics.tables import Format, Selection, Tables

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "export"
SUMMARY: Final = "Export a table or the result of a query: a file, or Parquet in the folders of a store."

_QUERY: Final = re.compile(r"\s*(SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_TABLE: Final = re.compile(r"[^\s.\"'%;()]+(\.[^\s.\"'%;()]+)?")
# How often a log, which is no terminal, is told how far it is.
TOLD_SECONDS: Final = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", metavar="TABLE_OR_QUERY", help="table, schema.table, or a SELECT in quotes")
    parser.add_argument(
        "--to", required=True, metavar="WHERE", help="a file; with --partition-by a folder, s3://, gs:// or az://"
    )
    parser.add_argument(
        "--format", choices=("parquet", "csv", "ndjson", "arrow", "json"), help="default: as the file's ending tells"
    )
    parser.add_argument(
        "--partition-by", metavar="COLUMNS", help="columns with commas between, of which folders are made (Parquet)"
    )
    parser.add_argument("--max-rows", type=int, default=1_000_000_000, help="refuse more (default: %(default)s)")
    parser.add_argument("--service", metavar="MODULE:SERVICE", help="whose classes of columns hold")
    parser.add_argument("--scope", action="append", default=[], help="that whoever exports has; may be repeated")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def run(arguments: argparse.Namespace) -> int:
    """Export."""
    statement = statement_of(arguments.what)
    store = arguments.partition_by is not None or "://" in arguments.to
    if store and arguments.format not in {None, "parquet"}:
        raise SettingsError(f"--format {arguments.format} makes one file; folders and stores hold Parquet")
    if arguments.scope and not arguments.service:
        raise SettingsError("--scope says what of a service's columns may be read; name it with --service")
    if not store:
        path = Path(arguments.to)
        if path.exists() and not arguments.force:
            raise SettingsError(f"{path} is there already; --force replaces it")
        if not path.parent.is_dir():
            raise SettingsError(f"the folder {path.parent} is not there; make it first")
    return asyncio.run(_export(arguments, statement, in_store=store))


def statement_of(what: str) -> str:
    """The query that is meant: a table by its name, or the query itself. A `%` in it is one.

    Raises:
        SettingsError: it is neither.
    """
    if _QUERY.match(what):
        return what.replace("%", "%%")
    if _TABLE.fullmatch(what):
        from workhorse.analytics.tables.columns import quoted  # noqa: PLC0415 - most verbs need no tables

        return f"TABLE {'.'.join(quoted(part) for part in what.split('.'))}"
    raise SettingsError(f"{what[:100]!r} is neither a table nor a query that begins with SELECT, WITH, VALUES or TABLE")


def format_of(path: Path, asked: str | None) -> "Format":
    """The format of a file.

    Raises:
        SettingsError: nothing tells it.
    """
    from workhorse.analytics.tables import Format  # noqa: PLC0415 - most verbs need no tables

    word = asked or path.suffix.removeprefix(".").lower()
    for format_ in Format:
        if format_.word == word:
            return format_
    raise SettingsError(
        f"the ending of {path.name!r} tells no format; say --format parquet, csv, ndjson, arrow or json"
    )


async def _export(arguments: argparse.Namespace, statement: str, *, in_store: bool) -> int:
    from workhorse.analytics.exports import export_dataset, write_file  # noqa: PLC0415 - as above
    from workhorse.state.objects import open_store  # noqa: PLC0415 - as above

    telling = _Telling()
    async with _tables(arguments) as tables:
        # The statement is the operator's own, who may ask this database whatever he likes.
        select: Any = tables.select
        name = arguments.what if _TABLE.fullmatch(arguments.what) else "rows"
        rows: Selection = select(statement, name=name, max_rows=arguments.max_rows)
        if in_store:
            by = [one.strip() for one in (arguments.partition_by or "").split(",") if one.strip()]
            store = open_store(arguments.to)
            report = await export_dataset(rows, to=store, partition_by=by, progress=telling.tell)
            telling.end()
            before = ", all of it before" if report.again else f", {report.resumed} before" if report.resumed else ""
            sys.stdout.write(
                f"{report.rows} rows in {len(report.files)} files, {report.bytes} bytes,"
                f" {report.partitions} partitions{before}\n"
            )
            return 0
        path = Path(arguments.to)
        try:
            file = await write_file(rows, path, format_of(path, arguments.format), progress=telling.tell)
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error}") from error
        telling.end()
        sys.stdout.write(f"{file.rows} rows, {file.bytes} bytes, sha256 {file.sha256}\n")
    return 0


@asynccontextmanager
async def _tables(arguments: argparse.Namespace) -> "AsyncGenerator[Tables]":
    """Tables to ask: the service's, or such without classes."""
    from workhorse.analytics.tables import Tables  # noqa: PLC0415 - as above

    if arguments.service:
        service = load_service(arguments.service)
        if service.tables is None:
            raise SettingsError(
                f"{arguments.service!r} has no tables, and so no classes of columns: leave --service out"
            )
        operator = RequestContext()
        operator.principal = Principal(
            subject=getpass.getuser(), issuer="operator", kind=Kind.KEY, scopes=frozenset(arguments.scope)
        )
        CURRENT.set(operator)
        async with open_rooms(service.settings, service.migrations) as rooms, asking(service, rooms):
            yield service.tables
        return
    sys.stderr.write("workhorse: without --service no classes of columns are known, and none is refused\n")
    settings = load_settings()
    async with find_urls(settings) as urls:
        frames = open_frames(settings, urls)
        try:
            yield Tables(frames, max_rows=cast("int", arguments.max_rows))
        finally:
            await frames.close()


class _Telling:
    """Tells how far it is: a terminal at each batch, on one line; a log now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def tell(self, rows: int) -> None:
        """So many rows are exported."""
        if self._terminal:
            sys.stderr.write(f"\r{rows:,} rows")
            sys.stderr.flush()
        elif time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            sys.stderr.write(f"{rows} rows\n")

    def end(self) -> None:
        """End the line."""
        if self._terminal:
            sys.stderr.write("\n")
