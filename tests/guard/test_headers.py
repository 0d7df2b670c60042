"""Each kind of reply gets the headers that suit it; the app's own win, and weaker ones are named."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.asgi import Headers
from workhorse.errors import SettingsError
from workhorse.guard.headers import DENIED_FEATURES, HeaderRules, Kind, compile_headers, kind_of, reply_headers

HSTS = b"max-age=63072000; includeSubDomains"
RULES = compile_headers(hsts=HSTS)
NONCE = "Zm9vYmFyYmF6cXV4MTIzNA"


def reply(
    *own: tuple[str, str],
    tls: bool = False,
    private: bool = False,
    nonce: str = "",
    status: int = 200,
    rules: HeaderRules = RULES,
) -> dict[str, str]:
    headers = [(name.encode(), value.encode()) for name, value in own]
    sent = reply_headers(rules, headers, tls=tls, private=private, nonce=nonce, status=status)
    names = [name.lower() for name, _ in sent]
    assert len(names) == len(set(names)), "each header once"
    return {name.decode().lower(): value.decode() for name, value in sent}


def policy(content_type: str, *, nonce: str = "") -> dict[str, str]:
    value = reply(("content-type", content_type), nonce=nonce)["content-security-policy"]
    return {words.split()[0]: words.partition(" ")[2] for words in value.split("; ")}


KINDS = [
    ("application/json", Kind.DATA),
    ("application/problem+json", Kind.DATA),
    ("application/xml", Kind.DATA),
    ("text/plain; charset=utf-8", Kind.DATA),
    ("text/csv", Kind.DATA),
    ("application/octet-stream", Kind.DATA),
    ("text/event-stream", Kind.DATA),
    ("", Kind.DATA),
    ("nonsense", Kind.DATA),
    ("image/png", Kind.MEDIA),
    ("font/woff2", Kind.MEDIA),
    ("video/mp4", Kind.MEDIA),
    ("application/pdf", Kind.DOCUMENT),
    ("image/svg+xml", Kind.DRAWING),
    ("image/svg+xml; charset=utf-8", Kind.DRAWING),
    ("text/javascript", Kind.SCRIPT),
    ("application/javascript; charset=utf-8", Kind.SCRIPT),
    ("text/css", Kind.SCRIPT),
    ("text/html", Kind.PAGE),
    ("text/html; charset=utf-8", Kind.PAGE),
    ("TEXT/HTML;charset=iso-8859-1", Kind.PAGE),
    (" text/html ", Kind.PAGE),
    ("application/xhtml+xml", Kind.PAGE),
]


@pytest.mark.parametrize(("content_type", "kind"), KINDS, ids=[repr(value) for value, _ in KINDS])
def test_kinds(content_type: str, kind: Kind) -> None:
    assert kind_of(content_type.encode()) is kind


@pytest.mark.parametrize("content_type", [value for value, _ in KINDS], ids=repr)
def test_every_reply_is_not_guessed_at_not_framed_not_read_from_elsewhere_and_tells_no_address(
    content_type: str,
) -> None:
    sent = reply(("content-type", content_type))
    assert sent["x-content-type-options"] == "nosniff"
    assert sent["x-frame-options"] == "DENY"
    # A page's own forms could not be told from another site's by `Origin: null`, which no-referrer makes of it.
    assert sent["referrer-policy"] == ("same-origin" if kind_of(content_type.encode()) is Kind.PAGE else "no-referrer")
    assert sent["cross-origin-opener-policy"] == sent["cross-origin-resource-policy"] == "same-origin"
    assert policy(content_type)["frame-ancestors"] == "'none'"


def test_data_may_nothing_and_is_no_page() -> None:
    assert policy("application/json") == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "sandbox": "",
    }
    assert "permissions-policy" not in reply(("content-type", "application/json"))


def test_a_page_runs_its_own_origins_scripts_and_no_others() -> None:
    found = policy("text/html")
    assert found["default-src"] == "'self'"
    assert found["object-src"] == found["base-uri"] == "'none'"
    assert found["form-action"] == "'self'"
    assert "unsafe" not in str(found)
    assert "'nonce" not in str(found)


def test_a_page_that_asked_for_a_nonce_runs_what_carries_it() -> None:
    found = policy("text/html; charset=utf-8", nonce=NONCE)
    assert found["script-src"] == found["style-src"] == f"'self' 'nonce-{NONCE}'"
    assert found["object-src"] == "'none'"
    assert "'nonce" not in str(policy("application/json", nonce=NONCE)), "data has no scripts"


def test_a_page_gets_what_only_pages_need() -> None:
    sent = reply(("content-type", "text/html"))
    assert "camera=()" in sent["permissions-policy"]
    assert sent["origin-agent-cluster"] == "?1"
    assert sent["x-permitted-cross-domain-policies"] == "none"
    assert "cross-origin-embedder-policy" not in sent


def test_a_drawing_that_is_opened_runs_no_scripts_and_a_script_may_be_a_worker() -> None:
    drawing = policy("image/svg+xml")
    assert (drawing["default-src"], drawing["sandbox"]) == ("'none'", "")
    assert policy("text/javascript")["default-src"] == "'self'"
    assert "default-src" not in policy("application/pdf"), "a browser's viewer would be stopped by it"


def test_a_kept_reply_keeps_its_own_policy() -> None:
    sent = reply(("etag", '"a"'), status=304, nonce=NONCE, tls=True)
    assert "content-security-policy" not in sent
    assert sent["x-content-type-options"] == "nosniff"
    assert sent["strict-transport-security"] == HSTS.decode()


def test_strict_transport_security_goes_over_tls_only() -> None:
    assert "strict-transport-security" not in reply()
    assert reply(tls=True)["strict-transport-security"] == HSTS.decode()
    assert "strict-transport-security" not in reply(tls=True, rules=compile_headers())


def test_a_private_reply_is_not_stored_unless_the_app_says_so() -> None:
    assert "cache-control" not in reply()
    assert reply(private=True)["cache-control"] == "no-store"
    assert reply(("cache-control", "private, max-age=60"), private=True)["cache-control"] == "private, max-age=60"


@pytest.mark.parametrize("name", ["x-frame-options", "X-Frame-Options", "X-FRAME-OPTIONS"])
def test_the_apps_own_header_wins_in_any_case(name: str) -> None:
    sent = reply((name, "SAMEORIGIN"), ("content-type", "text/html"), nonce=NONCE)
    assert sent["x-frame-options"] == "SAMEORIGIN"
    assert f"'nonce-{NONCE}'" in sent["content-security-policy"]


def test_the_apps_own_policy_wins_over_one_with_a_nonce() -> None:
    sent = reply(("content-type", "text/html"), ("content-security-policy", "default-src 'none'"), nonce=NONCE)
    assert sent["content-security-policy"] == "default-src 'none'"


def test_a_content_type_in_another_case_is_read() -> None:
    assert "permissions-policy" in reply(("Content-Type", "text/html"))


def test_headers_that_come_several_times_stay() -> None:
    own = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-own", b"1"), (b"X-Own", b"2")]
    assert reply_headers(RULES, own, tls=False, private=False)[:4] == own


def test_what_is_installed_is_not_told() -> None:
    sent = reply(("server", "gunicorn/20.1"), ("X-Powered-By", "Django 5"), ("content-type", "text/plain"))
    assert not {"server", "x-powered-by"} & set(sent)


def test_what_took_the_place_of_ours_is_told() -> None:
    overridden: Headers = []
    own = [(b"content-type", b"text/html"), (b"X-Frame-Options", b"SAMEORIGIN"), (b"etag", b"1")]
    reply_headers(RULES, own, tls=False, private=False, overridden=overridden)
    assert overridden == [(b"X-Frame-Options", b"SAMEORIGIN")]
    reply_headers(RULES, [(b"content-type", b"text/html")], tls=False, private=False, overridden=overridden)
    assert len(overridden) == 1


def test_an_embedder_policy_and_reports_are_sent_where_they_are_asked_for() -> None:
    rules = compile_headers(embedder_policy="require-corp", report_to="/-/reports", allowed_features=DENIED_FEATURES)
    sent = reply(("content-type", "text/html"), rules=rules)
    assert sent["cross-origin-embedder-policy"] == "require-corp"
    assert sent["reporting-endpoints"] == 'csp="/-/reports"'
    assert sent["content-security-policy"].endswith("; report-uri /-/reports; report-to csp")
    assert "permissions-policy" not in sent
    assert "reporting-endpoints" not in reply(("content-type", "application/json"), rules=rules)


@pytest.mark.parametrize(
    "report_to", ["reports", "http://a.example/r", "/a b", "/a;b", "/a,b", '/a"', "/a\r\nx: y", "//", "https://"]
)
def test_an_address_of_reports_that_could_break_a_header_is_refused(report_to: str) -> None:
    with pytest.raises(SettingsError, match="violated policies"):
        compile_headers(report_to=report_to)


@pytest.mark.parametrize("feature", ["Camera", "camera=()", "", "a,b", "a\r\nb", "cookies"])
def test_a_feature_that_nothing_denies_cannot_be_allowed(feature: str) -> None:
    with pytest.raises(SettingsError, match="which nothing denies; these are: accelerometer, camera"):
        compile_headers(allowed_features=(feature,))


def test_a_feature_that_is_allowed_is_denied_no_more() -> None:
    policy = reply(("content-type", "text/html"), rules=compile_headers(allowed_features=("camera",)))
    assert "camera=()" not in policy["permissions-policy"]
    assert "microphone=()" in policy["permissions-policy"]


names = st.sampled_from(
    [
        b"cache-control",
        b"content-security-policy",
        b"content-type",
        b"Content-Type",
        b"etag",
        b"Referrer-Policy",
        b"server",
        b"set-cookie",
        b"strict-transport-security",
        b"x-frame-options",
        b"X-Frame-Options",
        b"x-own",
    ]
)


@given(
    st.lists(st.tuples(names, st.sampled_from([b"text/html", b"application/json", b"x", b""])), max_size=8),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", NONCE]),
    st.sampled_from([200, 204, 304, 404]),
)
def test_whatever_the_app_sends_its_headers_stay_and_each_of_ours_is_there_once(
    own: Headers,
    tls: bool,  # noqa: FBT001
    private: bool,  # noqa: FBT001
    nonce: str,
    status: int,
) -> None:
    sent = reply_headers(RULES, own, tls=tls, private=private, nonce=nonce, status=status)
    kept = [field for field in own if field[0].lower() != b"server"]
    assert sent[: len(kept)] == kept
    given_names = {name.lower() for name, _ in kept}
    added = [name for name, _ in sent[len(kept) :]]
    assert len(added) == len(set(added))
    assert not set(added) & given_names
    expected = {b"x-content-type-options", b"x-frame-options", b"cross-origin-opener-policy"}
    expected |= {b"strict-transport-security"} if tls else set()
    expected |= {b"cache-control"} if private and status != 304 else set()
    expected |= {b"content-security-policy", b"referrer-policy"} if status != 304 else set()
    assert expected <= set(added) | given_names
    assert all(re.fullmatch(rb"[ -~]*", value) for _, value in sent[len(kept) :])


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "no-store"),
        ("text/html", "no-store"),
        ("application/pdf", "no-store"),
        ("text/css", "private, no-cache"),
        ("image/png", "private, no-cache"),
        ("font/woff2", "private, no-cache"),
    ],
)
def test_a_private_reply_is_for_no_shared_cache_and_data_for_no_cache_at_all(content_type: str, expected: str) -> None:
    own = [(b"content-type", content_type.encode())]
    sent = dict(reply_headers(RULES, own, tls=True, private=True))
    assert sent[b"cache-control"].decode() == expected
    assert b"cache-control" not in dict(reply_headers(RULES, own, tls=True, private=False))


def test_a_reply_with_a_cookie_is_for_one_caller_and_has_one_name() -> None:
    own = [(b"content-type", b"text/html"), (b"set-cookie", b"a=1"), (b"x-request-id", b"the app's")]
    headers = reply_headers(RULES, own, tls=True, private=False)
    assert [value for name, value in headers if name == b"cache-control"] == [b"no-store"]
    assert not any(name == b"x-request-id" for name, _ in headers)


def test_where_the_guard_says_who_may_read_replies_nobody_else_does() -> None:
    own = [(b"access-control-allow-origin", b"https://evil.example"), (b"Access-Control-Allow-Credentials", b"true")]
    alone = reply_headers(RULES, own, tls=True, private=False)
    assert [field for field in alone if field in own] == own
    decided = dict(reply_headers(compile_headers(own_cors=True), own, tls=True, private=False))
    assert not any(name.lower().startswith(b"access-control") for name in decided)
