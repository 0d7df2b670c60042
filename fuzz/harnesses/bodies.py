"""Bodies of requests: their type, their coding, JSON, forms, messages of WebSockets, and payment files."""

import gzip
import json
import re
import zlib
from email.message import Message
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl

from bank.pain001 import MAX_FAULTS, FileFaults, PaymentFile, parse
from fuzz.harness import Harness, Splitter, require
from workhorse.errors import Problem
from workhorse.guard.checks.content_coding import CodingRules, Inflater
from workhorse.guard.checks.content_type import parse_media_type
from workhorse.guard.checks.json_shape import JsonDepth, compile_json
from workhorse.guard.checks.multipart import FormFields, Multipart, check_boundary, compile_forms
from workhorse.guard.checks.websocket import MessageMeter, compile_websocket

__all__ = ["HARNESSES"]

DEPTH: Final = 8
PARTS: Final = 6
LIMIT: Final = 20_000
JSON: Final = compile_json(depth=DEPTH)
FORMS: Final = compile_forms(parts=PARTS, head_bytes=256)
CODING: Final = CodingRules(ratio=50, free_bytes=1024)
BOUNDARY: Final = b"xYz"
GZIP: Final = 16 + zlib.MAX_WBITS
CHARSET: Final = re.compile(r"[!-~]+")


class Inspector(Protocol):
    """What looks into a body as it streams."""

    control: str

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next bytes."""
        ...


def fed(inspector: Inspector, chunks: list[bytes]) -> bytes | None:
    """What comes out of a body that comes in these pieces; None if it is refused, which only a `Problem` may do."""
    out = b""
    for number, chunk in enumerate(chunks, start=1):
        try:
            out += inspector.feed(chunk, last=number == len(chunks))
        except Problem as problem:
            require(problem.status in {400, 413, 415}, "a body is refused with another status", problem.status)
            require(inspector.control, "a body is refused by no control")
            return None
    return out


def fuzz_content_type(data: bytes) -> None:
    """What is taken for a media type is one to the standard library's reader as well, and the same one."""
    kind = parse_media_type(data)
    if kind is None:
        return
    require(re.fullmatch(rb"[!-~]+/[!-~]+", kind.essence), "the type holds more than a type", data, kind)
    require(kind.essence == kind.essence.lower(), "the type is not in lower case", kind)
    require(kind.is_json == kind.essence.endswith((b"/json", b"/x-json", b"+json")), "whether it is JSON", kind)
    if check_boundary(kind) is None and kind.is_multipart:
        require(re.fullmatch(rb"[ -~]{1,70}", kind.boundary), "the boundary breaks a line", kind)
    text = data.decode("latin-1")
    # The library knows continuations and languages (RFC 2231), which HTTP does not.
    if CHARSET.fullmatch(text.replace(" ", "").replace("\t", "")) and "*" not in text and "'" not in text:
        message = Message()
        message["content-type"] = text
        if message.get_content_type() != "text/plain":
            require(message.get_content_type() == kind.essence.decode(), "another type is read", data, kind)
        if b"\\" not in data and b'"' not in data and kind.boundary:
            require(message.get_boundary() == kind.boundary.decode(), "another boundary is read", data, kind)


