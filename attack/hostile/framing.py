"""Request smuggling: messages whose end two readers would see in two places (CWE-444, RFC 9112, section 11.2)."""

from typing import Final

from attack.checks import Attack, Checks
from attack.hostile.shapes import REFUSED, SMUGGLED, Shape, run_shapes
from attack.target import Target

__all__ = ["ATTACK", "SHAPES"]

POST: Final = b"POST /accounts HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Type: application/json\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
HIDDEN: Final = b"%d" % (len(SMUGGLED) + 8)


def _te(name: str, header: bytes) -> Shape:
    """A Transfer-Encoding that only some readers take for chunked, with a length that hides a request from them."""
    return Shape(
        name=name,
        data=POST + b"Content-Length: 6\r\n" + header + b"\r\n0\r\n\r\nG" + SMUGGLED,
    )


def _length(name: str, *headers: bytes) -> Shape:
    return Shape(name=name, data=POST + b"\r\n".join(headers) + b"\r\n\r\n" + b"x" * 5 + SMUGGLED)


def _chunk(name: str, body: bytes) -> Shape:
    return Shape(name=name, data=POST + CHUNKED + b"\r\n" + body)


SHAPES: Final = (
    Shape(
        name="CL.TE: both headers",
        data=POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nG" + SMUGGLED,
    ),
    Shape(
        name="TE.CL: both headers, the other way",
        data=POST + CHUNKED + b"Content-Length: 4\r\n\r\n5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    ),
    _te("TE.TE: xchunked", b"Transfer-Encoding: xchunked\r\n"),
    _te("TE.TE: blank before the colon", b"Transfer-Encoding : chunked\r\n"),
    _te("TE.TE: tab before the value", b"Transfer-Encoding:\tchunked\r\n"),
    _te("TE.TE: two of them", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    _te("TE.TE: identity, chunked", b"Transfer-Encoding: identity, chunked\r\n"),
    _te("TE.TE: chunked, identity", b"Transfer-Encoding: chunked, identity\r\n"),
    _te("TE.TE: upper case", b"TRANSFER-ENCODING: CHUNKED\r\n"),
    _te("TE.TE: vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
    _te("TE.TE: quoted", b'Transfer-Encoding: "chunked"\r\n'),
    _te("TE.TE: behind a line feed", b"X: y\nTransfer-Encoding: chunked\r\n"),
    _te("TE.TE: behind a carriage return", b"X: y\rTransfer-Encoding: chunked\r\n"),
    _te("TE.TE: folded", b"Transfer-Encoding:\r\n chunked\r\n"),
    _te("TE.TE: NUL at the end", b"Transfer-Encoding: chunked\x00\r\n"),
    _length("two lengths that differ", b"Content-Length: 5", b"Content-Length: " + HIDDEN),
    _length("two lengths in one line", b"Content-Length: 5, 6"),
    _length("a length with a sign", b"Content-Length: +5"),
    _length("a negative length", b"Content-Length: -1"),
    _length("a length in hexadecimal", b"Content-Length: 0x5"),
    _length("a length with a blank in it", b"Content-Length: 5 5"),
    _length("a length of nothing", b"Content-Length: "),
    _length("a length beyond 64 bits", b"Content-Length: 18446744073709551621"),
    _length("a blank before the colon of the length", b"Content-Length : 5"),
    _chunk("a chunk size with a sign", b"+5\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk size in the negative", b"-5\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk that does not end where it says", b"3\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk that ends in a bare line feed", b"5\nhello\n0\n\n" + SMUGGLED),
    _chunk("a chunk extension with a bare line feed", b"5;a\nx\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunk("a chunk extension of 100 kB", b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
    _chunk("a trailer of 200 kB", b"5\r\nhello\r\n0\r\n" + b"a: " + b"b" * 200_000 + b"\r\n\r\n"),
    Shape(
        name="chunked in HTTP/1.0",
        data=POST.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    ),
    Shape(
        name="a folded header line",
        data=b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}X: a\r\n Content-Length: 5\r\n\r\nhello" + SMUGGLED,
    ),
    Shape(
        name="a blank before the first header",
        data=b"GET /page.svg HTTP/1.1\r\n Host: {host}\r\nHost: {host}\r\n\r\n",
    ),
    Shape(
        # A server may take it for a line end (RFC 9112, section 2.2), as long as it does so everywhere.
        name="lines that end in a bare line feed",
        data=b"GET /page.svg HTTP/1.1\nHost: {host}\n{auth}\n",
        allowed=REFUSED | {200},
    ),
    Shape(name="lines that end in a bare carriage return", data=b"GET /page.svg HTTP/1.1\rHost: {host}\r\r"),
    Shape(name="a header without a colon", data=b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}nonsense\r\n\r\n"),
    Shape(name="a header without a name", data=b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}: x\r\n\r\n"),
    Shape(name="NUL in a header", data=b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\n{auth}X: a\x00b\r\n\r\n"),
    Shape(
        name="a bare carriage return in a value", data=b"GET /page.svg HTTP/1.1\r\nHost: {host}\r\nX: a\rY: b\r\n\r\n"
    ),
    Shape(name="HTTP/0.9", data=b"GET /page.svg\r\n", seconds=3.0),
    Shape(name="HTTP/9.9", data=b"GET /page.svg HTTP/9.9\r\nHost: {host}\r\n\r\n"),
    Shape(name="a request line of four words", data=b"GET /page.svg x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
)


async def attack(target: Target) -> Checks:
    """Send every shape."""
    return await run_shapes(target, SHAPES)


ATTACK: Final = Attack(
    name="framing", threat="a request hidden in another one, for the next client's connection (CWE-444)", run=attack
)
