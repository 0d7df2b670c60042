"""Another origin's page cannot send an unsafe request; programs and the service's own pages can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.errors import SettingsError
from workhorse.guard.checks.csrf import check_csrf, check_handshake, compile_csrf, needs_token
from workhorse.guard.facts import Facts, read_facts

TRUSTED = "https://partner.example"
RULES = compile_csrf(trusted=(TRUSTED, "https://*.apps.example.com"), token_for_old_clients=True)
OFF = compile_csrf(insecure_cross_site=True, token_for_old_clients=True)


def facts_of(
    method: str = "POST",
    site: str | None = None,
    origin: str | None = None,
    *,
    host: str = "bank.example",
    scheme: str = "https",
    cookie: bool = True,
    authorization: str = "",
) -> Facts:
    headers = [("host", host)]
    headers += [("sec-fetch-site", site)] if site is not None else []
    headers += [("origin", origin)] if origin is not None else []
    headers += [("cookie", "session=1")] if cookie else []
    headers += [("authorization", authorization)] if authorization else []
    return read_facts(http_scope(method, "/", headers, scheme=scheme))


def verdict(facts: Facts) -> str:
    refusal = check_csrf(RULES, facts)
    if refusal is None:
        return "served"
    assert refusal.problem.status == 403
    return refusal.control


OWN = "https://bank.example"
EVIL = "https://evil.example"

REQUESTS: list[tuple[str, str, str | None, str | None, str]] = [
    ("a safe method from anywhere", "GET", "cross-site", EVIL, "served"),
    ("HEAD from anywhere", "HEAD", "cross-site", None, "served"),
    ("OPTIONS from anywhere", "OPTIONS", "cross-site", EVIL, "served"),
    ("an own page", "POST", "same-origin", OWN, "served"),
    ("an own page that sends no referrer", "POST", "same-origin", "null", "served"),
    ("the user, without a page", "POST", "none", None, "served"),
    ("another site", "POST", "cross-site", EVIL, "csrf.site"),
    ("another site without Origin", "POST", "cross-site", None, "csrf.site"),
    ("another site that hides its origin", "POST", "cross-site", "null", "csrf.site"),
    ("a sister host", "POST", "same-site", "https://www.bank.example", "csrf.site"),
    ("another site with an own Origin", "POST", "cross-site", OWN, "csrf.site"),
    ("a site that is no word of the standard", "POST", "same-origin, none", OWN, "csrf.site"),
    ("a site in another case", "POST", "Same-Origin", OWN, "csrf.site"),
    ("PUT", "PUT", "cross-site", EVIL, "csrf.site"),
    ("DELETE", "DELETE", "cross-site", EVIL, "csrf.site"),
    ("PATCH", "PATCH", "cross-site", EVIL, "csrf.site"),
    ("TRACE", "TRACE", "cross-site", EVIL, "csrf.site"),
    ("a method that nobody knows", "FROB", "cross-site", EVIL, "csrf.site"),
    ("a safe method in another case", "get", "cross-site", EVIL, "csrf.site"),
    ("a trusted origin", "POST", "cross-site", TRUSTED, "served"),
    ("a trusted origin of the same site", "POST", "same-site", TRUSTED, "served"),
    ("below a trusted suffix", "POST", "cross-site", "https://one.apps.example.com", "served"),
    ("almost a trusted origin", "POST", "cross-site", TRUSTED + ".evil.example", "csrf.site"),
    ("almost a trusted suffix", "POST", "cross-site", "https://evilapps.example.com", "csrf.site"),
    ("an old browser, own page", "POST", None, OWN, "served"),
    ("an old browser, own page, empty site", "POST", "", OWN, "served"),
    ("an old browser, another site", "POST", None, EVIL, "csrf.origin"),
    ("an old browser, a trusted origin", "POST", None, TRUSTED, "served"),
    ("an old browser, hidden origin", "POST", None, "null", "csrf.origin"),
    ("an old browser, a name that begins as ours", "POST", None, OWN + ".evil.example", "csrf.origin"),
    ("an old browser, a name that ends as ours", "POST", None, "https://evilbank.example", "csrf.origin"),
    ("an old browser, our name as user", "POST", None, "https://bank.example@evil.example", "csrf.origin"),
    ("an old browser, our host on another port", "POST", None, OWN + ":8443", "csrf.origin"),
    ("an old browser, our page of plain HTTP", "POST", None, "http://bank.example", "csrf.origin"),
    ("an old browser, our host of another scheme", "POST", None, "app://bank.example", "csrf.origin"),
    ("an old browser, no scheme", "POST", None, "bank.example", "csrf.origin"),
    ("a program", "POST", None, None, "served"),
    ("empty headers", "POST", "", "", "served"),
]


@pytest.mark.parametrize(
    ("method", "site", "origin", "expected"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_requests(method: str, site: str | None, origin: str | None, expected: str) -> None:
    assert verdict(facts_of(method, site, origin)) == expected


HOSTS = [
    ("bank.example", "http", "https://bank.example", "served"),
    ("bank.example", "http", "http://bank.example", "served"),
    ("bank.example", "https", "http://bank.example", "csrf.origin"),
    ("bank.example:443", "https", "https://bank.example", "served"),
    ("bank.example:80", "http", "http://bank.example", "served"),
    ("bank.example:80", "http", "https://bank.example", "csrf.origin"),
    ("bank.example:443", "http", "http://bank.example", "csrf.origin"),
    ("Bank.Example", "https", "https://bank.example", "served"),
    ("localhost:8000", "http", "http://localhost:8000", "served"),
    ("localhost:8000", "http", "http://localhost:8001", "csrf.origin"),
    ("localhost:8080", "http", "http://localhost:80", "csrf.origin"),
    ("[::1]:8000", "http", "http://[::1]:8000", "served"),
    ("[::1]:80", "http", "http://[::1]", "served"),
    ("", "http", "http://", "csrf.origin"),
]


@pytest.mark.parametrize(("host", "scheme", "origin", "expected"), HOSTS)
def test_the_origin_is_our_own_by_host_port_and_as_far_as_known_scheme(
    host: str, scheme: str, origin: str, expected: str
) -> None:
    assert verdict(facts_of("POST", None, origin, host=host, scheme=scheme)) == expected


def test_the_host_that_a_trusted_proxy_told_counts() -> None:
    facts = facts_of("POST", None, OWN, host="10.0.0.7:8000", scheme="http")
    assert verdict(facts) == "csrf.origin"
    facts.host, facts.tls = b"bank.example", True
    assert verdict(facts) == "served"
    facts.host = None
    assert verdict(facts) == "csrf.origin"


@pytest.mark.parametrize("authorization", ["Bearer token", "Basic dTpw", "Negotiate x"])
def test_credentials_of_any_kind_do_not_exempt(authorization: str) -> None:
    facts = facts_of("POST", "cross-site", EVIL, cookie=False, authorization=authorization)
    assert verdict(facts) == "csrf.site"


def test_a_route_or_the_whole_service_may_be_exempted() -> None:
    facts = facts_of("POST", "cross-site", EVIL)
    assert check_csrf(RULES, facts, cross_site=True) is None
    assert check_handshake(RULES, facts, cross_site=True) is None
    assert check_csrf(OFF, facts) is None
    assert check_handshake(OFF, facts) is None


HANDSHAKES: list[tuple[str, str | None, str | None, str]] = [
    ("an own page", "same-origin", OWN, "served"),
    ("an own page, as most browsers tell it", None, OWN, "served"),
    ("another site", "cross-site", EVIL, "csrf.site"),
    ("another site, as most browsers tell it", None, EVIL, "csrf.origin"),
    ("a hidden origin", None, "null", "csrf.origin"),
    ("a trusted origin", None, TRUSTED, "served"),
    ("a program", None, None, "served"),
]


@pytest.mark.parametrize(
    ("site", "origin", "expected"), [row[1:] for row in HANDSHAKES], ids=[r[0] for r in HANDSHAKES]
)
def test_handshakes_of_websockets(site: str | None, origin: str | None, expected: str) -> None:
    refusal = check_handshake(RULES, facts_of("GET", site, origin, scheme="wss"))
    assert (refusal.control if refusal is not None else "served") == expected


OLD = [
    ("a form of a very old browser", facts_of("POST"), True),
    ("empty headers", facts_of("POST", "", ""), True),
    ("a program", facts_of("POST", cookie=False), False),
    ("a safe method", facts_of("GET"), False),
    ("an old browser", facts_of("POST", None, OWN), False),
    ("a browser", facts_of("POST", "same-origin"), False),
]


@pytest.mark.parametrize(("facts", "expected"), [row[1:] for row in OLD], ids=[row[0] for row in OLD])
def test_a_token_is_needed_where_nothing_tells_where_a_request_with_a_cookie_comes_from(
    facts: Facts,
    expected: bool,  # noqa: FBT001
) -> None:
    assert needs_token(RULES, facts) is expected
    assert not needs_token(RULES, facts, cross_site=True)
    assert not needs_token(OFF, facts)
    assert not needs_token(compile_csrf(), facts)


@pytest.mark.parametrize(
    "origin", ["partner.example", "https://partner.example/", "null", "*", "https://ex ample.com", ""]
)
def test_a_malformed_origin_is_refused_at_start_up(origin: str) -> None:
    with pytest.raises(SettingsError, match=r"guard\.csrf_origins has"):
        compile_csrf(trusted=(origin,))


@given(
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "FROB"]),
    st.sampled_from(["cross-site", "same-site"]),
    st.none() | st.text(st.characters(codec="latin-1"), max_size=30) | st.just(OWN),
    st.booleans(),
)
def test_what_a_browser_calls_cross_site_is_served_only_from_a_trusted_origin(
    method: str,
    site: str,
    origin: str | None,
    cookie: bool,  # noqa: FBT001
) -> None:
    assert verdict(facts_of(method, site, origin, cookie=cookie)) == "csrf.site"