def fuzz_coding(data: bytes) -> None:
    """What is inflated is what zlib makes of the whole, within the limits, however it is cut."""
    split = Splitter(data)
    window, mode = (GZIP, zlib.MAX_WBITS)[split.number(2)], split.number(4)
    chunks = split.chunks()
    if mode:
        body = b"".join(chunks) * (1, 1, 1, 200)[mode]
        packed = gzip.compress(body, mtime=0) if window == GZIP else zlib.compress(body)
        if mode == 2:
            packed = packed[: len(packed) // 2] + bytes([len(body) % 256]) + packed[len(packed) // 2 :]
        half = len(packed) // 3
        chunks = [packed[:half], packed[half:]]
    out = fed(_inflater(window), chunks)
    came_in = sum(map(len, chunks))
    if out is not None and came_in:
        require(len(out) <= min(LIMIT, max(CODING.free_bytes, CODING.ratio * came_in)), "more came out than is allowed")
        stream = zlib.decompressobj(window)
        require(stream.decompress(b"".join(chunks)) == out, "something else came out than zlib makes of it", chunks)
        require(stream.eof and not stream.unused_data, "it breaks off, or something follows", chunks)
        require(fed(_inflater(window), [b"".join(chunks)]) == out, "in one piece it is another body", chunks)


def fuzz_json(data: bytes) -> None:
    """What is admitted is not nested too deeply to a parser, what is refused is; however it is cut."""
    chunks = Splitter(data).chunks()
    body = b"".join(chunks)
    admitted = fed(JsonDepth(JSON), chunks)
    require(admitted is None or admitted == body, "the body is changed", chunks)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    if b"\0" not in body:
        deep = _depth(value) > DEPTH
        # A repeated key hides what its first value held from the parser's result, and not from the parser.
        require(not (deep and admitted is not None), "JSON that is nested too deeply is admitted", chunks)
        plain = json.loads(body, object_pairs_hook=list)
        require(admitted is not None or _depth(plain) > DEPTH, "JSON that is flat is refused", chunks)


def fuzz_multipart(data: bytes) -> None:
    """What is admitted has as many parts to the standard library's reader, however it is cut."""
    chunks = Splitter(data).chunks()
    body = b"".join(chunks)
    cut = fed(Multipart(FORMS, BOUNDARY), chunks)
    whole = fed(Multipart(FORMS, BOUNDARY), [body])
    require((cut is None) == (whole is None), "it depends on how the body is cut", chunks)
    if whole:
        require(whole == body, "the body is changed", chunks)
        # Delimiters as RFC 2046 has them, found by another way than the guard's.
        delimiters = re.findall(rb"(?:\A|(?<=\r\n))--xYz(--)?(?=\r\n|\Z)", body)
        require(body.count(b"--xYz") == len(delimiters), "a delimiter where some reader may see none", body)
        require(len(delimiters) - 1 <= PARTS, "more parts than are allowed", body)
        require(delimiters and delimiters[-1] == b"--" and delimiters.count(b"--") == 1, "the end is not the end", body)


def fuzz_form(data: bytes) -> None:
    """What is admitted has no more fields than are allowed to any reader, by `&` or by `;`."""
    chunks = Splitter(data).chunks()
    body = b"".join(chunks)
    if fed(FormFields(FORMS), chunks) is not None:
        for separator in ("&", ";"):
            fields = parse_qsl(body.decode("latin-1"), keep_blank_values=True, separator=separator)
            require(len(fields) <= PARTS, "more fields than are allowed", body)


def fuzz_message(data: bytes) -> None:
    """A message is measured as it is encoded, whatever is in it."""
    text = data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace") if _decodes(data) else ""
    for message in ({"text": text, "bytes": None}, {"bytes": data}, {"text": None, "bytes": data}):
        size = len(data) if message.get("bytes") is not None else len(text.encode("utf-8", "surrogatepass"))
        for most in (max(size - 1, 1), size, size + 1):
            if most:
                meter = MessageMeter(compile_websocket(message_bytes=most))
                require((meter.take(message, 1.0) == 0) == (size <= most), "a message is measured wrongly", message)


def fuzz_pain001(data: bytes) -> None:
    """A payment file is taken in or refused with faults, of which there is a bounded number."""
    try:
        file = parse(data)
    except FileFaults as error:
        require(1 <= len(error.faults) <= MAX_FAULTS + 1, "too many faults, or none", len(error.faults))
        return
    _check_file(file)


def _check_file(file: PaymentFile) -> None:
    for transfer in file.transactions:
        require(transfer.amount > 0, "an amount that is none", transfer)
        require(not re.search(r"[\x00-\x1f]", repr(transfer)), "a control character", transfer)


def _inflater(window: int) -> Inflater:
    return Inflater(LIMIT, window=window, ratio=CODING.ratio, free_bytes=CODING.free_bytes)


def _depth(value: Any) -> int:
    """How deep a parsed JSON value is nested; an object parsed as a list of pairs counts once."""
    deepest = 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        item, level = todo.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, level)
            todo += [(member, level + 1) for member in _members(cast("dict[str, Any] | list[Any]", item))]
    return deepest


