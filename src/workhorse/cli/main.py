"""Reads the command line and hands over to a verb.

A verb module offers `NAME`, `SUMMARY`, `configure(parser)` and `run(arguments) -> exit code`. Exit codes: 0 done, 1 it
failed and says why, 2 the command line or a setting is wrong.
"""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from workhorse import __version__
from workhorse.cli import audit, bring, check, config, export, jobs, migrate, privacy, run, services, token, worker
from workhorse.errors import SettingsError, WorkhorseError

__all__ = ["main"]

VERBS: Final[tuple[ModuleType, ...]] = (
    run,
    worker,
    jobs,
    bring,
    export,
    check,
    audit,
    privacy,
    config,
    token,
    migrate,
    services,
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="workhorse",
        description="Takes the app that a team already has and makes it a service that a bank can run.",
        epilog="`workhorse VERB --help` explains one verb. Settings: `workhorse config`.",
    )
    parser.add_argument("--version", action="version", version=f"workhorse {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        subparser = verbs.add_parser(verb.NAME, help=verb.SUMMARY, description=verb.SUMMARY)
        verb.configure(subparser)
        subparser.set_defaults(verb=verb)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.verb.run(arguments)
    except SettingsError as error:
        sys.stderr.write(f"workhorse: {error}\n")
        return 2
    except WorkhorseError as error:
        sys.stderr.write(f"workhorse: {error}\n")
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    return code
