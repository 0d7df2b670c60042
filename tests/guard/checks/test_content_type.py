"""A body says in one way what it is, and a route takes what it says it takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.errors import Problem
from workhorse.guard.checks.content_type import UNTYPED, MediaType, TypedBody, check_content_type, parse_media_type
from workhorse.guard.facts import Facts
from workhorse.guard.verdict import Refusal

JSON = frozenset({b"application/json"})
WIDE = frozenset({b"application/*+json", b"image/*", b"text/csv"})


def facts_of(content_type: str | None, *, length: str | None = "5") -> Facts:
    headers = [("content-type", content_type)] if content_type is not None else []
    headers += [("content-length", length)] if length is not None else []
    return Facts(http_scope("POST", "/", headers))


def verdict(content_type: str | None, accepted: frozenset[bytes] | None = None, *, length: str | None = "5") -> str:
    found = check_content_type(facts_of(content_type, length=length), accepted)
    return f"{found.problem.status} {found.control}" if isinstance(found, Refusal) else found.essence.decode()


WELL_FORMED = [
    ("application/json", MediaType(b"application/json", is_json=True)),
    ("Application/JSON", MediaType(b"application/json", is_json=True)),
    ("application/json; charset=utf-8", MediaType(b"application/json", is_json=True, charset=b"utf-8")),
    ("application/json;charset=UTF-8", MediaType(b"application/json", is_json=True, charset=b"utf-8")),
    ('application/json ; Charset="utf-8"', MediaType(b"application/json", is_json=True, charset=b"utf-8")),
    ("application/json;", MediaType(b"application/json", is_json=True)),
    ("application/json; ;", MediaType(b"application/json", is_json=True)),
    ("application/vnd.api+json", MediaType(b"application/vnd.api+json", is_json=True)),
    ("text/json", MediaType(b"text/json", is_json=True)),
    ("application/json-seq", MediaType(b"application/json-seq")),
    ("application/jsonp", MediaType(b"application/jsonp")),
    ("text/plain; charset=iso-8859-1", MediaType(b"text/plain", charset=b"iso-8859-1")),
    ("multipart/form-data; boundary=----WebKitFormBoundary7MA4", None),
    ('multipart/form-data; boundary="a b"; x="q;boundary=c"', MediaType(b"multipart/form-data", boundary=b"a b")),
    (r'multipart/form-data; boundary="a\"b"', MediaType(b"multipart/form-data", boundary=rb"a\"b")),
]


@pytest.mark.parametrize(("value", "expected"), WELL_FORMED, ids=[value for value, _ in WELL_FORMED])
def test_well_formed_types(value: str, expected: MediaType | None) -> None:
    found = parse_media_type(value.encode())
    assert found is not None
    if expected is not None:
        assert found == expected
    assert verdict(value) == found.essence.decode()


MALFORMED = [
    "",
    " ",
    "json",
    "application/",
    "/json",
    "application/json/x",
    "application /json",
    " application/json",
    "application/json, text/plain",
    "application/json charset=utf-8",
    "application/json; charset",
    "application/json; charset=",
    "application/json; charset =utf-8",
    "application/json; charset= utf-8",
    "application/json; charset=utf-8; charset=utf-16",
    "application/json; charset=utf-8; CHARSET=utf-8",
    'application/json; charset="utf-8',
    'application/json; charset="utf-8"x',
    'application/json; charset="utf\x00-8"',
    "application/json; charset=utf-8\x00",
    "application/json\r\nx: y",
    "application/jsön",
    "multipart/form-data; boundary=a; boundary=b",
    "text/plain; boundary=a, application/json",
]


@pytest.mark.parametrize("value", MALFORMED, ids=ascii)
def test_what_is_not_one_media_type_is_refused(value: str) -> None:
    assert verdict(value) == "400 content_type.malformed"


CHARSETS = [
    ("application/json; charset=utf-16", "415 content_type.charset"),
    ("application/json; charset=utf-7", "415 content_type.charset"),
    ("application/problem+json; charset=ibm037", "415 content_type.charset"),
    ("application/x-www-form-urlencoded; charset=utf-16", "415 content_type.charset"),
    ("multipart/form-data; boundary=a; charset=ibm500", "415 content_type.charset"),
    (r'application/json; charset="utf\-8"', "415 content_type.charset"),
    ("application/json; charset=us-ascii", "application/json"),
    ("application/x-www-form-urlencoded; charset=UTF-8", "application/x-www-form-urlencoded"),
    ("text/csv; charset=windows-1252", "text/csv"),
]


@pytest.mark.parametrize(("value", "expected"), CHARSETS, ids=[value for value, _ in CHARSETS])
def test_json_and_forms_are_utf_8(value: str, expected: str) -> None:
    assert verdict(value) == expected


TAKEN = [
    ("application/json", JSON, "application/json"),
    ("APPLICATION/JSON; charset=utf-8", JSON, "application/json"),
    ("text/plain", JSON, "415 content_type.not_taken"),
    ("application/xml", JSON, "415 content_type.not_taken"),
    ("application/vnd.api+json", JSON, "415 content_type.not_taken"),
    ("application/json-patch+json", WIDE, "application/json-patch+json"),
    ("application/json", WIDE, "415 content_type.not_taken"),
    ("image/png", WIDE, "image/png"),
    ("text/csv", WIDE, "text/csv"),
    ("text/html", WIDE, "415 content_type.not_taken"),
    ("image/*", JSON, "415 content_type.not_taken"),
    ("text/plain", None, "text/plain"),
]


@pytest.mark.parametrize(("value", "accepted", "expected"), TAKEN, ids=[f"{v} of {a and len(a)}" for v, a, _ in TAKEN])
def test_a_route_takes_what_it_names(value: str, accepted: frozenset[bytes] | None, expected: str) -> None:
    assert verdict(value, accepted) == expected


def test_a_refusal_says_what_is_taken() -> None:
    refusal = check_content_type(facts_of("text/html"), WIDE)
    assert isinstance(refusal, Refusal)
    assert refusal.problem.headers == ((b"accept", b"application/*+json, image/*, text/csv"),)


def test_a_body_of_no_type_is_refused_where_types_are_named_as_soon_as_it_is_known_to_be_there() -> None:
    assert verdict(None, JSON) == "415 content_type.missing"
    assert verdict(None, JSON, length="0") == ""
    assert verdict(None, None) == ""
    assert check_content_type(facts_of(None, length=None), JSON) is UNTYPED
    inspector = TypedBody(JSON)
    assert inspector.feed(b"", last=False) == b""
    assert inspector.feed(b"", last=True) == b""
    with pytest.raises(Problem) as caught:
        TypedBody(JSON).feed(b"{}", last=True)
    assert caught.value.status == 415


@given(st.text(st.sampled_from('aA/;= \t",\\+*é\x00'), max_size=20))
def test_whatever_is_taken_is_one_type_without_a_list_in_it(value: str) -> None:
    found = parse_media_type(value.encode("latin-1"))
    if found is not None:
        assert re.fullmatch(rb"[a+*]+/[a+*]+", found.essence)
        assert b"," not in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value.encode("latin-1"))
