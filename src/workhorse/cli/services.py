"""`workhorse services`: look at, stop, or reset the embedded servers of this project."""

import argparse
import sys
from typing import TYPE_CHECKING

from workhorse.settings import load_settings

if TYPE_CHECKING:
    from workhorse.embedded import Status

__all__ = ["NAME", "SUMMARY", "configure", "describe", "run"]

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
    from workhorse.embedded import reset, status, stop  # noqa: PLC0415 - only these verbs need them

    folder = load_settings().embedded_folder
    match arguments.action:
        case "status":
            sys.stdout.write(describe(status(folder)))
        case "stop":
            sys.stdout.write("stopped\n" if stop(folder) else "nothing was running\n")
        case _:
            if not arguments.yes and not _agreed(f"Delete all data of the embedded servers in {folder}? [y/N] "):
                sys.stdout.write("nothing was deleted\n")
                return 1
            deleted = reset(folder)
            sys.stdout.write("".join(f"deleted {path}\n" for path in deleted) or "there was nothing to delete\n")
    return 0


def describe(status: "Status") -> str:
    """The servers as lines for a terminal."""
    if not status.servers:
        return f"no servers in {status.folder}: `workhorse run` starts them\n"
    clients = "" if status.clients is None else f", {status.clients} attached"
    steward = f"running (steward {status.steward_pid}{clients})" if status.running else "stopped"
    lines = [f"{status.folder}: {steward}"]
    for server in status.servers:
        pid = f"pid {server.pid}" if server.pid else ""
        up = f"up {server.uptime_seconds:.0f} s" if server.uptime_seconds is not None else ""
        size = f"{server.data_bytes / 1_048_576:.1f} MB"
        restarts = f"restarted {server.restarts} times" if server.restarts else ""
        words = (server.version, pid, up, size, restarts, str(server.socket or ""), server.error)
        lines.append(f"  {server.name.value:<9} {server.state.value:<9} " + "  ".join(word for word in words if word))
    return "\n".join(lines) + "\n"


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("workhorse: nobody is here to ask; say --yes\n")
        return False
    return input(question).strip().lower() in {"y", "yes"}
