"""Where a browser may be sent after a login, and what sends it to one."""

from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.identity import Sessions
from workhorse.identity.login import LoginPaths, OidcLogin, is_local_path

ORIGIN = "https://bank.example"


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/accounts",
        "/accounts/",
        "/accounts/7%20b",
        "/a/b-c_d.e~f",
        "/search?q=a%2Fb%5Cc&to=https://bank.example//x",
        "/accounts?next=//evil.example",
        "/@alice",
        "/...",
    ],
)
def test_a_plain_local_path_is_one_to_return_to(address: str) -> None:
    assert is_local_path(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "accounts",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "//evil.example",
        "///evil.example",
        "/a//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/%5Cevil.example",
        "/%5c%5cevil.example",
        "/%2Fevil.example",
        "/%2f%2fevil.example",
        "/%252Fevil.example",
        "/%25252525252Fevil.example",
        "/a/..//evil.example",
        "/a/%2e%2e/login",
        "/./a",
        "/..",
        "/\t/evil.example",
        "/%09/evil.example",
        "/%0d%0aset-cookie:x",
        "/a\r\nset-cookie: x=1",
        "/a%00b",
        "/a%7fb",
        "/a b",
        "/a#b",
        "/ümlaut",
        "/\u2028",
        "/%zz",
        "/%",
        " /a",
        "/a\n",
        "/" + "a" * 512,
    ],
)
def test_whatever_some_reader_could_take_for_elsewhere_is_refused(address: str) -> None:
    assert not is_local_path(address)


ODD = st.text(st.sampled_from("/\\.%25fFcC0aAdD?#@:evil \t\r\n&=;"), max_size=20)


@given(st.one_of(ODD, ODD.map("/".__add__), st.text(max_size=30)))
@example("/%2e%2e//evil")
def test_what_is_taken_stays_on_the_origin_however_often_it_is_decoded(address: str) -> None:
    if not is_local_path(address):
        return
    path = address.partition("?")[0]
    for _ in range(6):
        for reader in (path, path.replace("\\", "/"), path.replace("\t", "").replace("\n", "")):
            assert urlsplit(urljoin(f"{ORIGIN}/x", reader)).netloc == "bank.example"
            assert not reader.startswith("//")
        path = unquote(path)


def a_login(**options: Any) -> OidcLogin:
    return OidcLogin("https://login.example.com", client_id="bank", sessions=Sessions(), **options)


NAVIGATION = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]


def test_a_person_who_asks_for_a_page_is_sent_to_the_login_and_back() -> None:
    reply = a_login().login_redirect(http_scope("GET", "/accounts/7?year=2026&q=a%26b", NAVIGATION))
    assert reply is not None
    assert (reply.status, reply.body) == (303, b"")
    headers = dict(reply.headers)
    assert headers == {
        b"location": b"/login?next=%2Faccounts%2F7%3Fyear%3D2026%26q%3Da%2526b",
        b"cache-control": b"no-store",
    }


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", NAVIGATION),
        ("HEAD", NAVIGATION),
        ("GET", []),
        ("GET", [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]),
        ("GET", [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]),
        ("GET", [*NAVIGATION, ("sec-purpose", "prefetch")]),
    ],
    ids=["a form", "a look", "a program", "a script", "a frame", "fetched ahead"],
)
def test_everybody_else_gets_the_refusal(method: str, headers: list[tuple[str, str]]) -> None:
    assert a_login().login_redirect(http_scope(method, "/accounts", headers)) is None


def test_a_page_that_is_none_to_return_to_is_not_named() -> None:
    scope = http_scope("GET", "/", NAVIGATION, raw_path=b"//evil.example")
    reply = a_login().login_redirect(scope)
    assert reply is not None
    assert dict(reply.headers)[b"location"] == b"/login"


@pytest.mark.parametrize(
    ("options", "scope", "location"),
    [
        ({"paths": LoginPaths(login="/auth/in")}, {}, b"/auth/in?next=%2Fa"),
        ({}, {"root_path": "/bank"}, b"/bank/login?next=%2Fa"),
        ({"url": "https://bank.example/bank"}, {}, b"/bank/login?next=%2Fa"),
    ],
    ids=["another path", "behind a prefix", "behind a prefix that is named"],
)
def test_the_way_to_the_login_is_the_browsers(options: Any, scope: dict[str, Any], location: bytes) -> None:
    reply = a_login(**options).login_redirect(http_scope("GET", "/a", NAVIGATION, **scope))
    assert reply is not None
    assert dict(reply.headers)[b"location"] == location
