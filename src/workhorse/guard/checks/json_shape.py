"""How deep a JSON body is nested, counted as it streams and without parsing it.

A parser calls itself for each level, or grows a stack, and what it returns is walked by code that calls itself. So a
body of a few kilobytes of brackets ends in an exception at best. Here the depth is known before a parser sees it.

A body with no more brackets than levels allowed needs no look at all, and that is nearly every body. Otherwise all is
cut out that is no bracket outside of a string, by a few passes of the interpreter's own C: escapes first, in pairs from
the left; then whatever is neither bracket nor quote; then quotes that now stand side by side, two at a time, which
leaves all else inside or outside as it was; then what stands between the rest of the quotes. A pass that takes out each
pair of brackets with nothing between lowers the depth by one at most, and after a few such passes little is left of an
ordinary body. Where much is left, the depth is summed up over all brackets. What a chunk leaves open, a string or an
escape, is remembered for the next.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.problems import BodyTooLarge, MalformedRequest

__all__ = ["JsonDepth", "JsonRules", "UntypedJson", "compile_json"]

_PASSES: Final = 4
_TEXT: Final = bytes(byte for byte in range(256) if byte not in b'[]{}",')
# Before the first value: blanks, and what UTF-16 and UTF-32 put there.
_BLANK: Final = b" \t\r\n\0\xff\xfe\xef\xbb\xbf"
# As signed bytes: 1 opens a level, -1 closes one.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonRules:
    """The shape that a JSON body may have."""

    depth: int
    values: int
    """Most commas and containers together."""


def compile_json(*, depth: int = 64, values: int = 1_000_000) -> JsonRules:
    """Compile the shape that a JSON body may have.

    Args:
        depth: deepest nesting of arrays and objects: 1 for `[]`.
        values: most commas and containers together, which grow with the values.

    Raises:
        SettingsError: a value is out of its range.
    """
    if not 1 <= depth <= 1000:
        raise SettingsError(f"guard.max_json_depth is {depth}; it is 1 to 1000, which parsers bear, as a rule 64")
    if values < 1:
        raise SettingsError(f"guard.max_json_values is {values}; it is 1 or more")
    return JsonRules(depth=depth, values=values)


class JsonDepth:
    """Measures one body.

    Threat: parsers and the code behind them run out of stack or time by nested or endless little values (CWE-674,
        CWE-770, CWE-1325).
    Method: brackets outside of strings, as they come. A byte of 0 is refused: no JSON in UTF-8 holds one, while any
        nested JSON in UTF-16 or UTF-32 does, which Python's parser takes by itself and whose quotes are others.
    Assumes: the parser takes RFC 8259 and stops at the first fault.
    Standard: RFC 8259, sections 7, 8.1 and 9; OWASP ASVS 5.0.0 V1.5.3, V2.2.1 and V15.2.2; OWASP API4:2023.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_limit", "_most_values", "_values", "control")

    def __init__(self, rules: JsonRules) -> None:
        self.control = "json.depth"
        self._limit = rules.depth
        self._most_values = rules.values
        self._depth = 0
        self._values = 0
        self._in_string = False
        self._escaped = False

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next bytes, and return them.

        Raises:
            Problem: the body is nested too deeply, has too many values, or is not UTF-8.
        """
        if 0 in chunk:
            self.control = "json.encoding"
            raise MalformedRequest("The JSON is not encoded in UTF-8.")
        left, size = self._limit - self._depth, len(chunk)
        if (
            not last
            or size > self._most_values - self._values
            or (size > left and chunk.count(b"[") + chunk.count(b"{") > left)
        ):
            self._scan(chunk)
        return chunk

    def _scan(self, chunk: bytes) -> None:
        text = chunk
        if self._escaped and text:
            text = text[1:]
            self._escaped = False
        if b"\\" in text:
            # What is left of a run of backslashes, if anything, escapes what follows it.
            text = text.replace(b"\\\\", b"")
            self._escaped = text.endswith(b"\\")
            text = text.replace(b'\\"', b"")
        text = text.translate(None, _TEXT)
        if self._in_string:
            text = b'"' + text
        pieces = text.replace(b'""', b"").split(b'"')
        self._in_string = len(pieces) % 2 == 0
        outside = b"".join(pieces[::2])
        self._measure(outside.translate(_STEPS, b","))
        self._values += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        if self._values > self._most_values:
            self.control = "json.values"
            raise BodyTooLarge(f"At most {self._most_values} commas and containers are taken in JSON.")

    def _measure(self, steps: bytes) -> None:
        """Follow the depth over a chunk's brackets."""
        opened = steps.count(b"\x01")
        if self._depth + opened > self._limit and not self._is_shallow(steps):
            deepest = max(accumulate(memoryview(steps).cast("b"), initial=self._depth))
            if deepest > self._limit:
                raise MalformedRequest(f"The JSON is nested more than {self._limit} levels deep.")
        self._depth += opened - (len(steps) - opened)

    def _is_shallow(self, steps: bytes) -> bool:
        """Whether a few passes show already that the limit is kept."""
        for taken_out in range(1, _PASSES + 1):
            steps = steps.replace(b"\x01\xff", b"")
            if self._depth + steps.count(b"\x01") + taken_out <= self._limit:
                return True
        return False


class UntypedJson:
    """Measures a body that does not say that it is JSON, if it looks like it.

    Threat: that of `JsonDepth`, past it: many handlers parse whatever comes, and a client may leave the type out, or
        say text/plain, which pages of other sites may send without being asked (CWE-436).
    Method: what begins as an array or object does, blanks and the marks of UTF-16 aside, is measured as one.
    Assumes: a parser stops at text that begins otherwise.
    Standard: as of `JsonDepth`.
    """

    __slots__ = ("_begun", "_depth", "control")

    def __init__(self, rules: JsonRules) -> None:
        self.control = "json.depth"
        self._depth: JsonDepth | None = JsonDepth(rules)
        self._begun = False

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next bytes, and return them.

        Raises:
            Problem: as of `JsonDepth`.
        """
        if not self._begun:
            text = chunk.lstrip(_BLANK)
            if not text:
                return chunk
            self._begun = True
            if text[0] not in b"[{":
                self._depth = None
        if self._depth is None:
            return chunk
        try:
            return self._depth.feed(chunk, last=last)
        finally:
            self.control = self._depth.control
