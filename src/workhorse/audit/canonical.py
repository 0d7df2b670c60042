r"""One spelling of each JSON value, so that the same facts always have the same hash.

It is that of RFC 8785 (JCS), but for numbers. JCS rounds each to a double of IEEE 754, and two amounts that differ
beyond 2**53 would have one hash; the database keeps every digit, so this form does too: a number is written as JCS
writes it (the layout of `Number.prototype.toString`, ECMA-262), from its exact decimal digits. For every number that
came out of a double this is the same text; a number of more digits keeps them.

The text is read by a scanner of its own, without recursion: what an app stored must always have a hash, however deep it
is nested, and by the same rule on every version of Python. It is strict where readers of JSON differ: names that come
twice, NaN, lone surrogates, control characters and numbers that no database keeps are refused.

What jsonb normalises makes no difference here: the order and spacing of members, how a character is escaped, 1e2 or
100, 1.50 or 1.5.
"""

import json
import re
from json.encoder import encode_basestring
from typing import Final, TypeAlias

from workhorse.audit.faults import EntryRefused

__all__ = ["MAX_EXPONENT", "canonical_json", "canonical_members", "canonical_number", "canonical_text"]

MAX_EXPONENT: Final = 1_000_000
"""The largest power of ten that a number may be written with; Postgres ends at 10**131072."""

_SPACE: Final = r"[ \t\n\r]*"
_INNER: Final = r"""[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"""
_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_VALUE: Final = re.compile(
    rf'{_SPACE}(?:([\[{{])|("{_INNER}")|(-?[0-9][0-9.eE+-]*)|(true|false|null)){_SPACE}', re.ASCII | re.DOTALL
)
_NAME: Final = re.compile(rf'{_SPACE}"({_INNER})"{_SPACE}:', re.ASCII | re.DOTALL)
_NEXT: Final = re.compile(rf"{_SPACE}([,\]}}]){_SPACE}", re.ASCII)
# An integer that JavaScript writes without an exponent, and so everyone.
_PLAIN_DIGITS: Final = 21
# Characters of an array or object up to which it is joined into one text at its end. A larger one is kept in parts
# until all is read: a text of a thousand levels would otherwise be copied a thousand times.
_SMALL: Final = 4096

_Part: TypeAlias = "str | list[_Part]"


class _Open:
    """An array or an object whose end is not read yet."""

    __slots__ = ("end", "names", "values")

    def __init__(self, bracket: str) -> None:
        self.end = "}" if bracket == "{" else "]"
        self.names: list[str] = []
        self.values: list[_Part] = []


def canonical_json(text: str | bytes) -> bytes:
    """The one spelling of a JSON text.

    Args:
        text: JSON (RFC 8259); bytes are UTF-8. As Postgres gives it: `data::text`.

    Raises:
        EntryRefused: it is no JSON text, or holds what has no canonical spelling.
    """
    try:
        return _joined(_rewrite(_source(text))[0]).encode("utf-8")
    except UnicodeError as error:
        raise EntryRefused(f"the JSON text is not UTF-8: {error}") from error


def canonical_members(text: str | bytes) -> dict[str, bytes]:
    """The members of a JSON object, by name, the values in their one spelling.

    Raises:
        EntryRefused: what `canonical_json` refuses, and what is no object.
    """
    try:
        whole, top = _rewrite(_source(text))
        if top is None or top.end != "}":
            raise EntryRefused(f"the JSON text is no object: {_joined(whole)[:40]}")
        return {name: _joined(value).encode("utf-8") for name, value in zip(top.names, top.values, strict=True)}
    except UnicodeError as error:
        raise EntryRefused(f"the JSON text is not UTF-8: {error}") from error


def canonical_text(value: str) -> str:
    """A string, in quotes, with the escapes of RFC 8785 (section 3.2.2.2)."""
    return encode_basestring(value)


def canonical_number(number: str) -> str:
    """A JSON number with its exact digits, in the layout of ECMA-262 (Number::toString).

    Raises:
        EntryRefused: it is no number of JSON, or its exponent is beyond `MAX_EXPONENT`.
    """
    found = _NUMBER.fullmatch(number)
    if found is None:
        raise EntryRefused(f"{number[:40]!r} is no number of JSON")
    sign, whole, fraction, power = found.groups(default="")
    if len(power) > len(str(MAX_EXPONENT)) + 1 or abs(int(power or "0")) > MAX_EXPONENT:
        raise EntryRefused(f"the number {number[:40]!r} has an exponent beyond {MAX_EXPONENT}")
    point = len(whole) + int(power or "0")
    digits = whole + fraction
    point -= len(digits) - len(digits := digits.lstrip("0"))
    digits = digits.rstrip("0")
    if not digits:
        return "0"
    return sign + _layout(digits, point)


