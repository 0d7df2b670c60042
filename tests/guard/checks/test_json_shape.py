"""The depth of a JSON body is known however it is cut, and whatever its strings hold."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workhorse.errors import Problem, SettingsError
from workhorse.guard.checks.json_shape import JsonDepth, UntypedJson, compile_json


def verdict(chunks: list[bytes], *, depth: int = 64, values: int = 1_000_000) -> str:
    inspector = JsonDepth(compile_json(depth=depth, values=values))
    try:
        out = [inspector.feed(chunk, last=number + 1 == len(chunks)) for number, chunk in enumerate(chunks)]
    except Problem as problem:
        return f"{problem.status} {inspector.control}"
    assert out == chunks
    return "passes"


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


ROWS: list[tuple[str, list[bytes], str]] = [
    ("nothing", [b""], "passes"),
    ("a number", [b"1"], "passes"),
    ("as deep as allowed", [nested(64)], "passes"),
    ("one deeper", [nested(65)], "400 json.depth"),
    ("objects", [b'{"a":' * 65 + b"1" + b"}" * 65], "400 json.depth"),
    ("both in turn", [b'[{"a":' * 33 + b"1" + b"}]" * 33], "400 json.depth"),
    ("only opened", [b"[" * 100_000], "400 json.depth"),
    ("only closed", [b"]" * 100_000], "passes"),
    ("many, but flat", [b"[" + b"[]," * 10_000 + b"[]]"], "passes"),
    ("many, but flat, and then deep", [b"[" + b"[]," * 10_000 + nested(64) + b"]"], "400 json.depth"),
    ("brackets in a string", [b'["' + b"[" * 1_000 + b'"]'], "passes"),
    ("brackets in a name", [b'{"' + b"{" * 1_000 + b'":1}'], "passes"),
    ("closing brackets in a string", [b'[" ' + b"]" * 100 + b'",' + nested(64) + b"]"], "400 json.depth"),
    ("behind an escaped quote", [rb'["\"' + b"[" * 100 + b'"]'], "passes"),
    ("behind an escaped backslash", [rb'["\\",' + nested(64) + b"]"], "400 json.depth"),
    ("behind a backslash and a quote, both escaped", [rb'["\\\"' + b"[" * 100 + b'"]'], "passes"),
    ("behind two escaped backslashes", [rb'["\\\\",' + nested(64) + b"]"], "400 json.depth"),
    ("behind an escape of letters", [b'["\\u005b\\u0022' + b"[" * 100 + b'"]'], "passes"),
    ("deep in the second chunk", [b"[" * 60, b"[" * 5], "400 json.depth"),
    ("deep in an unfinished body", [b"[" * 65, b""], "400 json.depth"),
    ("a string over two chunks", [b'["[[[', b"[" * 100 + b'"]'], "passes"),
    ("an escape over two chunks", [b'["\\', b'"' + b"[" * 100 + b'"]'], "passes"),
    ("an escaped backslash over two chunks", [b'["\\', b'\\",' + nested(64) + b"]"], "400 json.depth"),
    ("an escape, an empty chunk and a quote", [b'["\\', b"", b'"' + b"[" * 100 + b'"]'], "passes"),
    ("UTF-8 that holds no bracket", ['["嬢∀寢"]'.encode()], "passes"),
    ("UTF-16", ["[1]".encode("utf-16-le")], "400 json.encoding"),
    ("UTF-16 with a mark", ["[1]".encode("utf-16")], "400 json.encoding"),
    ("UTF-32", ["[1]".encode("utf-32-be")], "400 json.encoding"),
    ("UTF-16 whose letters look like quotes", ['["∀"'.encode("utf-16-le") + nested(99)], "400 json.encoding"),
]


@pytest.mark.parametrize(("chunks", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bodies(chunks: list[bytes], expected: str) -> None:
    assert verdict(chunks) == expected


@pytest.mark.parametrize(("chunks", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bodies_byte_by_byte(chunks: list[bytes], expected: str) -> None:
    body = b"".join(chunks)[:1_500]
    if body == b"".join(chunks):
        assert verdict([bytes([byte]) for byte in body] + [b""]) == expected


letters = st.text(st.sampled_from('[]{}",\\é∀ \n:') | st.characters(codec="utf-8"), max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=40,
)


def cut(body: bytes, places: list[float]) -> list[bytes]:
    marks = [0, *sorted(int(place * len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(marks)]


@given(document=documents, places=st.lists(st.floats(0, 1), max_size=8), ascii_only=st.booleans())
@example(document=["\\", "[[[["], places=[0.3, 0.5], ascii_only=False)
@example(document={'\\"[': ['"]']}, places=[0.2, 0.4, 0.6], ascii_only=True)
def test_it_agrees_with_the_parser_on_any_json_cut_anywhere(
    document: Any,
    places: list[float],
    ascii_only: bool,  # noqa: FBT001
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    depth = depth_of(json.loads(body))
    for limit in {max(1, depth - 1), max(1, depth), depth + 1}:
        expected = "400 json.depth" if depth > limit else "passes"
        assert verdict(cut(body, places), depth=limit) == expected


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"a", b",", b":"]), max_size=60), st.data())
def test_where_the_parser_reaches_a_depth_the_body_is_refused_even_if_it_is_no_json(
    pieces: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(pieces)
    reached = 0
    depth = 0
    in_string = escaped = False
    for character in body.decode():
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            reached = max(reached, depth)
        elif character in "]}":
            depth -= 1
        elif character == "\\":
            break  # no parser goes on here
        if depth < 0:
            break
    limit = data.draw(st.integers(1, 10))
    if reached > limit:
        assert verdict(cut(body, data.draw(st.lists(st.floats(0, 1), max_size=4))), depth=limit) == "400 json.depth"


def test_the_number_of_values_can_be_limited() -> None:
    assert verdict([b"[1,2,3]"], values=3) == "passes"
    assert verdict([b"[1,2,3,4]"], values=3) == "413 json.values"
    assert verdict([b'["', b'a,b,c,d,e"', b"]"], values=3) == "passes"
    assert verdict([b"[" + b"{}," * 50, b"{}," * 60 + b"{}]"], values=200) == "413 json.values"


def test_a_large_body_is_looked_through_without_being_parsed() -> None:
    rng = random.Random(2)  # noqa: S311 - only to vary
    rows = [{"id": rng.getrandbits(60), "note": 'a "quoted" \\ note', "tags": ["a", "b"]} for _ in range(5_000)]
    body = json.dumps(rows).encode()
    assert verdict([body[start : start + 65_536] for start in range(0, len(body), 65_536)], depth=3) == "passes"
    assert verdict([body[start : start + 65_536] for start in range(0, len(body), 65_536)], depth=2) == "400 json.depth"


@pytest.mark.parametrize("setting", [{"depth": 0}, {"depth": 1_001}, {"values": 0}], ids=str)
def test_settings_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"max_json_depth|max_json_values"):
        compile_json(**setting)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"[[[]]]"], "400 json.depth"),
        ([b" \r\n", b"\t[[[", b"]]]"], "400 json.depth"),
        ([b"\xef\xbb\xbf[[[]]]"], "400 json.depth"),
        ([b"\xff\xfe[\0]\0"], "400 json.encoding"),
        ([b"\0[\0]"], "400 json.encoding"),
        ([b"[[]]"], "passes"),
        ([b"see [[[[1]]]]"], "passes"),
        ([b"", b"  "], "passes"),
        ([b"text with a \0"], "passes"),
    ],
    ids=repr,
)
def test_what_does_not_say_that_it_is_json_is_measured_if_it_looks_so(chunks: list[bytes], expected: str) -> None:
    inspector = UntypedJson(compile_json(depth=2))
    verdict = "passes"
    try:
        for number, chunk in enumerate(chunks):
            assert inspector.feed(chunk, last=number + 1 == len(chunks)) == chunk
    except Problem as problem:
        verdict = f"{problem.status} {inspector.control}"
    assert verdict == expected
