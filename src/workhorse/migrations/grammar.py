"""Reads the tokens of one statement from left to right, word by word and name by name."""

from collections.abc import Iterator, Sequence

from workhorse.migrations.statements import Token

__all__ = ["Reader", "items"]


class Reader:
    """A place in the tokens of a statement. Words are asked for in lower case."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)
        self._place = 0

    def word(self) -> str:
        """The word that comes next; empty where it is none, or a quoted name."""
        token = self._peek()
        return token.value if token is not None and token.kind == "word" else ""

    def at(self, word: str) -> bool:
        """Whether this word comes next."""
        return self.word() == word

    def at_any(self, *words: str) -> bool:
        """Whether one of these words comes next."""
        return self.word() in words

    def advance(self) -> None:
        """Pass over the next token."""
        self._place += 1

    def take(self, *words: str) -> bool:
        """Pass over these words if all of them come next, in this order."""
        following = self._tokens[self._place : self._place + len(words)]
        if [token.value for token in following if token.kind == "word"] != list(words):
            return False
        self._place += len(words)
        return True

    def take_any(self, *words: str) -> bool:
        """Pass over the next word if it is one of these."""
        return any(self.take(word) for word in words)

    def name(self) -> str:
        """Pass over a name, which may have a schema, and return it as the server folds it; empty: there is none."""
        parts: list[str] = []
        while (token := self._peek()) is not None:
            if len(parts) % 2 == 0 and token.kind in {"word", "quoted"}:
                parts.append(token.value)
            elif len(parts) % 2 == 1 and token.text == ".":
                parts.append(".")
            else:
                break
            self._place += 1
        return "".join(parts)

    def names(self) -> Iterator[str]:
        """Read the names with commas between them, without what else stands behind one."""
        for item in items(self.rest()):
            if name := Reader(item).name():
                yield name

    def skip_past(self, word: str) -> bool:
        """Pass over everything up to this word, and over it; False: it does not come."""
        while self._peek() is not None:
            if self.take(word):
                return True
            self._place += 1
        return False

    def skip_to(self, *words: str) -> None:
        """Pass over everything up to the first of these words that stands in no parentheses."""
        depth = 0
        while (token := self._peek()) is not None and not (depth == 0 and self.at_any(*words)):
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            self._place += 1

    def rest(self) -> tuple[Token, ...]:
        """What has not been passed over."""
        return self._tokens[self._place :]

    def rest_has(self, *words: str) -> bool:
        """Whether these words still come, side by side, outside of parentheses."""
        depth, run = 0, 0
        for token in self.rest():
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            fits = depth == 0 and token.kind == "word"
            if fits and token.value == words[run]:
                run += 1
            else:
                run = 1 if fits and token.value == words[0] else 0
            if run == len(words):
                return True
        return False

    def _peek(self) -> Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None


def items(tokens: Sequence[Token]) -> Iterator[tuple[Token, ...]]:
    """Cut at the commas that stand in no parentheses."""
    item: list[Token] = []
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            yield tuple(item)
            item = []
        else:
            item.append(token)
    if item:
        yield tuple(item)