def _layout(digits: str, point: int) -> str:
    """Digits of which the first and last are not zero, the decimal point standing after so many of them."""
    count = len(digits)
    if count <= point <= _PLAIN_DIGITS:
        return digits + "0" * (point - count)
    if 0 < point <= _PLAIN_DIGITS:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits if count == 1 else digits[0] + "." + digits[1:]
    return f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _source(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8")


def _rewrite(source: str) -> tuple[_Part, _Open | None]:
    """Read values from the left; what is open waits on a stack.

    Returns:
        The text, and the array or object that it is; None for a scalar.
    """
    stack: list[_Open] = []
    done: _Open | None = None
    at = 0
    while True:
        if stack and stack[-1].end == "}":
            name, at = _name(source, at)
            stack[-1].names.append(name)
        found = _VALUE.match(source, at)
        if found is None:
            raise _unexpected(source, at, "value")
        at = found.end()
        bracket, string, number, word = found.groups()
        if bracket is not None:
            stack.append(_Open(bracket))
            if not source.startswith(stack[-1].end, at):
                continue
            done = stack.pop()
            value: _Part = _closed(done)
            at += 1
        elif string is not None:
            value = string if "\\" not in string else _unescaped(string)
        else:
            value = _number(number) if number is not None else word
        # A value is complete, and may complete what it stands in.
        while stack:
            stack[-1].values.append(value)
            found = _NEXT.match(source, at)
            if found is None or found[1] not in {",", stack[-1].end}:
                raise _unexpected(source, at, f"comma or {stack[-1].end}")
            at = found.end()
            if found[1] == ",":
                break
            done = stack.pop()
            value = _closed(done)
        else:
            if source[at:].strip(" \t\n\r"):
                raise _unexpected(source, at, "end")
            return value, done


def _name(source: str, at: int) -> tuple[str, int]:
    """The name of a member, without its quotes, and where its value begins."""
    found = _NAME.match(source, at)
    if found is None:
        raise _unexpected(source, at, "name with a colon")
    name: str = found[1]
    return name if "\\" not in name else _unescaped(f'"{name}"')[1:-1], found.end()


def _number(number: str) -> str:
    # The usual case at a glance: an integer of a few digits.
    if number.isdigit() and len(number) <= _PLAIN_DIGITS and (number[0] != "0" or number == "0"):
        return number
    return canonical_number(number)


def _closed(done: _Open) -> _Part:
    parts = done.values
    if done.end == "]":
        return _enclosed("[", parts, "]")
    names = done.names
    members = dict(zip(names, parts, strict=True))
    if len(members) != len(names):
        raise EntryRefused(f"a name comes twice in one JSON object of the names {', '.join(sorted(names))[:200]}")
    all_names = "".join(names)
    is_plain = all_names.isascii() and "\\" not in all_names
    return _enclosed(
        "{", [_member(name, members[name]) for name in sorted(names, key=None if is_plain else _order)], "}"
    )


def _member(name: str, value: _Part) -> _Part:
    return f'"{name}":{value}' if isinstance(value, str) else [f'"{name}":', value]


def _enclosed(start: str, parts: list[_Part], end: str) -> _Part:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        text = f"{start}{','.join(texts)}{end}"
        return text if len(text) <= _SMALL else [text]
    between: list[_Part] = [start]
    for part in parts:
        between += (part, ",")
    between[-1] = end
    return between


def _joined(whole: _Part) -> str:
    if isinstance(whole, str):
        return whole
    texts: list[str] = []
    waiting = [iter(whole)]
    while waiting:
        for part in waiting[-1]:
            if isinstance(part, str):
                texts.append(part)
            else:
                waiting.append(iter(part))
                break
        else:
            waiting.pop()
    return "".join(texts)


def _order(name: str) -> bytes:
    """Names are sorted by their UTF-16 code units, unescaped (RFC 8785, section 3.2.3)."""
    plain: str = name if "\\" not in name else json.loads(f'"{name}"')
    return plain.encode("utf-16-be")


def _unescaped(string: str) -> str:
    """A string that has escapes, with only those that it needs."""
    try:
        value: str = json.loads(string)
    except ValueError as error:
        raise EntryRefused(f"{string[:60]} is no string of JSON: {error}") from error
    return encode_basestring(value)


def _unexpected(source: str, at: int, wanted: str) -> EntryRefused:
    return EntryRefused(f"the JSON text has no {wanted} at character {at}: {source[at : at + 40]!r}")
