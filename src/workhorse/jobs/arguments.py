"""A job's arguments as JSON and back, by the annotations of its function.

They are encoded and decoded once where the job is enqueued, so that whatever the worker could not read is refused
there, with the line that enqueued it on the stack: not in the worker, hours later, eight times.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

__all__ = ["MAX_ARGUMENT_BYTES", "Signature", "encode_json", "text_is_storable"]

MAX_ARGUMENT_BYTES: Final = 64 * 1024
"""Of JSON. What is larger belongs into a table or an object store, and its id into the job."""

# Text that Postgres cannot hold: U+0000 as JSON escapes it, unless the backslash is itself escaped.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

encode_json: Final = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode


def text_is_storable(encoded: bytes) -> bool:
    """Whether Postgres can keep the strings of this JSON: none of them holds the character U+0000."""
    return b"\\u0000" not in encoded or _NUL.search(encoded) is None  # nearly all have none, which is told at once


class Signature:
    """The parameters of a job's function.

    Raises:
        TypeError: a parameter has no annotation, is variadic or positional only, or is of a type that JSON cannot say.
    """

    __slots__ = ("_decoder", "_signature", "_what")

    def __init__(self, function: Callable[..., object], what: str) -> None:
        self._what = what
        self._signature = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for name, parameter in self._signature.parameters.items():
            if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
                raise TypeError(f"the parameter {parameter} of the job {what!r} has no name of its own; give it one")
            if name not in hints:
                raise TypeError(f"the parameter {name!r} of the job {what!r} has no annotation; say its type")
            if parameter.default is parameter.empty:
                fields.append((name, hints[name]))
            else:
                fields.append((name, hints[name], msgspec.field(default_factory=_constant(parameter.default))))
        struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        try:
            self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)
        except TypeError as error:
            raise TypeError(f"the job {what!r} has a parameter that JSON cannot carry: {error}") from error

    def encode(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bytes:
        """The arguments as a JSON object.

        Raises:
            TypeError: they do not fit the function's parameters.
            ValueError: one is not of its annotated type, they are too large, or hold the character U+0000.
        """
        try:
            bound = self._signature.bind(*arguments, **named)
        except TypeError as error:
            raise TypeError(f"the job {self._what!r} cannot take these arguments: {error}") from None
        try:
            encoded = encode_json(bound.arguments)
            self._decoder.decode(encoded)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"the job {self._what!r} cannot take these arguments: {error}") from error
        if len(encoded) > MAX_ARGUMENT_BYTES:
            raise ValueError(
                f"the arguments of the job {self._what!r} have {len(encoded)} bytes; at most {MAX_ARGUMENT_BYTES} are"
                " taken. Keep what is larger elsewhere, and its id in the job"
            )
        if not text_is_storable(encoded):
            raise ValueError(
                f"the arguments of the job {self._what!r} hold the character U+0000, which Postgres cannot keep"
            )
        return encoded

    def decode(self, encoded: str | bytes) -> dict[str, Any]:
        """The arguments by name, as the function takes them.

        Raises:
            msgspec.MsgspecError: they are not what the function takes.
        """
        read = self._decoder.decode(encoded)
        return {name: getattr(read, name) for name in self._signature.parameters}


def _constant(value: object) -> Callable[[], object]:
    return lambda: value
