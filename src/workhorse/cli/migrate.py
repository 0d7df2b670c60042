"""`workhorse migrate`: bring the database's schema up to date, before the new version of the code starts."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from workhorse.cli.target import load_service
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.migrations.safety import hazards
from workhorse.service.rooms import find_urls
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.migrate import (
    PATIENCE_SECONDS,
    Applied,
    Pending,
    Unknown,
    apply_migrations,
    list_migrations,
    pending_migrations,
)

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "migrate"
SUMMARY: Final = "Apply the migrations that the database lacks: Workhorse's own, and the service's."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="the service whose own sets to apply too")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="list all, with when each was applied; 1 if any is lacking")
    what.add_argument("--dry-run", action="store_true", help="say what is lacking, and change nothing")
    what.add_argument("--sql", action="store_true", help="print the SQL of what is lacking, and change nothing")
    what.add_argument(
        "--check",
        action="store_true",
        help="look for what is not safe while the old version serves; needs no database; 1 if there is any",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="how long to try again where others hold a lock (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Apply, list, or look."""
    sets = [WORKHORSE, *(load_service(arguments.target).migrations if arguments.target else ())]
    if arguments.check:
        return _check(sets)
    settings = load_settings()
    if arguments.status:
        return asyncio.run(_status(settings, sets))
    if arguments.dry_run or arguments.sql:
        return asyncio.run(_tell_lacking(settings, sets, sql=arguments.sql))
    return asyncio.run(_migrate(settings, sets, patience=arguments.patience))


async def _migrate(settings: Settings, sets: Sequence[Migrations], *, patience: float) -> int:
    def waiting(pending: Pending, seconds: float) -> None:
        _say(f"waiting  {pending}: others hold its lock; again in {seconds:g} s")

    async with find_urls(settings) as urls:
        pending = await apply_migrations(
            urls.database,
            sets,
            report=lambda one: _say(f"applying {one}"),
            waiting=waiting,
            patience_seconds=patience,
        )
    if not pending:
        _say("the database is up to date")
    return 0


async def _tell_lacking(settings: Settings, sets: Sequence[Migrations], *, sql: bool) -> int:
    async with find_urls(settings) as urls:
        pending = await pending_migrations(urls.database, sets)
    for one in pending:
        _say(f"-- {one}\n{one.migration.sql.strip()}\n" if sql else f"lacks {one}")
    if not pending:
        _say("-- the database is up to date" if sql else "the database is up to date")
    return 0


async def _status(settings: Settings, sets: Sequence[Migrations]) -> int:
    async with find_urls(settings) as urls:
        listed = await list_migrations(urls.database, sets)
    for one in listed:
        match one:
            case Applied():
                _say(f"{one.at:%Y-%m-%d %H:%M:%S%z}  {Pending(one.migrations, one.migration)}")
            case Unknown():
                _say(f"{one.at:%Y-%m-%d %H:%M:%S%z}  {one.set_name} {one.number:04d}_{one.name}  (of a newer version)")
            case Pending():
                _say(f"{'lacking':24}  {one}")
    return int(any(isinstance(one, Pending) for one in listed))


def _check(sets: Sequence[Migrations]) -> int:
    """Look at all migrations, those of long ago included: which one a database lacks is not known here."""
    found = 0
    for migrations in sets:
        for migration in migrations.load():
            for hazard in hazards(migration.sql):
                found += 1
                _say(f"{migrations.name} {migration.number:04d}_{migration.name}, {hazard}")
    _say(f"{found} statements are not safe while the old version serves" if found else "all migrations are safe")
    return int(bool(found))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
