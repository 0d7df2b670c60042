"""Card numbers in tables and files where none should be (PCI DSS 4.0.1, 3.2.1 and A3.2.5).

The database looks for runs of digits of that length, and only what has one comes over the wire, to be held against the
check digit. What is found is told with its place, and masked.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workhorse.sql import load_queries
from workhorse.telemetry.cards import find_cards
from workhorse.units import Work

__all__ = ["Finding", "scan_database", "scan_file"]

RUN: Final = "[2-6]([ -]?[0-9]){12,18}"
PAGE: Final = 1_000
MAX_LINE: Final = 1_000_000
"""Characters of a line that are looked at as one; a number across the cut is found by the overlap."""
OVERLAP: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A card's number."""

    where: str
    """`schema.table.column`, or the file and its line."""
    masked: str
    row: str = ""
    """Of a table: where the row lies (its `ctid`), until it is changed."""


async def scan_database(work: Work) -> AsyncIterator[Finding]:
    """Look through each column of text and JSON of every table, except the server's own.

    Args:
        work: a unit; `read_only` is enough.
    """
    queries = load_queries("workhorse.privacy", "sql/queries.sql")
    columns = await (await work.execute(queries["columns_of_text"])).fetchall()
    for schema, table, column, sql in columns:
        await work.execute(f"DECLARE workhorse_scan NO SCROLL CURSOR FOR {sql}", (RUN,))
        while True:
            rows = await (await work.execute(f"FETCH {PAGE} FROM workhorse_scan")).fetchall()
            for row, text in rows:
                for card in find_cards(text):
                    yield Finding(where=f"{schema}.{table}.{column}", masked=card.masked, row=row)
            if len(rows) < PAGE:
                break
        await work.execute("CLOSE workhorse_scan")


def scan_file(path: Path) -> Iterator[Finding]:
    """Look through a file, such as a log, line by line, whatever it holds.

    Raises:
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        number = 1
        kept = ""
        while part := file.readline(MAX_LINE):
            for card in find_cards(kept + part):
                if card.end > len(kept):
                    yield Finding(where=f"{path}:{number}", masked=card.masked)
            ended = part.endswith("\n")
            kept = "" if ended else part[-OVERLAP:]
            number += ended
