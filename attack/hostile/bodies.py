"""Bodies that are larger, deeper or more than they look (CWE-400, CWE-409, CWE-674, CWE-776)."""

import gzip
import zlib
from collections.abc import Iterator
from typing import Final

from attack.checks import Attack, Checks
from attack.hostile.shapes import REFUSED, Shape, run_shapes
from attack.target import Target

__all__ = ["ATTACK"]

POST: Final = b"POST /accounts HTTP/1.1\r\nHost: {host}\r\n{auth}Idempotency-Key: a\r\n"
JSON: Final = b"Content-Type: application/json\r\n"
FILE: Final = (
    b"POST /payments/pain001 HTTP/1.1\r\nHost: {host}\r\n{auth}Idempotency-Key: b\r\nContent-Type: application/xml\r\n"
)
TOO_MUCH: Final = frozenset({400, 413, 415, 422})
DEEP: Final = 100_000
LAUGHS: Final = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "'
    + b"ha" * 50
    + b'">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 50) for n in range(8))
    + b"]><Document>&i;</Document>"
)
EXTERNAL: Final = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Document>&x;</Document>'


def _sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _coded(coding: bytes, body: bytes) -> bytes:
    return _sized(POST + JSON + b"Content-Encoding: " + coding + b"\r\n", body)


class Endless:
    """Chunks for as long as they are taken, up to 256 MB; may be gone through again."""

    def __iter__(self) -> Iterator[bytes]:
        yield POST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        for _ in range(4096):
            yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"


ZEROS: Final = bytes(64 * 1024 * 1024)
BOMB: Final = gzip.compress(ZEROS, mtime=0)
NESTED_BOMB: Final = gzip.compress(BOMB, mtime=0)


def shapes() -> tuple[Shape, ...]:
    """Every hostile body."""
    return (
        Shape(
            name="10 GB announced",
            data=POST + JSON + b"Content-Length: 10000000000\r\n\r\n" + b" " * 1000,
            allowed=TOO_MUCH,
            silent=False,
        ),
        Shape(
            name="10 GB announced, with Expect",
            data=POST + JSON + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n",
            allowed=TOO_MUCH | {417},
            silent=False,
        ),
        Shape(name="chunks without end", data=tuple(Endless()), allowed=TOO_MUCH, seconds=20.0),
        Shape(name="64 MB of zeros as gzip", data=_coded(b"gzip", BOMB), allowed=TOO_MUCH),
        Shape(name="64 MB of zeros as deflate", data=_coded(b"deflate", zlib.compress(ZEROS)), allowed=TOO_MUCH),
        Shape(name="gzip within gzip", data=_coded(b"gzip, gzip", NESTED_BOMB), allowed=TOO_MUCH),
        Shape(name="a coding that is not known", data=_coded(b"br", b"\x00" * 100), allowed=TOO_MUCH),
        Shape(name="gzip that breaks off", data=_coded(b"gzip", BOMB[:100]), allowed=TOO_MUCH),
        Shape(name="100,000 brackets", data=_sized(POST + JSON, b"[" * DEEP), allowed=TOO_MUCH),
        Shape(name="100,000 objects", data=_sized(POST + JSON, b'{"a":' * DEEP), allowed=TOO_MUCH),
        Shape(name="a number of 100,000 digits", data=_sized(POST + JSON, b"1" * DEEP), allowed=TOO_MUCH),
        Shape(name="JSON in UTF-16", data=_sized(POST + JSON, "[[]]".encode("utf-16")), allowed=TOO_MUCH),
        Shape(
            name="JSON with lone surrogates",
            data=_sized(POST + JSON, b'{"owner":"\\ud800","currency":"EUR"}'),
            allowed=TOO_MUCH,
        ),
        Shape(
            name="NUL in a name", data=_sized(POST + JSON, b'{"owner":"a\\u0000","currency":"EUR"}'), allowed=TOO_MUCH
        ),
        Shape(
            name="a form of 100,000 fields",
            data=_sized(POST + b"Content-Type: application/x-www-form-urlencoded\r\n", b"a=b&" * DEEP),
            allowed=TOO_MUCH,
        ),
        Shape(
            name="a form of 5,000 parts",
            data=_sized(
                POST + b"Content-Type: multipart/form-data; boundary=x\r\n",
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 5000 + b"--x--\r\n",
            ),
            allowed=TOO_MUCH,
        ),
        Shape(name="a billion laughs", data=_sized(FILE, LAUGHS), allowed=TOO_MUCH, also=None),
        Shape(
            name="an entity from a file",
            data=_sized(FILE, EXTERNAL),
            allowed=TOO_MUCH,
            also=lambda seen: "the file is there" if b"root:" in seen.raw else "",
        ),
        Shape(name="a body that breaks off", data=POST + JSON + b"Content-Length: 100\r\n\r\n{", half_close=True),
        Shape(name="a body to GET", data=_sized(POST.replace(b"POST", b"GET"), b"x" * 20), allowed=REFUSED),
    )


async def attack(target: Target) -> Checks:
    """Send every body."""
    return await run_shapes(target, shapes())


ATTACK: Final = Attack(name="bodies", threat="bodies that are more than they look (CWE-400, CWE-409)", run=attack)
