"""What a migration's file says beside its SQL: comments to the migrator and to the linter.

    -- workhorse: no transaction             first line: each statement runs, and is remembered, by itself
    -- workhorse: needs 0007                 code that lacks number 7 of this set does not run on this schema any more
    -- workhorse: accept index_locks, ...     before a statement: this hazard is known, and this is why it is none
    -- workhorse: repeat until no rows       before a statement of such a file: in small transactions, again and again

Any other comment that begins so is refused: a misspelt one would be silently without effect.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from hashlib import sha256
from typing import Final

from workhorse.errors import StartupError
from workhorse.migrations.rules import RULES
from workhorse.migrations.statements import Comment, RawStatement, Token, UnreadableSql, split_statements

__all__ = ["Acceptance", "Lone", "LoneKind", "Script", "Statement", "digest_of", "read_script"]

_DIRECTIVE: Final = re.compile(r"^workhorse:\s*(?P<text>.*)$")
_NEEDS: Final = re.compile(r"^needs (?P<number>\d{1,4})$")
_ACCEPT: Final = re.compile(r"^accept (?P<rule>[a-z_]+)(?:,\s*(?P<reason>.*))?$")
_ALONE: Final = "no transaction"
_REPEAT: Final = "repeat until no rows"
_KNOWN: Final = (_ALONE, _REPEAT, "needs 0001", "accept rule, reason")
# What would end the transaction that a file runs in, or the one of a statement with its record.
_CONTROL: Final = frozenset({"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"})
_RULES: Final = tuple(rule.name for rule in RULES)
_WRITES: Final = frozenset({"insert", "update", "delete", "merge"})


class LoneKind(Enum):
    """The statements that run in no transaction, and that a migrator can take up again after a crash."""

    CREATE_INDEX = "create"
    """A crash leaves an INVALID index, which is dropped before the next try."""
    DROP_INDEX = "drop"
    """A crash leaves it there or gone; it may be dropped again."""
    VACUUM = "vacuum"
    """May run again."""


@dataclass(frozen=True, slots=True)
class Lone:
    """A statement that runs in no transaction. Names are as they are written, with their quotes."""

    kind: LoneKind
    index: str = ""
    table: str = ""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A hazard that the author of a statement knows of."""

    rule: str
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, and what its author said of it."""

    text: str
    line: int
    tokens: tuple[Token, ...]
    accepts: tuple[Acceptance, ...] = ()
    repeats: bool = False

    @property
    def controls_transaction(self) -> bool:
        """Whether it would begin or end a transaction."""
        words = self.words()
        return words[0] in _CONTROL and (words[0] != "prepare" or words[1:2] == ["transaction"])

    def words(self) -> list[str]:
        """Its words in lower case, in the places of its tokens; empty for what is no word."""
        return [token.value if token.kind == "word" else "" for token in self.tokens]

    def lone(self) -> Lone | None:
        """What it is if it cannot run in a transaction, else None.

        Raises:
            StartupError: it could not be taken up again after a crash.
        """
        words = self.words()
        if words[0] == "vacuum":
            return Lone(LoneKind.VACUUM)
        if words[0] in {"create", "drop"} and "index" in words[1:3] and "concurrently" in words[2:4]:
            return self._index(words)
        reindexes = words[0] == "reindex" and "concurrently" in words
        detaches = words[:2] == ["alter", "table"] and words[-1] == "concurrently"
        if reindexes or detaches:
            raise StartupError(
                f"line {self.line}: a crash in the middle of `{_short(self.text)}` leaves what a migrator cannot tell"
                " from something whole; run this statement by hand"
            )
        return None

    def _index(self, words: Sequence[str]) -> Lone:
        tokens = list(self.tokens[words.index("concurrently") + 1 :])
        while tokens and tokens[0].kind == "word" and tokens[0].value in {"if", "not", "exists"}:
            del tokens[0]
        if words[0] == "drop":
            return Lone(LoneKind.DROP_INDEX, index=_name(tokens))
        if not tokens or (tokens[0].kind == "word" and tokens[0].value == "on"):
            raise StartupError(
                f"line {self.line}: the index has no name, so that what a crash left of it could not be found;"
                " write CREATE INDEX CONCURRENTLY its_name ON ..."
            )
        index = _name(tokens)
        while tokens and (tokens[0].kind, tokens[0].value) != ("word", "on"):
            del tokens[0]
        del tokens[:1]
        if tokens and tokens[0].kind == "word" and tokens[0].value == "only":
            del tokens[0]
        return Lone(LoneKind.CREATE_INDEX, index=index, table=_name(tokens))


@dataclass(frozen=True, slots=True)
class Script:
    """A migration as it is to be run."""

    statements: tuple[Statement, ...]
    alone: bool = False
    """Each statement runs by itself, and not all in one transaction."""
    needs: int | None = None
    """Code that lacks this number of the set does not run on the schema; None: its author did not say."""


def read_script(sql: str, *, origin: str) -> Script:
    """Read a migration's text. That it holds no BEGIN or COMMIT is for its users to look at.

    Args:
        sql: the text.
        origin: names it in errors.

    Raises:
        StartupError: it cannot be cut into statements, or a comment asks for what there is not.
    """
    try:
        return _read(sql)
    except UnreadableSql as error:
        raise StartupError(f"the migration {origin}, {error}; close it") from error
    except StartupError as error:
        raise StartupError(f"the migration {origin}, {error}") from None


def _read(sql: str) -> Script:
    statements: list[Statement] = []
    alone, needs = False, None
    for raw in split_statements(sql):
        accepts: list[Acceptance] = []
        repeats = False
        for line, text in _directives(raw.comments):
            if text == _ALONE:
                if statements:
                    raise StartupError(f"line {line}: `{_ALONE}` is about the whole file; put it into its first line")
                alone = True
            elif match := _NEEDS.match(text):
                needs = int(match["number"])
            elif text == _REPEAT:
                repeats = True
            else:
                accepts.append(_acceptance(line, text))
        if raw.tokens:
            statements.append(_statement(raw, accepts, repeats=repeats, alone=alone))
        elif accepts or repeats:
            raise StartupError(
                f"line {raw.comments[-1].line}: no statement follows this comment; put it before its own"
            )
    return Script(tuple(statements), alone, needs)


def _statement(raw: RawStatement, accepts: Sequence[Acceptance], *, repeats: bool, alone: bool) -> Statement:
    statement = Statement(raw.text, raw.line, raw.tokens, tuple(accepts), repeats)
    statement.lone()  # raises, now rather than halfway
    if repeats and not alone:
        raise StartupError(f"line {raw.line}: `{_REPEAT}` needs `-- workhorse: {_ALONE}` in the file's first line")
    if repeats and _WRITES.isdisjoint(token.value for token in raw.tokens if token.kind == "word"):
        raise StartupError(
            f"line {raw.line}: `{_REPEAT}` is for INSERT, UPDATE and DELETE, which tell how many rows they changed"
        )
    if repeats and "locked" in statement.words():
        raise StartupError(
            f"line {raw.line}: with SKIP LOCKED, a row that somebody holds would be left out for good; take it out, and"
            " the statement waits for the row"
        )
    if alone and raw.tokens[0].value in {"set", "reset"}:
        raise StartupError(
            f"line {raw.line}: `{_short(raw.text)}` would be forgotten when the rest of the file is taken up after a"
            " crash; write full names instead"
        )
    return statement


def _directives(comments: Sequence[Comment]) -> list[tuple[int, str]]:
    found = ((comment.line, _DIRECTIVE.match(comment.text)) for comment in comments)
    return [(line, " ".join(match["text"].split())) for line, match in found if match]


def _acceptance(line: int, text: str) -> Acceptance:
    match = _ACCEPT.match(text)
    if match is None:
        close = get_close_matches(text, _KNOWN, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(f'`{known}`' for known in _KNOWN)}"
        raise StartupError(f"line {line}: `-- workhorse: {text}` is unknown; {hint}")
    rule, reason = match["rule"], match["reason"]
    if rule not in _RULES:
        close = get_close_matches(rule, _RULES, n=1)
        raise StartupError(f"line {line}: there is no rule {rule!r} to accept; there are: {', '.join(close or _RULES)}")
    if not reason:
        raise StartupError(f"line {line}: say why: `-- workhorse: accept {rule}, since ...`")
    return Acceptance(rule, reason, line)


def digest_of(statements: Sequence[Statement]) -> str:
    """64 hexadecimal digits that change with the statements, and not with the comments around them."""
    return sha256("\0".join(statement.text for statement in statements).encode()).hexdigest()


def _name(tokens: Sequence[Token]) -> str:
    """The name that `tokens` begin with, qualified or not, as it is written."""
    parts: list[str] = []
    for token in tokens:
        wanted = token.text == "." if len(parts) % 2 else token.kind in {"word", "quoted"}
        if not wanted:
            break
        parts.append(token.text)
    return "".join(parts)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
