"""A path that two readers could take for two paths is refused; one that a real client writes is served."""

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import workhorse.guard.checks.path as spelling
from tests.asgi_client import http_scope
from workhorse.guard.checks.path import check_path, compile_path
from workhorse.guard.facts import read_facts

RULES = compile_path()


def verdict(
    path: bytes,
    *,
    method: str = "GET",
    encoded_slashes: bool = False,
    double_escapes: bool = False,
    rules: object = RULES,
) -> str:
    scope = http_scope(method, "/")
    scope["raw_path"] = path
    scope["path"] = unquote(path, errors="replace")
    assert isinstance(rules, type(RULES))
    refusal = check_path(rules, read_facts(scope), encoded_slashes=encoded_slashes, double_escapes=double_escapes)
    if refusal is None:
        return "served"
    assert refusal.problem.status == 400
    return refusal.control


SERVED = [
    b"/",
    b"/transfers",
    b"/transfers/",
    b"/accounts/123e4567-e89b-12d3-a456-426614174000/transfers",
    b"/.well-known/openid-configuration",
    b"/-/ready",
    b"/files/report.v1.tar.gz",
    b"/files/a..b",
    b"/files/...",
    b"/files/.hidden",
    b"/files/a%2Eb",
    b"/a//b",
    b"/a/b//",
    b"/users/~alice",
    b"/users/%7Ealice",
    b"/users/a@b.example",
    b"/caf%C3%A9",
    b"/%E6%97%A5%E6%9C%AC",
    b"/%F0%9F%90%B4",
    b"/%D9%86%D9%85%E2%80%8C%DB%8C",
    b"/two%20words",
    b"/two+words",
    b"/100%25",
    b"/50%25-off",
    b"/c%23",
    b"/who%3F",
    b"/a%3Db%26c",
    b"/isbn:978-3-16",
    b"/urn%3Aisbn%3A978",
    b"/map;v=1/key;w",
    b"/list[0]|x",
    b"/!$&'()*+,=:@",
]


@pytest.mark.parametrize("path", SERVED, ids=ascii)
def test_what_clients_write_is_served(path: bytes) -> None:
    assert verdict(path) == "served"


REFUSED = [
    (b"/..", "path.dot_segment"),
    (b"/../etc/passwd", "path.dot_segment"),
    (b"/a/../b", "path.dot_segment"),
    (b"/a/./b", "path.dot_segment"),
    (b"/a/.", "path.dot_segment"),
    (b"/a/%2e%2e/b", "path.dot_segment"),
    (b"/a/%2E%2E/b", "path.dot_segment"),
    (b"/a/.%2e/b", "path.dot_segment"),
    (b"/a/%2e./b", "path.dot_segment"),
    (b"/a/%2e", "path.dot_segment"),
    (b"/a/..;/b", "path.dot_segment"),
    (b"/a/..;x=y/b", "path.dot_segment"),
    (b"/a/.;/b", "path.dot_segment"),
    (b"/a/%2e%2e%3b/b", "path.dot_segment"),
    (b"/;/admin", "path.dot_segment"),
    (b"/a/;x=y", "path.dot_segment"),
    (b"/a/%252e%252e/b", "path.double_escape"),
    (b"/%252f", "path.double_escape"),
    (b"/%2500", "path.double_escape"),
    (b"/%25%32%65", "path.needless_escape"),
    (b"/%252561", "path.double_escape"),
    (b"/a%2fb", "path.escaped_separator"),
    (b"/a%2Fb", "path.escaped_separator"),
    (b"/a%5cb", "path.escaped_separator"),
    (b"/..%5c..%5cboot.ini", "path.escaped_separator"),
    (b"/a/..%2f..%2fb", "path.escaped_separator"),
    (b"/a\\b", "path.character"),
    (b"/\\evil.example", "path.character"),
    (b"/a%00.png", "path.character"),
    (b"/a%0d%0aSet-Cookie:x", "path.character"),
    (b"/a%7f", "path.character"),
    (b"/a%1b", "path.character"),
    (b"/a%C2%85", "path.character"),
    (b"/a\x00b", "path.character"),
    (b"/a\r\nb", "path.character"),
    (b"/a\n", "path.character"),
    (b"/a b", "path.character"),
    (b"/a\x7f", "path.character"),
    (b"/caf\xc3\xa9", "path.character"),
    (b"/a#b", "path.character"),
    (b"/a?b", "path.character"),
    (b"/%c0%ae%c0%ae/", "path.encoding"),
    (b"/%c0%af", "path.encoding"),
    (b"/%e0%80%ae", "path.encoding"),
    (b"/%f0%80%80%af", "path.encoding"),
    (b"/%ed%a0%80", "path.encoding"),
    (b"/%ff", "path.encoding"),
    (b"/caf%e9", "path.encoding"),
    (b"/%f5%80%80%80", "path.encoding"),
    (b"/%61dmin", "path.needless_escape"),
    (b"/adm%49n", "path.needless_escape"),
    (b"/internal%2Dapi", "path.needless_escape"),
    (b"/a%5fb", "path.needless_escape"),
    (b"/v%31", "path.needless_escape"),
    (b"/%", "path.escape"),
    (b"/%4", "path.escape"),
    (b"/%zz", "path.escape"),
    (b"/%u002e%u002e/", "path.escape"),
    (b"/%%32%65", "path.escape"),
    (b"/100%/x", "path.escape"),
    (b"//evil.example", "path.empty_segment"),
    (b"//", "path.empty_segment"),
    (b"///a", "path.empty_segment"),
    (b"", "path.form"),
    (b"admin", "path.form"),
    (b"*", "path.form"),
    (b"http://evil.example/", "path.form"),
    (b"evil.example:443", "path.form"),
    (b"?a", "path.form"),
    (b"\n/", "path.form"),
]


