"""Other origins' pages read and send what they are listed for, and nothing more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.asgi import Reply
from workhorse.errors import SettingsError
from workhorse.guard.checks.cors import (
    MAX_HEADERS_ASKED,
    CorsRules,
    check_preflight,
    compile_cors,
    compile_origins,
    cors_headers,
    is_listed,
)
from workhorse.guard.facts import Facts, read_facts

APP = "https://app.example.com"
RULES = compile_cors(
    origins=(APP, "http://localhost:5173", "https://*.tenants.example.com", "capacitor://localhost"),
    credentials=True,
    methods=("PUT", "DELETE"),
    headers=("Authorization", "idempotency-key"),
    expose=("X-Request-Id",),
)


def facts_of(origin: str | None, verb: str = "GET", /, **asked: str) -> Facts:
    headers = [("origin", origin)] if origin is not None else []
    headers += [("access-control-request-" + name.replace("_", "-"), value) for name, value in asked.items()]
    return read_facts(http_scope(verb, "/", headers))


def allowed(rules: CorsRules, origin: str | None) -> str | None:
    fields = dict(cors_headers(rules, facts_of(origin)))
    assert rules.any_origin or fields[b"vary"] == b"Origin"
    value = fields.get(b"access-control-allow-origin")
    assert (b"access-control-allow-credentials" in fields) == (value is not None and not rules.any_origin)
    return value.decode() if value is not None else None


LISTED = [
    APP,
    "http://localhost:5173",
    "capacitor://localhost",
    "https://one.tenants.example.com",
    "https://a.b.tenants.example.com",
]


@pytest.mark.parametrize("origin", LISTED)
def test_a_listed_origin_is_named_itself(origin: str) -> None:
    assert allowed(RULES, origin) == origin


HOSTILE = [
    None,
    "",
    "null",
    "*",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:443",
    "https://app.example.com/",
    "https://app.example.com.evil.test",
    "https://app.example.comevil.test",
    "https://evil.test/https://app.example.com",
    "https://APP.example.com",
    "https://app.example.com ",
    "https://app.example.com, https://evil.test",
    "https://app.example.com\r\nx: y",
    "https://example.com",
    "https://sub.app.example.com",
    "https://user@app.example.com",
    "http://localhost",
    "http://localhost:51730",
    "https://tenants.example.com",
    "https://.tenants.example.com",
    "https://eviltenants.example.com",
    "http://one.tenants.example.com",
    "https://one.tenants.example.com:8443",
    "https://one.tenants.example.com.evil.test",
    "https://evil.test/.tenants.example.com",
    "https://evil.test#.tenants.example.com",
    "https://evil.test?.tenants.example.com",
    "https://evil.test\\.tenants.example.com",
    "https://user@x.tenants.example.com",
    "https://evil.test:80.tenants.example.com",
    "https://a..tenants.example.com",
    "https://\xe9.tenants.example.com",
    "https://",
]


@pytest.mark.parametrize("origin", HOSTILE, ids=ascii)
def test_no_other_origin_may_read_a_reply(origin: str | None) -> None:
    assert allowed(RULES, origin) is None
    if origin is not None:
        answer = check_preflight(RULES, facts_of(origin, "OPTIONS", method="GET"))
        assert not isinstance(answer, Reply)
        assert answer is not None
        assert answer.control == "cors.origin"
        assert answer.problem.status == 403
        assert answer.problem.headers == ()


def test_a_listed_origin_gets_these_headers_and_everybody_gets_vary() -> None:
    assert cors_headers(RULES, facts_of(APP)) == (
        (b"access-control-allow-origin", APP.encode()),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-request-id"),
        (b"vary", b"Origin"),
    )
    assert cors_headers(RULES, facts_of(None)) == ((b"vary", b"Origin"),)
    assert cors_headers(RULES, facts_of("https://evil.test")) == ((b"vary", b"Origin"),)


def test_the_answer_to_a_preflight_names_the_lists() -> None:
    answer = check_preflight(RULES, facts_of(APP, "OPTIONS", method="PUT", headers="authorization,content-type"))
    assert isinstance(answer, Reply)
    assert (answer.status, answer.body) == (204, b"")
    fields = dict(answer.headers)
    assert fields[b"access-control-allow-origin"] == APP.encode()
    assert fields[b"access-control-allow-methods"] == b"DELETE, PUT"
    assert fields[b"access-control-allow-headers"] == b"authorization, content-type, idempotency-key"
    assert fields[b"access-control-max-age"] == b"600"
    varies = b", ".join(value for name, value in answer.headers if name == b"vary")
    assert varies == b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert b"access-control-allow-private-network" not in fields


PREFLIGHTS: list[tuple[str, dict[str, str], str]] = [
    ("a listed method", {"method": "PUT"}, "204"),
    ("a safelisted method", {"method": "POST"}, "204"),
    ("a method that is not listed", {"method": "PATCH"}, "cors.method"),
    ("a method in another case", {"method": "put"}, "cors.method"),
    ("an empty method", {"method": ""}, "cors.method"),
    ("a list of methods", {"method": "PUT, PATCH"}, "cors.method"),
    ("a star", {"method": "*"}, "cors.method"),
    ("listed headers", {"method": "PUT", "headers": "authorization,idempotency-key"}, "204"),
    ("in another case, with blanks", {"method": "PUT", "headers": " Authorization ,\tIdempotency-Key"}, "204"),
    ("safelisted headers", {"method": "PUT", "headers": "accept,content-type,range"}, "204"),
    ("no headers", {"method": "PUT", "headers": ""}, "204"),
    ("a header that is not listed", {"method": "PUT", "headers": "authorization,x-admin"}, "cors.headers"),
    ("a star among headers", {"method": "PUT", "headers": "*"}, "cors.headers"),
    ("headers and a line break", {"method": "PUT", "headers": "authorization\r\nx: y"}, "cors.headers"),
    ("many headers", {"method": "PUT", "headers": ",".join(["accept"] * MAX_HEADERS_ASKED)}, "204"),
    ("too many headers", {"method": "PUT", "headers": "accept," * MAX_HEADERS_ASKED}, "cors.headers"),
    ("into a private network", {"method": "PUT", "private_network": "true"}, "cors.private_network"),
]


@pytest.mark.parametrize(("asked", "expected"), [row[1:] for row in PREFLIGHTS], ids=[row[0] for row in PREFLIGHTS])
def test_preflights(asked: dict[str, str], expected: str) -> None:
    answer = check_preflight(RULES, facts_of(APP, "OPTIONS", **asked))
    assert answer is not None
    assert (str(answer.status) if isinstance(answer, Reply) else answer.control) == expected


def test_headers_asked_for_in_two_lines_are_one_list() -> None:
    names = [("access-control-request-headers", name) for name in ("x-admin", "accept")]
    scope = http_scope("OPTIONS", "/", [("origin", APP), ("access-control-request-method", "PUT"), *names])
    answer = check_preflight(RULES, read_facts(scope))
    assert not isinstance(answer, Reply)
    assert answer is not None
    assert answer.control == "cors.headers"


NO_PREFLIGHTS = [("GET", APP, {"method": "PUT"}), ("OPTIONS", None, {"method": "PUT"}), ("OPTIONS", APP, {})]


@pytest.mark.parametrize(("method", "origin", "asked"), NO_PREFLIGHTS)
def test_what_is_no_preflight_reaches_the_app(method: str, origin: str | None, asked: dict[str, str]) -> None:
    assert check_preflight(RULES, facts_of(origin, method, **asked)) is None


def test_with_no_origin_configured_everything_is_the_apps_own_business() -> None:
    rules = compile_cors()
    assert cors_headers(rules, facts_of(APP)) == ()
    assert check_preflight(rules, facts_of(APP, "OPTIONS", method="PUT")) is None


def test_any_origin_is_served_without_credentials_where_the_switch_says_so() -> None:
    rules = compile_cors(insecure_any_origin=True, expose=("etag",))
    for origin in (None, "null", "https://evil.test"):
        assert cors_headers(rules, facts_of(origin)) == (
            (b"access-control-allow-origin", b"*"),
            (b"access-control-expose-headers", b"etag"),
        )
    answer = check_preflight(rules, facts_of("https://evil.test", "OPTIONS", method="PUT"))
    assert isinstance(answer, Reply)
    assert dict(answer.headers)[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in dict(answer.headers)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"origins": ("*",)}, "which is every page there is"),
    ({"origins": ("null",)}, "which any page can be"),
    ({"origins": ("app.example.com",)}, "'app.example.com', which is not an origin"),
    ({"origins": ("https://app.example.com/",)}, "which is not an origin"),
    ({"origins": ("https://app.example.com/path",)}, "which is not an origin"),
    ({"origins": ("https://App.example.com",)}, "which is not an origin"),
    ({"origins": ("https://user@app.example.com",)}, "which is not an origin"),
    ({"origins": ("https://app.example.com\n",)}, "which is not an origin"),
    ({"origins": ("https://a.example, https://b.example",)}, "which is not an origin"),
    ({"origins": ("https://*example.com",)}, "which is not an origin"),
    ({"origins": ("https://app.*.example.com",)}, "which is not an origin"),
    ({"origins": ("https://*.com",)}, "which is not an origin"),
    ({"origins": ("https://*",)}, "which is not an origin"),
    ({"origins": ("https://*.*.example.com",)}, "which is not an origin"),
    ({"origins": ("",)}, "which is not an origin"),
    ({"origins": ("https://app.example.com:443",)}, "write `https://app.example.com`"),
    ({"origins": ("http://app.example.com:80",)}, "write `http://app.example.com`"),
    ({"origins": ("http://app.example.com",), "credentials": True}, "whoever can change the plain text"),
    ({"origins": ("http://*.example.com:8080",), "credentials": True}, r"http://\*.example.com:8080"),
    ({"insecure_any_origin": True, "credentials": True}, "neither credentials nor a list"),
    ({"insecure_any_origin": True, "origins": (APP,)}, "neither credentials nor a list"),
    ({"headers": ("*",)}, "guard.cors_headers has '\\*'"),
    ({"headers": ("a b",)}, "guard.cors_headers has 'a b'"),
    ({"methods": ("*",)}, "guard.cors_methods has"),
    ({"expose": ("x\r\ny",)}, "guard.cors_expose_headers has"),
    ({"max_age_seconds": -1}, "guard.cors_max_age_seconds is -1"),
    ({"max_age_seconds": 86_401}, "guard.cors_max_age_seconds is 86401"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_a_wrong_setting_is_refused_at_start_up(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        compile_cors(**options)


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_an_origin_is_listed_below_a_suffix_only_as_a_host_name(left: str) -> None:
    origins = compile_origins("guard.cors_origins", ("https://*.tenants.example.com",))
    listed = is_listed(origins, f"https://{left}.tenants.example.com".encode("latin-1"))
    assert listed == (
        bool(left) and set(left) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") and "" not in left.split(".")
    )


@given(st.binary(max_size=60), st.sampled_from([APP.encode(), b"https://x.tenants.example.com", b""]))
def test_what_a_client_sends_never_stands_in_a_reply_but_as_a_listed_origin(noise: bytes, origin: bytes) -> None:
    scope = http_scope("OPTIONS", "/")
    scope["headers"] = [
        (b"origin", origin or noise),
        (b"access-control-request-method", b"PUT"),
        (b"access-control-request-headers", b"accept, " + noise),
    ]
    for fields in (
        cors_headers(RULES, read_facts(scope)),
        getattr(check_preflight(RULES, read_facts(scope)), "headers", ()),
    ):
        assert all(value in {origin, *KNOWN} for _, value in fields)


KNOWN = {value for origin in LISTED for _, value in cors_headers(RULES, facts_of(origin))} | {
    value for _, value in RULES.preflight
}
