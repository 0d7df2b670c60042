"""Cuts SQL into statements, and these into tokens, as far as a linter and a migrator need it.

It knows what may hold a semicolon that ends nothing: strings, quoted names, dollar quotes, nested comments,
parentheses, and the bodies of SQL functions (`BEGIN ATOMIC ... END`). It does not know the grammar: whether a
statement is right, the server says. After the PostgreSQL manual, section 4.1, with standard_conforming_strings on.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Comment", "RawStatement", "Token", "UnreadableSql", "split_statements", "unquote"]

_TOKEN: Final = re.compile(
    r"""
      (?P<space>   \s+ )
    | (?P<comment> --[^\n]* )
    | (?P<block>   /\* )
    | (?P<string>  [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'  |  (?:[nNbBxX]|[uU]&)?'[^']*(?:''[^']*)*' )
    | (?P<quoted>  (?:[uU]&)?"[^"]*(?:""[^"]*)*" )
    | (?P<word>    [A-Za-z_\u0080-\U0010ffff][\w$]* )
    | (?P<number>  \d[\w.]* )
    | (?P<dollar>  \$(?:[A-Za-z_\u0080-\U0010ffff]\w*)?\$ )
    | (?P<sign>    ::|. )
    """,
    re.VERBOSE | re.DOTALL,
)
_EDGE: Final = re.compile(r"/\*|\*/")


class UnreadableSql(ValueError):
    """A string, a quoted name or a comment has no end. `line` is where it begins."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(f"line {line}: {what} has no end")
        self.line = line


class Token(NamedTuple):
    """One word, name, string or sign. Spaces and comments are none."""

    kind: str
    """"word", "quoted", "string", "number" or "sign"."""
    text: str
    """As it is written."""
    value: str
    """A word in lower case, a quoted name without its quotes, a sign as it is; of a string and a number nothing."""


class Comment(NamedTuple):
    """A comment to the end of its line, without the dashes."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement without its semicolon, and the comments since the one before it."""

    text: str
    line: int
    tokens: tuple[Token, ...]
    comments: tuple[Comment, ...]


class _Lines:
    """Finds the line of a position."""

    def __init__(self, text: str) -> None:
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def of(self, position: int) -> int:
        return bisect_right(self._ends, position - 1) + 1


def split_statements(text: str) -> Iterator[RawStatement]:
    """Yield the statements of `text` in order. Comments after the last one come as a statement without text.

    Raises:
        UnreadableSql: something that was opened has no end.
    """
    lines = _Lines(text)
    tokens: list[Token] = []
    comments: list[Comment] = []
    first = end = position = 0
    nesting = _Nesting()
    while position < len(text):
        kind, stop = _next(text, position, lines)
        piece = text[position:stop]
        if kind == "comment":
            comments.append(Comment(lines.of(position), piece[2:].strip()))
        elif kind == "sign" and piece == ";" and nesting.closed:
            if tokens:
                yield RawStatement(text[first:end], lines.of(first), tuple(tokens), tuple(comments))
                comments = []
            tokens, nesting = [], _Nesting()
        elif kind != "space":
            if not tokens:
                first = position
            end = stop
            token = Token(kind, piece, _value(kind, piece))
            tokens.append(token)
            nesting.feed(token)
        position = stop
    if tokens or comments:
        yield RawStatement(text[first:end] if tokens else "", lines.of(first), tuple(tokens), tuple(comments))


def unquote(name: str) -> str:
    """A name without a schema, as it is written in SQL, as the server keeps it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


class _Nesting:
    """Counts what has been opened in a statement and not closed yet."""

    def __init__(self) -> None:
        self._parentheses = 0
        self._blocks = 0
        self._last = ""

    @property
    def closed(self) -> bool:
        return self._parentheses <= 0 and self._blocks == 0

    def feed(self, token: Token) -> None:
        word = token.value if token.kind in {"word", "sign"} else ""
        if word == "(":
            self._parentheses += 1
        elif word == ")":
            self._parentheses -= 1
        elif word == "atomic" and self._last == "begin":
            self._blocks = 1
        elif self._blocks and word == "case":
            self._blocks += 1
        elif self._blocks and word == "end":
            self._blocks -= 1
        self._last = word


def _next(text: str, position: int, lines: _Lines) -> tuple[str, int]:
    """The kind of the token at `position`, and where it stops."""
    match = _TOKEN.match(text, position)
    assert match is not None  # the last alternative takes any character
    kind = str(match.lastgroup)
    if kind == "block":
        return "space", _end_of_block(text, position, lines)
    if kind == "dollar":
        close = text.find(match[0], match.end())
        if close < 0:
            raise UnreadableSql(f"the string after {match[0]}", lines.of(position))
        return "string", close + len(match[0])
    if match[0] in {"'", '"'}:
        raise UnreadableSql("a string" if match[0] == "'" else "a quoted name", lines.of(position))
    return kind, match.end()


def _end_of_block(text: str, position: int, lines: _Lines) -> int:
    depth = 0
    for edge in _EDGE.finditer(text, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise UnreadableSql("a comment", lines.of(position))


def _value(kind: str, piece: str) -> str:
    if kind == "word":
        return piece.lower()
    if kind == "quoted":
        return piece[piece.index('"') + 1 : -1].replace('""', '"')
    return piece if kind == "sign" else ""
