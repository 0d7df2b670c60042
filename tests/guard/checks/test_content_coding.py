"""A compressed body comes out as what went in, or is refused; and never takes more memory than its limit."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.errors import Problem, SettingsError
from workhorse.guard.checks.content_coding import (
    Inflater,
    check_content_coding,
    compile_content_coding,
    inflated_headers,
    inflater,
)
from workhorse.guard.facts import Facts

RULES = compile_content_coding()
LIMIT = 1_000_000
NOISE = random.Random(1).randbytes(5_000)  # noqa: S311 - only what does not compress


def facts_of(coding: str | None) -> Facts:
    return Facts(http_scope("POST", "/", [("content-encoding", coding)] if coding is not None else []))


def feed_all(stream: Inflater, chunks: list[bytes]) -> bytes:
    return b"".join([stream.feed(chunk, last=number + 1 == len(chunks)) for number, chunk in enumerate(chunks)])


def inflate(chunks: Iterable[bytes], *, coding: str = "gzip", limit: int = LIMIT) -> bytes:
    stream = inflater(RULES, facts_of(coding), limit)
    assert stream is not None
    return feed_all(stream, list(chunks))


def fault(chunks: Iterable[bytes], *, coding: str = "gzip", limit: int = LIMIT, ratio: int = 1032) -> str:
    window = 15 if coding == "deflate" else 31
    stream = Inflater(limit, window=window, ratio=ratio, free_bytes=0)
    with pytest.raises(Problem) as caught:
        feed_all(stream, list(chunks))
    return f"{caught.value.status} {stream.control}"


CODINGS: list[tuple[str | None, str]] = [
    (None, "taken"),
    ("gzip", "taken"),
    ("GZip", "taken"),
    ("x-gzip", "taken"),
    ("deflate", "taken"),
    (" gzip ", "taken"),
    ("gzip,", "taken"),
    ("identity", "taken"),
    ("", "taken"),
    ("br", "refused"),
    ("zstd", "refused"),
    ("compress", "refused"),
    ("gzip, gzip", "refused"),
    ("gzip,identity", "refused"),
    ("deflate, gzip", "refused"),
    ("gzip gzip", "refused"),
    ("gzip;q=1", "refused"),
    ("gzip\x00", "refused"),
    ("aes128gcm", "refused"),
]


@pytest.mark.parametrize(("coding", "expected"), CODINGS, ids=[ascii(coding) for coding, _ in CODINGS])
def test_codings(coding: str | None, expected: str) -> None:
    refusal = check_content_coding(facts_of(coding))
    assert ("taken" if refusal is None else "refused") == expected
    if refusal is not None:
        assert refusal.problem.status == 415
        assert refusal.problem.headers == ((b"accept-encoding", b"gzip, deflate"),)
        assert inflater(RULES, facts_of(coding), LIMIT) is None


def test_what_is_not_compressed_is_not_inflated() -> None:
    assert inflater(RULES, facts_of(None), LIMIT) is None
    assert inflater(RULES, facts_of("identity"), LIMIT) is None


ONE = gzip.compress(b"hello")
BROKEN = [
    ("cut in its data", [ONE[:-12]], "gzip"),
    ("cut in its checksum", [ONE[:-6]], "gzip"),
    ("cut in its length", [ONE[:-1]], "gzip"),
    ("cut in its header", [ONE[:5]], "gzip"),
    ("cut, with an empty last chunk", [ONE[:-1], b""], "gzip"),
    ("a wrong checksum", [ONE[:-8] + b"\0\0\0\0" + ONE[-4:]], "gzip"),
    ("a wrong length", [ONE[:-4] + b"\xff\0\0\0"], "gzip"),
    ("a flipped byte", [ONE[:12] + bytes([ONE[12] ^ 255]) + ONE[13:]], "gzip"),
    ("garbage behind", [ONE + b"x"], "gzip"),
    ("garbage behind, in a chunk of its own", [ONE, b"x"], "gzip"),
    ("zeros behind", [ONE + bytes(512)], "gzip"),
    ("a second member", [ONE + ONE], "gzip"),
    ("a second member, in a chunk of its own", [ONE, ONE], "gzip"),
    ("not compressed", [b'{"a": 1}'], "gzip"),
    ("zlib for gzip", [zlib.compress(b"hello")], "gzip"),
    ("gzip for zlib", [ONE], "deflate"),
    ("bare deflate", [zlib.compress(b"hello", wbits=-15)], "deflate"),
    ("a preset dictionary", [b"\x78\xbb\x00\x00\x00\x01\x03\x00\x00\x00\x00\x01"], "deflate"),
    ("a wrong Adler checksum", [zlib.compress(b"hello")[:-1] + b"\0"], "deflate"),
]


@pytest.mark.parametrize(("chunks", "coding"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_broken_is_refused(chunks: list[bytes], coding: str) -> None:
    assert fault(chunks, coding=coding) == "400 coding.broken"


@pytest.mark.parametrize("chunks", [[b""], [b"", b""]], ids=["one chunk", "two chunks"])
def test_an_empty_body_has_nothing_to_inflate(chunks: list[bytes]) -> None:
    assert inflate(chunks) == b""


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks: list[bytes] = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@given(
    st.binary(max_size=2_000).map(lambda data: data * 3),
    st.lists(st.integers(0, 40), max_size=60),
    st.sampled_from(["gzip", "deflate", "x-gzip"]),
)
def test_however_it_is_cut_the_same_comes_out(data: bytes, sizes: list[int], coding: str) -> None:
    packed = zlib.compress(data) if coding == "deflate" else gzip.compress(data)
    assert inflate(cut(packed, sizes), coding=coding) == data


@given(st.integers(0, 3_000), st.lists(st.integers(0, 40), max_size=60), st.integers(0, 3_000))
def test_a_body_passes_exactly_up_to_its_limit_however_it_is_cut(size: int, sizes: list[int], limit: int) -> None:
    packed = gzip.compress(NOISE[:size])
    if size <= limit:
        assert inflate(cut(packed, sizes), limit=limit) == NOISE[:size]
    else:
        assert fault(cut(packed, sizes), limit=limit) == "413 coding.size"


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_is_inflated_or_refused(data: bytes, framed: bool) -> None:  # noqa: FBT001
    out, status = b"", 0
    try:
        out = Inflater(1_000).feed(ONE[:10] + data if framed else data, last=True)
    except Problem as problem:
        status = problem.status
    assert status in {0, 400, 413}
    assert len(out) <= 1_000


def feed_and_forget(stream: Inflater, packed: bytes, size: int) -> None:
    for start in range(0, len(packed), size):
        stream.feed(packed[start : start + size], last=False)


def bomb(megabytes: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    return b"".join([squeeze.compress(zeros) for _ in range(megabytes)]) + squeeze.flush()


@pytest.mark.parametrize("size", [1, 7, 1_000, 1 << 30], ids=["1", "7", "1000", "whole"])
def test_a_bomb_never_takes_much_more_memory_than_the_limit(size: int) -> None:
    packed = bomb(64)
    assert len(packed) < 100_000
    tracemalloc.start()
    try:
        stream = Inflater(100_000, ratio=1032)
        with pytest.raises(Problem):
            feed_and_forget(stream, packed, size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stream.control == "coding.size"
    assert peak < 500_000


def test_a_body_that_grows_too_much_is_refused_below_the_limit() -> None:
    assert fault([gzip.compress(bytes(500_000))], ratio=100) == "413 coding.ratio"
    assert inflate([gzip.compress(bytes(60_000))]) == bytes(60_000)
    rows = b",".join(b'{"id": %d, "amount": "100.00", "currency": "EUR"}' % number for number in range(10_000))
    assert inflate([gzip.compress(rows)]) == rows


def test_the_app_is_not_told_of_a_coding_and_a_length_that_are_gone() -> None:
    raw = [(b"host", b"a"), (b"content-encoding", b"gzip"), (b"content-length", b"9"), (b"content-type", b"text/x")]
    assert inflated_headers(raw) == [(b"host", b"a"), (b"content-type", b"text/x")]


@pytest.mark.parametrize("setting", [{"ratio": 0}, {"ratio": 2_000}, {"free_bytes": -1}], ids=str)
def test_settings_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="compressed bodies"):
        compile_content_coding(**setting)
