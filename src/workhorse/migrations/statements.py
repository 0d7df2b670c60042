"""Cuts the text of a migration into its statements: at each semicolon that stands in no string, body or comment.

Enough of Postgres' lexical structure for that (manual, section 4.1), and no more: nothing is parsed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Statement", "statements"]

_TOKEN: Final = re.compile(
    r"(?P<line>--[^\n]*)"
    r"|(?P<block>/\*)"
    r"|(?P<string>[eE]?'(?:[^'\\]|''|\\.)*')"
    r'|(?P<name>"(?:[^"]|"")*")'
    r"|(?P<dollar>\$(?:[A-Za-z_]\w*)?\$)"
    r"|(?P<end>;)",
    re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement."""

    line: int
    """Where it begins, from 1."""
    words: str
    """Its text with one blank between words, strings and bodies as `''`, and without comments. Names as written."""
    notes: tuple[str, ...]
    """The comments above it and in it, without their dashes."""


def statements(sql: str) -> Iterator[Statement]:
    """The statements of `sql`, in order; one that is not ended is the last."""
    text: list[str] = []
    notes: list[str] = []
    line = 0
    place = 0

    def take(piece: str, begin: int) -> None:
        nonlocal line
        if piece.strip() and not line:
            line = sql.count("\n", 0, begin + len(piece) - len(piece.lstrip())) + 1
        text.append(piece)

    while match := _TOKEN.search(sql, place):
        take(sql[place : match.start()], place)
        place = match.end()
        kind = match.lastgroup
        if kind == "line":
            notes.append(match["line"].lstrip("- ").strip())
        elif kind == "block":
            place = _end_of_block(sql, match.end())
            text.append(" ")
        elif kind == "dollar":
            end = sql.find(match["dollar"], match.end())
            place = len(sql) if end < 0 else end + len(match["dollar"])
            take(" '' ", match.start())
        elif kind == "string":
            take(" '' ", match.start())
        elif kind == "name":
            take(match["name"], match.start())
        else:
            if words := " ".join("".join(text).split()):
                yield Statement(line, words, tuple(notes))
            text, notes, line = [], [], 0
    take(sql[place:], place)
    if words := " ".join("".join(text).split()):
        yield Statement(line, words, tuple(notes))


def _end_of_block(sql: str, place: int) -> int:
    """Behind the end of a comment, which may hold others."""
    depth = 1
    while depth and (match := _BLOCK.search(sql, place)):
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
    return place if not depth else len(sql)