def _members(container: dict[str, Any] | list[Any]) -> list[Any]:
    if isinstance(container, dict):
        return list(container.values())
    return [member[1] if isinstance(member, tuple) else member for member in container]


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b"\xed" not in data
    return True


def _part(name: bytes, content: bytes) -> bytes:
    return b'--xYz\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + content + b"\r\n"


NO_CUTS: Final = b"\x00\x00\x00"
FORM: Final = _part(b"a", b"1") + _part(b"b", b"--xY\r\n-") + b"--xYz--\r\n"
PAYMENT: Final = b"""<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"><CstmrCdtTrfInitn><GrpHdr><MsgId>M1</MsgId>
<CreDtTm>2026-05-01T09:00:00</CreDtTm><NbOfTxs>1</NbOfTxs><CtrlSum>12.50</CtrlSum><InitgPty><Nm>Jane</Nm></InitgPty>
</GrpHdr><PmtInf><PmtInfId>P1</PmtInfId><PmtMtd>TRF</PmtMtd><DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id>
</DbtrAcct><CdtTrfTxInf><PmtId><EndToEndId>E1</EndToEndId></PmtId><Amt><InstdAmt Ccy="EUR">12.50</InstdAmt></Amt>
<CdtrAcct><Id><Othr><Id>17</Id></Othr></Id></CdtrAcct><RmtInf><Ustrd>Rent</Ustrd></RmtInf></CdtTrfTxInf></PmtInf>
</CstmrCdtTrfInitn></Document>"""

HARNESSES: Final = (
    Harness(
        name="bodies.content_type",
        run=fuzz_content_type,
        seeds=(
            b"application/json; charset=utf-8",
            b'multipart/form-data; boundary="a b"',
            b"application/ld+json;a=b;;c=d",
            b'text/html ; x="\\"";boundary=z ',
        ),
        max_bytes=512,
    ),
    Harness(
        name="bodies.coding",
        run=fuzz_coding,
        seeds=(
            b"\x00\x01" + NO_CUTS + b"hello" * 20,
            b"\x01\x03" + NO_CUTS + b"a",
            b"\x00\x00\x01\x00\x09" + gzip.compress(b"abc", mtime=0),
            b"\x01\x00" + NO_CUTS + zlib.compress(b"abc"),
            b"\x00\x02" + NO_CUTS + b"x",
        ),
    ),
    Harness(
        name="bodies.json",
        run=fuzz_json,
        seeds=(
            NO_CUTS + b'{"a": [1, {"b": "x\\"]["}], "c": null}',
            b"\x01\x00\x05\x00\x09" + b"[" * 9 + b"]" * 9,
            NO_CUTS + b'["\\\\", "[[[[[[[[[", "\\\\\\""]',
        ),
    ),
    Harness(
        name="bodies.multipart",
        run=fuzz_multipart,
        seeds=(
            NO_CUTS + FORM,
            b"\x01\x00\x04\x00\x40" + FORM,
            NO_CUTS + b"--xYz\r\n\r\n\r\n--xYz--",
            NO_CUTS + b"preamble\r\n--xYz\r\n\r\nz\r\n--xYz--\r\nepilogue",
        ),
    ),
    Harness(name="bodies.form", run=fuzz_form, seeds=(NO_CUTS + b"a=1&b=%26;c", NO_CUTS + b"a&a&a&a&a&a")),
    Harness(name="bodies.message", run=fuzz_message, seeds=(b"hello", b"caf\xc3\xa9", b"\xed\xa0\x80", b"\xff")),
    Harness(name="bodies.pain001", run=fuzz_pain001, seeds=(PAYMENT,), max_bytes=8192),
)
