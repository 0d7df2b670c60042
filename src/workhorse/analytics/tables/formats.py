"""Which format a client gets: what `?format=` names, else what Accept prefers (RFC 9110, section 12.5.1), else JSON."""

from collections.abc import Iterable
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

from workhorse.asgi import Scope
from workhorse.errors import PROBLEM_PREFIX, Problem

__all__ = ["Coding", "Format", "NotAcceptable", "choose_coding", "choose_format"]

# Further members of an Accept header are nobody's wish.
MAX_WISHES: Final = 50


class Format(Enum):
    """A format, with its media types; the first is the one that is sent."""

    JSON = ("json", "application/json")
    """One array of objects. One that was cut is not JSON."""
    NDJSON = ("ndjson", "application/x-ndjson", "application/jsonl", "application/ndjson")
    """An object a line."""
    CSV = ("csv", "text/csv")
    """RFC 4180 with a header line. NULL is an empty cell, an empty text is `""`."""
    ARROW = ("arrow", "application/vnd.apache.arrow.stream")
    """An IPC stream. Its last batch is empty and says how many rows there were."""
    PARQUET = ("parquet", "application/vnd.apache.parquet", "application/x-parquet")
    """A file, whose end says what it holds: one that was cut is not Parquet."""

    @property
    def word(self) -> str:
        """What `?format=` calls it; also the ending of a file's name."""
        word: str = self.value[0]
        return word

    @property
    def media_types(self) -> tuple[str, ...]:
        """What Accept calls it."""
        types: tuple[str, ...] = self.value[1:]
        return types

    @property
    def textual(self) -> bool:
        """Whether values are written as text."""
        return self in {Format.JSON, Format.NDJSON, Format.CSV}


class Coding(Enum):
    """How the bytes of a reply are compressed on their way (RFC 9110, section 8.4.1)."""

    IDENTITY = "identity"
    GZIP = "gzip"
    ZSTD = "zstd"


class NotAcceptable(Problem):
    """406: none of the formats that the client takes is offered."""

    status = 406
    type = PROBLEM_PREFIX + "not-acceptable"
    title = "No format that you accept is offered"

    def __init__(self, wish: str) -> None:
        offered = [format_.word for format_ in Format]
        super().__init__(f"Not offered: {wish[:100]!r}. Offered: {', '.join(offered)}.", offered=offered)


def choose_format(scope: Scope) -> Format:
    """The format of a reply.

    Raises:
        NotAcceptable: the client takes none that is offered.
    """
    # The first wins, as for a browser's address bar there is but one.
    for name, value in parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=1000):
        if name == "format":
            for format_ in Format:
                if format_.word == value.lower():
                    return format_
            raise NotAcceptable(value)
    accept = _header(scope, b"accept")
    wishes = dict(_wishes(accept))
    if not wishes:
        return Format.JSON
    best, quality = Format.JSON, 0.0
    for format_ in Format:
        liked = max(_quality(media_type, wishes) for media_type in format_.media_types)
        if liked > quality:
            best, quality = format_, liked
    if quality == 0:
        raise NotAcceptable(accept)
    return best


def choose_coding(scope: Scope, format_: Format) -> Coding:
    """How the reply is compressed. Parquet compresses its own pages."""
    if format_ is Format.PARQUET:
        return Coding.IDENTITY
    wishes = dict(_wishes(_header(scope, b"accept-encoding")))
    best = max((Coding.ZSTD, Coding.GZIP), key=lambda coding: wishes.get(coding.value, 0.0))
    return best if wishes.get(best.value, 0.0) > 0 else Coding.IDENTITY


def _header(scope: Scope, name: bytes) -> str:
    values: Iterable[bytes] = (value for key, value in scope["headers"] if key == name)
    return b",".join(values).decode("latin-1")


def _wishes(header: str) -> Iterable[tuple[str, float]]:
    """Each member of an Accept header with its quality; what is malformed counts as not said."""
    for member in header.split(",", MAX_WISHES)[:MAX_WISHES]:
        name, *parameters = (part.strip().lower() for part in member.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if name:
            yield name, quality if 0 <= quality <= 1 else 0.0


def _quality(media_type: str, wishes: dict[str, float]) -> float:
    kind = media_type.partition("/")[0]
    for name in (media_type, f"{kind}/*", "*/*"):
        if name in wishes:
            return wishes[name]
    return 0.0
