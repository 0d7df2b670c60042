"""`workhorse check bank.app:service`: what guards each route, and what a change took away.

Nothing is started and no server is needed: the map comes from the code and the settings. Kept in the repository and
given back with `--against`, it makes a pipeline fail when a route lost a control.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from workhorse.cli.target import load_service
from workhorse.errors import SettingsError
from workhorse.guard.controls import ControlMap, Loss, RouteControls, Value, lost

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "check"
SUMMARY: Final = "Print what guards each route, and fail if a route lost a control since the committed map."
KIBIBYTE: Final = 1024
_LINE: Final = re.compile(r":\d+(?= |$)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:SERVICE", help="for example bank.app:service")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the map as JSON, to be committed")
    parser.add_argument("--against", type=Path, metavar="FILE", help="fail (exit 1) if a control of this map was lost")


def run(arguments: argparse.Namespace) -> int:
    """Print the map; compare it; write it."""
    now = load_service(arguments.target).controls()
    sys.stdout.write(render(now))
    code = 0
    if arguments.against is not None:
        losses = lost(read(arguments.against), now)
        sys.stdout.write(render_losses(losses, arguments.against))
        code = 1 if losses else 0
    if arguments.write is not None and not code:
        write(arguments.write, now)
    return code


def read(path: Path) -> ControlMap:
    """Read a committed map.

    Raises:
        SettingsError: it is not there, or is no such map.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ControlMap)
    except FileNotFoundError:
        raise SettingsError(f"{path} is not there; make it with --write {path}, and commit it") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{path} cannot be read as a map of controls: {error}") from error


def write(path: Path, controls: ControlMap) -> None:
    """Write the map: sorted and indented, so that a change of it reads as one. Whole or not at all.

    Without the lines of the handlers, which move with every edit and are no control.
    """
    routes = [msgspec.structs.replace(route, handler=_LINE.sub("", route.handler)) for route in controls.routes]
    kept = msgspec.structs.replace(controls, routes=routes)
    text = msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def render(controls: ControlMap) -> str:
    """The map as a table."""
    rows: list[tuple[str, ...]] = [("ROUTE", "CALLER", "RATE", "IDEMPOTENCY", "BODY", "DEADLINE", "MORE", "HANDLER")]
    rows += [_row(route) for route in controls.routes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", "On every route:"]
    lines += [f"  {name}: {_value(value)}" for name, value in sorted(controls.everywhere.items())]
    return "\n".join(lines) + "\n"


def render_losses(losses: Sequence[Loss], against: Path) -> str:
    """What was lost, one line each."""
    if not losses:
        return f"\nNo control was lost since {against}.\n"
    lines = [f"  {loss.where}: {loss.control} was {loss.was}, is {loss.now}" for loss in losses]
    advice = f"Give them back, or accept it: run again with --write {against} and without --against."
    return "\n".join(["", f"LOST since {against}:", *lines, advice]) + "\n"


def _row(route: RouteControls) -> tuple[str, ...]:
    more: list[str] = [*route.content_types]
    if route.priority != "normal":
        more.append(f"priority {route.priority}")
    if route.audit != "none":
        more.append(f"audit {route.audit}")
    if route.cross_site:
        more.append("CROSS-SITE TAKEN")
    return (
        route.route,
        " ".join(route.scopes) or route.caller,
        "; ".join(rate.partition(", burst")[0] for rate in route.rates) or "-",
        route.idempotency if route.idempotency != "none" else "-",
        _size(route.max_body_bytes),
        f"{route.deadline_seconds:g} s",
        ", ".join(more) or "-",
        route.handler,
    )


def _size(count: int) -> str:
    for unit, size in (("MiB", KIBIBYTE**2), ("KiB", KIBIBYTE)):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} B"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)
