"""Which part of a file a client gets (RFC 9110, sections 13 and 14). Pure.

One range of bytes is answered with 206; several, which no download asks for, with the whole file, as section 14.2
allows. A range is honoured only for the file that the client has a part of: If-Range has the tag of that file, which
is its digest. If-Range with a date is never taken for a match.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Part", "choose_part", "header"]

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """What is sent: of 200 and 206 the bytes from `start` up to `end`, which is not among them."""

    status: int
    start: int = 0
    end: int = 0


def choose_part(headers: Iterable[tuple[bytes, bytes]], size: int, tag: str) -> Part:
    """The part of a file that a GET asks for.

    Args:
        headers: of the request.
        size: of the file, in bytes.
        tag: its strong entity tag, with the quotes.
    """
    known = list(headers)
    wanted = header(known, b"if-none-match")
    if wanted is not None and (wanted.strip() == "*" or tag in (one.strip() for one in wanted.split(","))):
        return Part(304)
    asked, condition = header(known, b"range"), header(known, b"if-range")
    if asked is None or (condition is not None and condition.strip() != tag):
        return Part(200, 0, size)
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return Part(200, 0, size)
    first, last = found[1], found[2]
    if not first:
        # The last so many bytes.
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return Part(200, 0, size)
    return Part(206, start, end) if start < end else Part(416)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a header; several of one name as one list."""
    values = [value for key, value in headers if key == name]
    return b", ".join(values).decode("latin-1") if values else None
