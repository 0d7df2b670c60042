"""`workhorse migrate`: bring the database's schema up to date, before the new version of the code starts."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from workhorse.cli.target import load_service
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.migrations.safety import lint
from workhorse.migrations.standing import Place, Standing
from workhorse.service.rooms import find_urls
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.migrate import Patience, apply_migrations, read_standing, render_pending

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "migrate"
SUMMARY: Final = "Apply the migrations that the database lacks: Workhorse's own, and the service's."
UP_TO_DATE: Final = "the database is up to date"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    usual = Patience()
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="the service whose own sets to apply too")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--status", action="store_true", help="list all, with when each was applied; exit code 1 if any is lacking"
    )
    what.add_argument("--dry-run", action="store_true", help="name what is lacking, and change nothing")
    what.add_argument("--sql", action="store_true", help="print the SQL of what is lacking, and change nothing")
    what.add_argument(
        "--check",
        action="store_true",
        help="look for what is not safe while the old version serves, and, where a database is named, for what it"
        " lacks; exit code 1 if there is any",
    )
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=usual.retry_seconds,
        metavar="SECONDS",
        help="how long one migration is tried again while others hold a lock (default: %(default)g)",
    )
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=usual.deadline_seconds,
        metavar="SECONDS",
        help="when to give up, all in all (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Apply, list, or look."""
    own = load_service(arguments.target).migrations if arguments.target else ()
    sets = [WORKHORSE, *own]
    settings = load_settings()
    if arguments.check:
        return asyncio.run(_check(settings, sets))
    if arguments.status:
        return asyncio.run(_status(settings, sets))
    if arguments.dry_run or arguments.sql:
        return asyncio.run(_tell_lacking(settings, sets, as_sql=arguments.sql))
    patience = Patience(retry_seconds=arguments.patience, deadline_seconds=arguments.deadline)
    return asyncio.run(_migrate(settings, sets, patience))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


async def _migrate(settings: Settings, sets: Sequence[Migrations], patience: Patience) -> int:
    async with find_urls(settings) as urls:
        pending = await apply_migrations(
            urls.database, sets, report=lambda one: _say(f"applying {one}"), say=_remark, patience=patience
        )
    if not pending:
        _say(UP_TO_DATE)
    return 0


async def _tell_lacking(settings: Settings, sets: Sequence[Migrations], *, as_sql: bool) -> int:
    standing = await _read(settings, sets)
    standing.require()
    if as_sql:
        _say(render_pending(standing).rstrip() or f"-- {UP_TO_DATE}")
        return 0
    for one in standing.pending:
        _say(f"lacks {one}")
    if not standing.pending:
        _say(UP_TO_DATE)
    return 0


async def _status(settings: Settings, sets: Sequence[Migrations]) -> int:
    standing = await _read(settings, sets)
    widest = max((len(row.set_name) for row in standing.rows), default=0)
    for row in standing.rows:
        when = f"{row.applied_at:%Y-%m-%d %H:%M:%S%z}" if row.applied_at else "-"
        remark = "" if row.place is Place.APPLIED else f"  {row.place.value}"
        _say(f"{row.set_name:{widest}}  {row.number:04d}  {when:24}  {row.name}{remark}")
    standing.require()
    return int(bool(standing.pending))


async def _check(settings: Settings, sets: Sequence[Migrations]) -> int:
    """Look at the files, and, unless that would start an embedded server, at the database."""
    findings = lint(sets)
    for finding in findings:
        _say(str(finding))
    unsafe = len(findings)
    _say(f"{unsafe} not safe while the old version serves" if unsafe else "all migrations are safe")
    if settings.database.url is None:
        return int(bool(unsafe))
    standing = await _read(settings, sets)
    standing.require()
    for one in standing.pending:
        _say(f"lacks {one}")
    return int(bool(unsafe or standing.pending))


async def _read(settings: Settings, sets: Sequence[Migrations]) -> Standing:
    async with find_urls(settings) as urls:
        return await read_standing(urls.database, sets)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _remark(line: str) -> None:
    sys.stderr.write(f"workhorse: {line}\n")
    sys.stderr.flush()
