"""A form has no more parts than it may, and every parser would cut it into the same ones."""

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multipart import MultipartParser  # type: ignore[import-untyped]

from workhorse.errors import Problem, SettingsError
from workhorse.guard.checks.content_type import MediaType, parse_media_type
from workhorse.guard.checks.multipart import FormFields, FormRules, Multipart, check_boundary, compile_forms

RULES = compile_forms(parts=3, head_bytes=256)
HEAD = b'Content-Disposition: form-data; name="a"\r\n'


def part(content: bytes = b"x", head: bytes = HEAD) -> bytes:
    return b"--B\r\n" + head + b"\r\n" + content + b"\r\n"


def verdict(chunks: list[bytes], *, boundary: bytes = b"B", rules: FormRules = RULES) -> str:
    inspector = Multipart(rules, boundary)
    try:
        out = [inspector.feed(chunk, last=number + 1 == len(chunks)) for number, chunk in enumerate(chunks)]
    except Problem as problem:
        return f"{problem.status} {inspector.control}"
    assert out == chunks
    return "passes"


AMBIGUOUS = "400 multipart.form"
ROWS: list[tuple[str, bytes, str]] = [
    ("one part", part() + b"--B--\r\n", "passes"),
    ("no line break at the end", part() + b"--B--", "passes"),
    ("as many as allowed", part() * 3 + b"--B--\r\n", "passes"),
    ("one more", part() * 4 + b"--B--\r\n", "413 multipart.parts"),
    ("one more without an end", part() * 4, "413 multipart.parts"),
    ("no part", b"--B--\r\n", "passes"),
    ("an empty part", part(b"") + b"--B--", "passes"),
    ("a part without a head", part(head=b"") + b"--B--", "passes"),
    ("an empty part without a head", b"--B\r\n\r\n\r\n--B--", "passes"),
    ("a part that is only a head", b"--B\r\n" + HEAD + b"\r\n--B--", "passes"),
    ("a preamble", b"hello\r\n" + part() + b"--B--", "passes"),
    ("an epilogue", part() + b"--B--\r\nbye", "passes"),
    ("line breaks in the content", part(b"a\r\n\r\nb\r\n\r\n") * 3 + b"--B--", "passes"),
    ("dashes in the content", part(b"--\r\n-- B\r\n-B\r\n--b") + b"--B--", "passes"),
    ("a long content", part(b"-" * 300_000) + b"--B--", "passes"),
    ("the longest head", part(head=b"a: " + b"x" * 249 + b"\r\n") + b"--B--", "passes"),
    ("a longer head", part(head=b"a: " + b"x" * 260 + b"\r\n") + b"--B--", "413 multipart.head"),
    ("a head of many fields", part(head=b"a: b\r\n" * 50) + b"--B--", "413 multipart.head"),
    ("a head without an end", b"--B\r\n" + b"x" * 300, "413 multipart.head"),
    ("a head that ends in bare line feeds", b"--B\r\na: b\n\n" + b"x" * 300, "413 multipart.head"),
    ("no end", part(), AMBIGUOUS),
    ("half an end", part() + b"--B-", AMBIGUOUS),
    ("an end in a head", b"--B\r\n" + HEAD, AMBIGUOUS),
    ("not even a delimiter", b"hello", AMBIGUOUS),
    ("the wrong boundary", b"--C\r\n\r\nx\r\n--C--", AMBIGUOUS),
    ("a delimiter after a bare line feed", part(b"x\n--B\r\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a delimiter after a bare carriage return", part(b"x\r--B\r\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a first delimiter after a bare line feed", b"\n" + part() + b"--B--", AMBIGUOUS),
    ("a delimiter within a line", part(b"x--B\r\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a delimiter in a file's name", part(head=b'a: "\r\n--B\r\n"\r\n') + b"--B--", AMBIGUOUS),
    ("a delimiter in a head", part(head=b"a: --B\r\n") + b"--B--", AMBIGUOUS),
    ("a delimiter that goes on", part(b"x\r\n--BC\r\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a delimiter and a bare line feed", part(b"x\r\n--B\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a delimiter and blanks", part(b"x\r\n--B \r\n\r\ny") + b"--B--", AMBIGUOUS),
    ("a part behind the end", part() + b"--B--\r\n" + part() + b"--B--", AMBIGUOUS),
    ("a second end", part() + b"--B--\r\n--B--", AMBIGUOUS),
    ("an end that goes on", part() + b"--B--x", AMBIGUOUS),
    ("an end and a bare line feed", part() + b"--B--\n", AMBIGUOUS),
    ("an end and half a line break", part() + b"--B--\r", AMBIGUOUS),
    ("an end that begins a delimiter", b"--B--B--", AMBIGUOUS),
    ("nothing at all", b"", "passes"),
]


@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("size", [1 << 20, 1, 2, 3, 5, 64], ids=lambda size: f"chunks of {size}")
def test_forms(body: bytes, expected: str, size: int) -> None:
    if size > 2 or len(body) < 10_000:
        assert verdict([body[start : start + size] for start in range(0, len(body), size)] + [b""]) == expected


BOUNDARIES = [
    ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", True),
    ("multipart/form-data; boundary=0123456789abcdef", True),
    ('multipart/mixed; boundary="a b:c"', True),
    ("multipart/form-data; boundary=" + "x" * 70, True),
    ("multipart/form-data; boundary=" + "x" * 71, False),
    ("multipart/form-data", False),
    ('multipart/form-data; boundary=""', False),
    ('multipart/form-data; boundary="a "', False),
    ('multipart/form-data; boundary="a;b"', False),
    (r'multipart/form-data; boundary="a\b"', False),
    ("multipart/form-data; boundary=a#b", False),
    ('multipart/form-data; boundary="\xff"', False),
    ("multipart/related", False),
    ("application/json", True),
    ("application/json; boundary=#", True),
]


@pytest.mark.parametrize(("value", "valid"), BOUNDARIES, ids=[ascii(value) for value, _ in BOUNDARIES])
def test_boundaries(value: str, valid: bool) -> None:  # noqa: FBT001
    kind = parse_media_type(value.encode("latin-1"))
    assert isinstance(kind, MediaType)
    refusal = check_boundary(kind)
    assert (refusal is None) == valid
    if refusal is not None:
        assert (refusal.problem.status, refusal.control) == (400, "multipart.boundary")


contents = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"B", b"x", b":"]), max_size=8).map(b"".join)


def cut(body: bytes, places: list[float]) -> list[bytes]:
    marks = [0, *sorted(int(place * len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(marks)]


@given(st.lists(contents, max_size=5), st.lists(st.floats(0, 1), max_size=12))
def test_what_a_client_packs_with_a_boundary_of_its_own_passes_however_it_is_cut(
    parts: list[bytes], places: list[float]
) -> None:
    boundary = b"aZ7=random"
    body = b"".join(b"--" + boundary + b"\r\n" + HEAD + b"\r\n" + content + b"\r\n" for content in parts)
    expected = "413 multipart.parts" if len(parts) > 3 else "passes"
    assert verdict(cut(body + b"--" + boundary + b"--\r\n", places), boundary=boundary) == expected


@given(
    st.lists(
        st.sampled_from([b"--B", b"--", b"\r\n", b"\n", b"\r", b"x", b" ", HEAD, b"\r\n\r\n", b"\r\n--B\r\n", part()]),
        max_size=12,
    ),
    st.lists(st.floats(0, 1), max_size=6),
    st.booleans(),
)
def test_a_parser_finds_no_more_parts_than_were_counted(pieces: list[bytes], places: list[float], closed: bool) -> None:  # noqa: FBT001
    body = b"".join(pieces) + (b"\r\n--B--\r\n" if closed else b"")
    whole = verdict([body])
    assert verdict(cut(body, places)) == whole
    if whole == "passes":
        found = body.count(b"--B\r\n")
        assert found <= 3
        assert body.count(b"--B") == found + (1 if body else 0)


def test_a_parser_of_another_make_finds_the_same_parts() -> None:
    body = part(b"one") + part(b"two\r\n") + part(b"") + b"--B--\r\n"
    assert verdict([body]) == "passes"
    assert [found.raw for found in MultipartParser(io.BytesIO(body), "B")] == [b"one", b"two\r\n", b""]


FIELDS = [
    ([b""], "passes"),
    ([b"a=1&b=2&c=3"], "passes"),
    ([b"a=1&b=2&c=3&d"], "413 form.fields"),
    ([b"a;b;c;d"], "413 form.fields"),
    ([b"&&&"], "413 form.fields"),
    ([b"a&", b"b&", b"c&", b"d"], "413 form.fields"),
    ([b"a=%26%26%26%26"], "passes"),
]


@pytest.mark.parametrize(("chunks", "expected"), FIELDS, ids=[ascii(chunks) for chunks, _ in FIELDS])
def test_fields_of_urlencoded_forms(chunks: list[bytes], expected: str) -> None:
    inspector = FormFields(RULES)
    seen = "passes"
    try:
        assert [inspector.feed(chunk, last=False) for chunk in chunks] == chunks
    except Problem as problem:
        seen = f"{problem.status} {inspector.control}"
    assert seen == expected


@pytest.mark.parametrize("setting", [{"parts": 0}, {"head_bytes": 255}, {"head_bytes": 1 << 20}], ids=str)
def test_settings_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"max_parts|head of a part"):
        compile_forms(**setting)
