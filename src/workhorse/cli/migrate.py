"""`workhorse migrate`: bring the database's schema up to date, before the new version of the code starts."""

import argparse
import asyncio
import sys

from workhorse.cli.target import load_service
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.service.rooms import find_urls
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.migrate import Pending, apply_migrations, pending_migrations

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME = "migrate"
SUMMARY = "Apply the migrations that the database lacks: Workhorse's own, and the service's."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="the service whose own sets to apply too")
    parser.add_argument("--dry-run", action="store_true", help="say what is lacking, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Apply, or list, what is lacking."""
    settings = load_settings()
    sets = [WORKHORSE, *(load_service(arguments.target).migrations if arguments.target else ())]
    return asyncio.run(_migrate(settings, sets, dry_run=arguments.dry_run))


async def _migrate(settings: Settings, sets: list[Migrations], *, dry_run: bool) -> int:
    def report(pending: Pending) -> None:
        sys.stdout.write(f"{'lacks' if dry_run else 'applying'} {pending}\n")
        sys.stdout.flush()

    async with find_urls(settings) as urls:
        if dry_run:
            pending = await pending_migrations(urls.database, sets)
            for one in pending:
                report(one)
        else:
            pending = await apply_migrations(urls.database, sets, report=report)
    if not pending:
        sys.stdout.write("the database is up to date\n")
    return 0
