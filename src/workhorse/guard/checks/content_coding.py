"""Compressed bodies: inflated as they stream, so that what follows sees the bytes that the app sees.

A kilobyte of deflate can stand for a megabyte. So zlib is never asked for more than what is left of the limit and one
byte: that byte tells that there is more, and nothing is ever inflated beyond it, however the body is cut into chunks.
The compressed bytes are counted against the same limit by the layer, before they come here.

Brotli and Zstandard are refused with the list of what is taken, as the standard library of the oldest Python has
neither. Nested codings are refused: no client sends them, and each level multiplies what a bomb holds.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Headers
from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import BodyTooLarge, MalformedRequest, UnsupportedMediaType
from workhorse.guard.verdict import Refusal

__all__ = ["CodingRules", "Inflater", "check_content_coding", "compile_content_coding", "inflated_headers", "inflater"]

# RFC 9110, section 8.4.1: `deflate` is zlib's format (RFC 1950), never bare deflate; `x-gzip` is gzip.
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_WINDOWS: Final[Mapping[bytes, int]] = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}
_TAKEN: Final = b"gzip, deflate"

MAX_RATIO: Final = 1032
"""What deflate reaches at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingRules:
    """How much a body may grow."""

    ratio: int
    """Most bytes that a compressed byte may become, on average since the body's begin."""
    free_bytes: int
    """What may come out whatever the ratio is: a short body compresses well by chance."""


def compile_content_coding(*, ratio: int = 100, free_bytes: int = 64 * 1024) -> CodingRules:
    """Compile how much a body may grow. JSON of many like rows compresses to a thirtieth, seldom to a sixtieth.

    Raises:
        SettingsError: a value is out of its range.
    """
    if not 1 <= ratio <= MAX_RATIO:
        raise SettingsError(f"the ratio of compressed bodies is {ratio}; it is 1 to {MAX_RATIO}, as a rule 100")
    if free_bytes < 0:
        raise SettingsError(
            f"the free bytes of compressed bodies are {free_bytes}; they are 0 or more, as a rule 65536"
        )
    return CodingRules(ratio=ratio, free_bytes=free_bytes)


def check_content_coding(facts: Facts) -> Refusal | None:
    """Refuse a body in a coding that is not taken, before a byte of it is read.

    Threat: bodies that nothing in front of the app can look into (CWE-436), and decompression bombs (CWE-409).
    Method: none, or one of gzip and deflate. What is in it is bounded by the `Inflater`.
    Assumes: `check_shape` has run, so that there is one Content-Encoding.
    Standard: RFC 9110, sections 8.4, 8.4.1 and 15.5.16; OWASP ASVS 5.0.0 V5.2.3; OWASP API4:2023.
    """
    coding = facts.headers.get(b"content-encoding")
    if coding is None or coding in _WINDOWS:
        return None
    word = _word(coding)
    if word in _WINDOWS or word in {b"identity", b""}:
        return None
    detail = "Only one content coding is taken." if b"," in word else "This content coding is not taken."
    # RFC 9110, section 12.5.3: Accept-Encoding in a reply says what a next request may use.
    return Refusal("coding.not_taken", UnsupportedMediaType(detail, headers=((b"accept-encoding", _TAKEN),)))


def inflater(rules: CodingRules, facts: Facts, limit: int) -> "Inflater | None":
    """What inflates this request's body to at most `limit` bytes; None if it is not compressed."""
    coding = facts.headers.get(b"content-encoding")
    if coding is None:
        return None
    window = _WINDOWS.get(_word(coding))
    return None if window is None else Inflater(limit, window=window, ratio=rules.ratio, free_bytes=rules.free_bytes)


def inflated_headers(raw: Headers) -> Headers:
    """The header fields for an app that gets the inflated body: without its coding, and without its length."""
    return [field for field in raw if field[0] not in {b"content-encoding", b"content-length"}]


class Inflater:
    """Inflates one body.

    A second gzip member is refused, though gzip allows it: readers in front that stop after the first would have
    looked at another body than the app.

    Args:
        limit: bytes that may come out at most.
        window: zlib's window bits, which also say the format.
        ratio: see `CodingRules`.
        free_bytes: see `CodingRules`.
    """

    __slots__ = ("_came_in", "_free_bytes", "_limit", "_ratio", "_stream", "_went_out", "control")

    def __init__(self, limit: int, *, window: int = _GZIP, ratio: int = 100, free_bytes: int = 64 * 1024) -> None:
        self.control = "coding.broken"
        self._limit = limit
        self._ratio = ratio
        self._free_bytes = free_bytes
        self._stream = zlib.decompressobj(window)
        self._came_in = 0
        self._went_out = 0

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next compressed bytes, and return what they stand for.

        Raises:
            Problem: it is too much, or broken: by its format, its checksum, its end, or what comes after it.
        """
        self._came_in += len(chunk)
        stream = self._stream
        most = min(self._limit, max(self._free_bytes, self._came_in * self._ratio))
        try:
            # Never 0, which would be no limit at all.
            out = stream.decompress(chunk, most - self._went_out + 1)
        except zlib.error:
            raise MalformedRequest("The compressed body is broken.") from None
        self._went_out += len(out)
        if self._went_out > most:
            raise self._too_much()
        # Less came out than was allowed, so zlib holds nothing back.
        if stream.unused_data:
            raise MalformedRequest("Bytes follow the end of the compressed body.")
        if last and not stream.eof and self._came_in:
            raise MalformedRequest("The compressed body breaks off.")
        return out

    def _too_much(self) -> BodyTooLarge:
        if self._went_out > self._limit:
            self.control = "coding.size"
            return BodyTooLarge(f"At most {self._limit} bytes are taken, after decompression.")
        self.control = "coding.ratio"
        return BodyTooLarge(f"At most {self._ratio} bytes are taken for one compressed byte.")


def _word(coding: bytes) -> bytes:
    return coding.strip(b" \t,").lower()
