"""`workhorse config`: every setting, its value, unit and source, with secrets masked."""

import argparse
import json
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Final

from pydantic import SecretStr

from workhorse.settings import SettingRow, load_settings
from workhorse.telemetry.redaction import redact_url

__all__ = ["NAME", "SUMMARY", "configure", "display", "run"]

NAME = "config"
SUMMARY = "Print every setting: value, unit and where it comes from. Secrets are masked."

MASK: Final = "********"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON, with the description of each setting")


def run(arguments: argparse.Namespace) -> int:
    """Print the settings as they are here and now."""
    rows = list(load_settings().rows())
    if arguments.json:
        values = [
            {
                "name": row.name,
                "value": display(row),
                "unit": row.unit,
                "source": row.source,
                "description": row.description,
            }
            for row in rows
        ]
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(
            _table([("setting", "value", "unit", "source"), *((r.name, display(r), r.unit, r.source) for r in rows)])
        )
    return 0


def display(row: SettingRow) -> str:
    """The value for human eyes. Of a secret URL the place is shown, and not the password."""
    value = row.value
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return redact_url(secret) if "://" in secret else MASK
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value) or "-"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"
