"""`workhorse services`: look at, stop, or reset the embedded servers of this project."""

import argparse
import sys

from workhorse.settings import load_settings

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME = "services"
SUMMARY = "Show, stop or reset the embedded servers of this project."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "action",
        choices=("status", "stop", "reset"),
        help="status: what runs where; stop: end them, data stays; reset: end them and delete their data",
    )
    parser.add_argument("--yes", action="store_true", help="for reset: do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done."""
    from workhorse.embedded import reset, status, stop  # noqa: PLC0415 - only this verb needs them

    folder = load_settings().embedded_folder
    match arguments.action:
        case "status":
            sys.stdout.write(f"{status(folder)}\n")
        case "stop":
            sys.stdout.write("stopped\n" if stop(folder) else "nothing was running\n")
        case _:
            if not arguments.yes and not _agreed(f"Delete all data of the embedded servers in {folder}? [y/N] "):
                sys.stdout.write("nothing was deleted\n")
                return 1
            sys.stdout.write(f"{reset(folder)}\n")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("workhorse: nobody is here to ask; say --yes\n")
        return False
    return input(question).strip().lower() in {"y", "yes"}
