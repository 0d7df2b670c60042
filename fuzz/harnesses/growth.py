"""Time: no parser takes much longer than its input is long.

Regular expressions that backtrack are the usual way to stop a service with one request (CWE-1333). An input is cut into
three, the middle repeated to kilobytes, and the time looked at.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fuzz.harness import Harness, Splitter, check_growth
from fuzz.harnesses.heads import CORS, HOSTS, PATHS, PROXIES, facts_of
from workhorse.guard.checks.content_type import parse_media_type
from workhorse.guard.checks.cors import cors_headers
from workhorse.guard.checks.host import check_host
from workhorse.guard.checks.json_shape import JsonDepth, compile_json
from workhorse.guard.checks.multipart import Multipart, compile_forms
from workhorse.guard.checks.path import check_path
from workhorse.guard.checks.proxies import read_forwarded, read_list
from workhorse.identity.certificate import CertificateFormat, read_certificate
from workhorse.identity.jws import read_token
from workhorse.identity.keys import read_key_set
from workhorse.policy import Policy, PolicyTable
from workhorse.telemetry.lines import AccessLine, text_lines
from workhorse.telemetry.redaction import redact_text
from workhorse.telemetry.trace import parse_traceparent

__all__ = ["HARNESSES", "PARSERS"]

TABLE: Final = PolicyTable([Policy("GET /{a}/{b}/{c}/x"), Policy("GET /{rest:path}"), Policy("* /a/{b}/{c:path}")])
FORMS: Final = compile_forms(parts=100_000)
JSON: Final = compile_json(depth=1000)

NOW: Final = datetime(2027, 1, 15, tzinfo=UTC)


def _log(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    return text_lines([AccessLine(NOW, "GET", text, "", 200, 1.0, "", "", "")])


PARSERS: Final[tuple[Callable[[bytes], object], ...]] = (
    lambda data: check_host(HOSTS, facts_of([(b"host", data)])),
    lambda data: check_path(PATHS, facts_of([], path=b"/" + data)),
    lambda data: read_list(PROXIES, data),
    lambda data: read_forwarded(PROXIES, data),
    lambda data: cors_headers(CORS, facts_of([(b"origin", data)])),
    parse_media_type,
    lambda data: JsonDepth(JSON).feed(data, last=False),
    lambda data: Multipart(FORMS, b"x").feed(data, last=True),
    lambda data: read_token(b"Bearer " + data, max_bytes=1 << 20),
    lambda data: read_certificate(CertificateFormat.XFCC, data[: 16 * 1024]),
    lambda data: read_certificate(CertificateFormat.PEM, data[: 16 * 1024]),
    read_key_set,
    parse_traceparent,
    lambda data: TABLE.find("GET", "/" + data.decode("latin-1")),
    lambda data: redact_text(data.decode("utf-8", "surrogateescape")),
    _log,
)
"""Each is named by its place, the first byte of an input."""


def fuzz_growth(data: bytes) -> None:
    """No parser takes much longer than its input is long."""
    split = Splitter(data)
    parser = PARSERS[split.number(len(PARSERS))]
    front, pump = split.piece()[:64], split.piece()[:32]
    check_growth(parser, front=front, pump=pump, back=split.rest()[:64])


def _seed(place: int, front: bytes, pump: bytes, back: bytes) -> bytes:
    return bytes([place, len(front)]) + front + bytes([len(pump)]) + pump + back


HARNESSES: Final = (
    Harness(
        name="growth.time",
        run=fuzz_growth,
        seeds=(
            _seed(0, b"a", b".a", b"."),
            _seed(1, b"a", b"/%2", b"."),
            _seed(3, b"for=", b'"', b",for=1.1.1.1"),
            _seed(3, b"for=1.1.1.1;", b"a=b;", b","),
            _seed(4, b"https://", b"a.", b"shop.example"),
            _seed(5, b"a/b", b" ;", b'x="'),
            _seed(5, b'a/b;c="', b"\\\\", b""),
            _seed(7, b"--x\r\n", b"--", b"x"),
            _seed(7, b"--x\r\n\r\n", b"\r\n--x\r\n\r\n", b"\r\n--x--"),
            _seed(9, b"", b'\\"', b","),
            _seed(9, b"Hash=", b'a="";', b"!"),
            _seed(10, b"-----BEGIN CERTIFICATE-----", b"\n ", b"-"),
            _seed(13, b"a", b"/a", b"/"),
            _seed(14, b"token", b"token", b"="),
            _seed(14, b"://", b"://a:", b"@"),
            _seed(14, b"", b'password="\\', b""),
        ),
        max_bytes=256,
    ),
)
