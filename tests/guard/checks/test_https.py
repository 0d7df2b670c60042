"""Plain text where TLS is demanded: browsers are led to the same place, and everything else is refused."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.asgi import Reply
from workhorse.errors import SettingsError
from workhorse.guard.checks.https import HttpsRules, check_https, compile_hsts, compile_https
from workhorse.guard.facts import read_facts

REDIRECT = compile_https(mode="redirect")
REFUSE = compile_https(mode="refuse")


def verdict(
    rules: HttpsRules,
    method: str = "GET",
    target: str = "/",
    headers: tuple[tuple[str, str], ...] = (),
    *,
    host: str = "a.example",
    scheme: str = "http",
    peer: str = "203.0.113.7",
    trusted: bool = False,
) -> str:
    """`served`, the control that refused, or where the client is led."""
    scope = http_scope(method, target, [("host", host), *headers], scheme=scheme, client=(peer, 1))
    facts = read_facts(scope)
    facts.trusted = trusted
    answer = check_https(rules, facts, scope["query_string"])
    if answer is None:
        return "served"
    if isinstance(answer, Reply):
        assert answer.status == 308
        assert answer.body == b""
        return dict(answer.headers)[b"location"].decode()
    assert answer.problem.status == 403
    return answer.control


BEARER = (("authorization", "Bearer x"),)

CASES: list[tuple[str, HttpsRules, str, str, tuple[tuple[str, str], ...], str]] = [
    ("a page", REDIRECT, "GET", "/a?b=c&d", (), "https://a.example/a?b=c&d"),
    ("a page without query", REDIRECT, "GET", "/", (), "https://a.example/"),
    ("HEAD", REDIRECT, "HEAD", "/a", (), "https://a.example/a"),
    ("with a cookie, as browsers do", REDIRECT, "GET", "/a", (("cookie", "a=b"),), "https://a.example/a"),
    ("a path that begins with two slashes", REDIRECT, "GET", "//evil.example", (), "https://a.example//evil.example"),
    ("a bearer token", REDIRECT, "GET", "/a", BEARER, "https.required"),
    ("an API key", REDIRECT, "GET", "/a", (("x-api-key", "k"),), "https.required"),
    ("POST", REDIRECT, "POST", "/a", (), "https.required"),
    ("DELETE", REDIRECT, "DELETE", "/a", (), "https.required"),
    ("OPTIONS", REDIRECT, "OPTIONS", "/a", (), "https.required"),
    ("a method in lower case", REDIRECT, "get", "/a", (), "https.required"),
    ("a page, where all is refused", REFUSE, "GET", "/a", (), "https.required"),
    ("POST, where all is refused", REFUSE, "POST", "/a", (), "https.required"),
    ("a line break in the query", REDIRECT, "GET", "/?a\r\nset-cookie: x", (), "https.required"),
    ("a line break in the path", REDIRECT, "GET", "/\r\nset-cookie: x", (), "https.required"),
    ("a blank in the path", REDIRECT, "GET", "/a b", (), "https.required"),
    ("a target that is no path", REDIRECT, "GET", "@evil.example/", (), "https.required"),
    ("an empty target", REDIRECT, "GET", "", (), "https.required"),
]


@pytest.mark.parametrize(
    ("rules", "method", "target", "headers", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_plain_requests(
    rules: HttpsRules, method: str, target: str, headers: tuple[tuple[str, str], ...], expected: str
) -> None:
    assert verdict(rules, method, target, headers) == expected


HOSTS = [
    ("a.example", "https://a.example/"),
    ("A.Example", "https://a.example/"),
    ("a.example:8080", "https://a.example/"),
    ("a.example.", "https://a.example/"),
    ("[::1]:8080", "https://[::1]/"),
    ("a.example@evil.example", "https.required"),
    ("a.example/evil", "https.required"),
    ("a.example\r\nx: y", "https.required"),
    ("a.example\\", "https.required"),
    ("a.example:80@evil", "https.required"),
    ("", "https.required"),
    (":80", "https.required"),
    ("a b", "https.required"),
    ("\xe9", "https.required"),
]


@pytest.mark.parametrize(("host", "expected"), HOSTS, ids=[ascii(host) for host, _ in HOSTS])
def test_a_redirect_goes_to_the_host_that_was_asked_for_or_nowhere(host: str, expected: str) -> None:
    assert verdict(REDIRECT, host=host) == expected


@pytest.mark.parametrize("mode", ["redirect", "refuse"])
def test_a_request_over_tls_is_served(mode: Literal["redirect", "refuse"]) -> None:
    for method, scheme in (("GET", "https"), ("POST", "https"), ("GET", "wss")):
        assert verdict(compile_https(mode=mode), method, scheme=scheme) == "served"
    assert verdict(compile_https(mode=mode), scheme="ws") != "served"


def test_where_it_is_off_plain_text_is_served() -> None:
    assert verdict(compile_https(mode="off"), "POST") == "served"


def test_tls_on_another_port_is_in_the_redirect() -> None:
    assert verdict(compile_https(mode="redirect", port=8443), target="/a") == "https://a.example:8443/a"


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "203.0.113.7", "testclient", ""])
def test_no_place_in_the_network_lets_anybody_speak_plainly(peer: str) -> None:
    assert verdict(REFUSE, peer=peer) == "https.required"


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_no_request_makes_a_redirect_to_another_host_or_another_header(host: bytes, path: bytes, query: bytes) -> None:
    scope = http_scope("GET", "/")
    scope["headers"], scope["raw_path"] = [(b"host", host)], b"/" + path
    answer = check_https(REDIRECT, read_facts(scope), query)
    if isinstance(answer, Reply):
        location = dict(answer.headers)[b"location"]
        assert all(0x21 <= byte <= 0x7E for byte in location)
        authority = location.removeprefix(b"https://").partition(b"/")[0]
        assert authority
        assert host.lower().startswith(authority)


def test_the_header_of_hsts() -> None:
    assert compile_hsts(seconds=63_072_000) == b"max-age=63072000; includeSubDomains"
    assert compile_hsts(seconds=300, subdomains=False) == b"max-age=300"
    assert compile_hsts(seconds=31_536_000, preload=True) == b"max-age=31536000; includeSubDomains; preload"
    assert compile_hsts(seconds=0) == b""


def test_a_wrong_setting_is_refused_at_start_up() -> None:
    with pytest.raises(SettingsError, match="-1; it is 0 or more"):
        compile_hsts(seconds=-1)
    with pytest.raises(SettingsError, match="31535999; browsers take it from 31536000"):
        compile_hsts(seconds=31_535_999, preload=True)
    with pytest.raises(SettingsError, match=r"without guard\.hsts_subdomains"):
        compile_hsts(seconds=63_072_000, subdomains=False, preload=True)
    with pytest.raises(SettingsError, match=r"guard\.https_port is 0"):
        compile_https(mode="redirect", port=0)