@pytest.mark.parametrize(("path", "expected"), REFUSED, ids=[ascii(path) for path, _ in REFUSED])
def test_what_can_be_read_in_two_ways_is_refused(path: bytes, expected: str) -> None:
    assert verdict(path) == expected


def test_options_may_ask_about_the_server_as_a_whole() -> None:
    assert verdict(b"*", method="OPTIONS") == "served"
    assert verdict(b"**", method="OPTIONS") == "path.form"


ENCODED = [
    (b"/files/a%2Fb", "served"),
    (b"/files/a%2fb%2Fc", "served"),
    (b"/files/a%2F%2Fb", "served"),
    (b"/files/..%2Fetc", "path.dot_segment"),
    (b"/files/a%2f..", "path.dot_segment"),
    (b"/files%2f%2e%2e%2fetc", "path.dot_segment"),
    (b"/%2Fevil.example", "path.empty_segment"),
    (b"/files/a%5Cb", "path.escaped_separator"),
    (b"/files/a%252Fb", "path.double_escape"),
]


@pytest.mark.parametrize(("path", "expected"), ENCODED, ids=[ascii(path) for path, _ in ENCODED])
def test_a_route_may_take_encoded_slashes_and_nothing_else(path: bytes, expected: str) -> None:
    assert verdict(path, encoded_slashes=True) == expected


def test_needless_escapes_are_taken_where_the_switch_says_so() -> None:
    rules = compile_path(insecure_needless_escapes=True)
    assert verdict(b"/%61dmin", rules=rules) == "served"
    assert verdict(b"/%2e%2E/admin", rules=rules) == "path.dot_segment"
    assert verdict(b"/%25%32%65", rules=rules) == "path.double_escape"


@pytest.mark.parametrize("byte", range(256), ids=lambda byte: f"{byte:02x}")
def test_each_escape_is_served_exactly_where_it_can_mean_one_thing_only(byte: int) -> None:
    character = chr(byte)
    plain = byte < 0x20 or byte >= 0x7F or character in "/\\" or re.fullmatch("[A-Za-z0-9_-]", character)
    for path in (b"/x%%%02X" % byte, b"/x%%%02x" % byte):
        assert (verdict(path) == "served") == (not plain), character


words = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\%"), min_size=1).filter(
    lambda word: word not in {".", ".."} and not re.match(r"\.{0,2};", word)
)


@given(st.lists(words, min_size=1))
@example(["%"])
@example(["a", "..b", "..."])
def test_whatever_name_a_client_escapes_is_served(segments: list[str]) -> None:
    assert verdict("".join("/" + quote(segment, safe="") for segment in segments).encode()) == "served"


ordinary = st.lists(
    st.sampled_from([*(bytes([byte]) for byte in range(0x20, 0x7F)), b"/", b"/", b"..", b"a"]), max_size=12
)


@given(ordinary)
def test_what_passes_in_one_match_would_pass_all_the_rules(pieces: list[bytes]) -> None:
    path = b"".join(pieces)
    for raw in (path, b"/" + path):
        if spelling._ORDINARY(raw) is not None:
            assert spelling._raw_fault(raw) is None
            assert spelling._escape_fault(RULES, raw, encoded_slashes=False) is None
            assert spelling._decoded_fault(raw, double_escapes=False) is None


@pytest.mark.parametrize("path", [*SERVED[:3], b"/files/report.v1.tar.gz", b"/users/~alice", b"/-/ready"], ids=ascii)
def test_an_ordinary_path_passes_in_one_match(path: bytes) -> None:
    assert spelling._ORDINARY(path) is not None


HOSTILE = [
    b"/",
    b".",
    b"..",
    b"%2e",
    b"%2f",
    b"%5c",
    b"\\",
    b"%25",
    b"2e",
    b";",
    b"a",
    b"%00",
    b"%c0%ae",
    b"#",
    b"%61",
    b"//",
]


ESCAPED_TWICE = [
    (b"/tags/db%2540dc1", "served"),
    (b"/tags/%252561", "served"),
    (b"/tags/a%2Fb", "path.escaped_separator"),
    (b"/tags/%2e%2e/etc", "path.dot_segment"),
    (b"/tags/%00", "path.character"),
    (b"/tags/%2", "path.escape"),
]


@pytest.mark.parametrize(("path", "expected"), ESCAPED_TWICE, ids=[ascii(path) for path, _ in ESCAPED_TWICE])
def test_a_route_may_take_what_is_escaped_twice_and_nothing_else(path: bytes, expected: str) -> None:
    assert verdict(path, double_escapes=True) == expected


def walk(path: str) -> list[str]:
    """The segments as a reader sees them that cuts off parameters, and takes both kinds of slash."""
    return [segment.partition(";")[0] for segment in path.replace("\\", "/").split("/")]


@given(st.lists(st.sampled_from(HOSTILE)), st.booleans())
def test_what_is_served_is_the_same_path_however_often_it_is_decoded(pieces: list[bytes], encoded: bool) -> None:  # noqa: FBT001
    raw = b"/" + b"".join(pieces)
    if verdict(raw, encoded_slashes=encoded) != "served":
        return
    once = unquote(raw.decode("ascii"), errors="strict")
    twice = unquote(once, errors="strict")
    assert once == twice
    assert not {".", ".."} & set(walk(once))
    assert not once.startswith("//")
    assert encoded or len(walk(once)) == len(walk(raw.decode()))


@given(st.binary(max_size=60), st.booleans())
def test_no_path_makes_the_check_raise(path: bytes, encoded: bool) -> None:  # noqa: FBT001
    verdict(path, encoded_slashes=encoded)
    verdict(b"/" + path, encoded_slashes=encoded)
