"""The values of an app's personal fields masked in what is about to be logged, by the names of those fields.

`redaction` knows what every app keeps secret. What a field of this app holds, only the app can say: it classifies its
fields (`workhorse.privacy`), and the service gives the names of those that are about people to its log. Then `phone`
is masked as a field of a line, within mappings, and in texts such as `phone=555-1234` and `{'phone': '555-1234'}`.
A value that stands in a text without its name cannot be known.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

from workhorse.telemetry.redaction import MASK, MAX_DEPTH, SEPARATOR, redact_text

__all__ = ["NOTHING_MASKED", "Masking"]

VALUE: Final = r"(?:b?\"(?:[^\"\\]|\\.?)*+\"?|b?'(?:[^'\\]|\\.?)*+'?|[^\s,;&)}\]]++)"


class Masking:
    """Masks the values of fields of these names, beside what is secret anyway.

    Args:
        names: of fields, without regard to case.
    """

    __slots__ = ("_names", "_pairs")

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)
        words = "|".join(re.escape(name) for name in sorted(self._names))
        self._pairs = re.compile(rf"(?<![a-z0-9_])((?:{words}){SEPARATOR}){VALUE}", re.IGNORECASE) if words else None

    def text(self, text: str) -> str:
        """The text with secrets and personal fields masked; what is beyond 16 KiB is cut."""
        text = redact_text(text)
        return text if self._pairs is None else self._pairs.sub(rf"\1{MASK}", text)

    def mapping(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of what was redacted already, with personal fields masked, to a depth of 8."""
        if self._pairs is None:
            return dict(fields)
        return self._mapping(fields, 0)

    def _mapping(self, fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {
            name: MASK if name.lower() in self._names and value is not None else self._value(value, depth)
            for name, value in fields.items()
        }

    def _value(self, value: object, depth: int) -> Any:
        if isinstance(value, str):
            assert self._pairs is not None
            return self._pairs.sub(rf"\1{MASK}", value)
        if isinstance(value, Mapping):
            inner = cast("Mapping[object, object]", value)
            return MASK if depth >= MAX_DEPTH else self._mapping({str(k): v for k, v in inner.items()}, depth + 1)
        if isinstance(value, list | tuple):
            items = cast("Sequence[object]", value)
            return MASK if depth >= MAX_DEPTH else [self._value(item, depth + 1) for item in items]
        return value


NOTHING_MASKED: Final = Masking()
"""Masks secrets alone."""
