"""An app's own header that is weaker than the guard's is told of, with what is weak about it."""

import pytest

from workhorse.guard.headers import Kind, compile_headers
from workhorse.guard.weakened import weakened

RULES = compile_headers(hsts=b"max-age=63072000; includeSubDomains", embedder_policy="require-corp", report_to="/r")

TIGHT = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
DENIED = ", ".join(f"{feature}=()" for feature in RULES.denied_features)

STRICT = [
    ("x-content-type-options", "nosniff"),
    ("X-Content-Type-Options", "NoSniff"),
    ("x-frame-options", "deny"),
    ("referrer-policy", "no-referrer"),
    ("referrer-policy", "same-origin"),
    ("referrer-policy", "unsafe-url, no-referrer"),
    ("referrer-policy", "no-referrer, some-future-word"),
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    ("strict-transport-security", 'includesubdomains;MAX-AGE="99999999" ; preload'),
    ("cross-origin-opener-policy", 'same-origin; report-to="x"'),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-embedder-policy", "credentialless"),
    ("permissions-policy", DENIED),
    ("permissions-policy", DENIED + ", fullscreen=()"),
    ("origin-agent-cluster", "?1"),
    ("x-permitted-cross-domain-policies", "none"),
    ("cache-control", "no-store"),
    ("cache-control", "private, max-age=60"),
    ("reporting-endpoints", 'csp="/other"'),
    ("content-security-policy", TIGHT),
    ("content-security-policy", TIGHT.upper()),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("content-security-policy", TIGHT + "; script-src 'nonce-abc' 'strict-dynamic' 'unsafe-inline' https:"),
    ("content-security-policy", TIGHT + "; script-src 'sha256-abc' 'unsafe-inline'"),
    ("content-security-policy", f"default-src *, {TIGHT}"),
    ("content-security-policy", "frame-ancestors 'none', " + TIGHT.partition("; frame")[0]),
    ("x-own", "anything"),
]


@pytest.mark.parametrize(("name", "value"), STRICT, ids=[f"{name}: {value}"[:90] for name, value in STRICT])
def test_what_is_as_strict_is_not_told_of(name: str, value: str) -> None:
    assert weakened(RULES, name.encode(), value.encode()) == ""


WEAK = [
    ("x-content-type-options", "", "guess the type"),
    ("x-content-type-options", "sniff, nosniff", "guess the type"),
    ("x-frame-options", "SAMEORIGIN", "same origin"),
    ("x-frame-options", "ALLOW-FROM https://a.example", "no browser heeds"),
    ("x-frame-options", "DENY, SAMEORIGIN", "no browser heeds"),
    ("referrer-policy", "unsafe-url", "whole address"),
    ("referrer-policy", "no-referrer-when-downgrade", "whole address"),
    ("referrer-policy", "no-referrer, unsafe-url", "whole address"),
    ("referrer-policy", "origin", "tells other sites the origin"),
    ("referrer-policy", "strict-origin-when-cross-origin", "tells other sites the origin"),
    ("referrer-policy", "never", "no browser knows"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains", "31536000 seconds instead of 63072000"),
    ("strict-transport-security", "max-age=0", "0 seconds"),
    ("strict-transport-security", "includeSubDomains", "0 seconds"),
    ("strict-transport-security", "max-age=63072000x; includeSubDomains", "0 seconds"),
    ("strict-transport-security", "max-age=63072000", "subdomains"),
    ("cross-origin-opener-policy", "unsafe-none", "keep hold"),
    ("cross-origin-opener-policy", "same-origin-allow-popups", "keep hold"),
    ("cross-origin-resource-policy", "cross-origin", "every site"),
    ("cross-origin-resource-policy", "same-site", "other hosts of the site"),
    ("cross-origin-embedder-policy", "unsafe-none", "did not opt in"),
    ("permissions-policy", "camera=()", "does not deny accelerometer"),
    ("permissions-policy", DENIED.replace("camera=()", "camera=(self)"), "does not deny camera"),
    ("origin-agent-cluster", "?0", "process"),
    ("x-permitted-cross-domain-policies", "all", "other sites"),
    ("cache-control", "public, max-age=60", "for others"),
    ("cache-control", "max-age=60", "for others"),
    ("cache-control", "private, s-maxage=60", "for others"),
    ("reporting-endpoints", "", "no place"),
    ("content-security-policy", "", "is empty"),
    ("content-security-policy", "default-src 'self'", "frame-ancestors"),
    ("content-security-policy", TIGHT.replace("frame-ancestors 'none'", "frame-ancestors *"), "every site frame it"),
    ("content-security-policy", TIGHT.replace("frame-ancestors 'none'", "frame-ancestors https:"), "every site frame"),
    ("content-security-policy", TIGHT + "; script-src 'self' 'unsafe-inline'", "'unsafe-inline'"),
    ("content-security-policy", TIGHT + "; script-src-attr 'unsafe-inline'", "'unsafe-inline'"),
    ("content-security-policy", TIGHT + "; script-src 'self' 'unsafe-eval'", "'unsafe-eval'"),
    ("content-security-policy", TIGHT + "; script-src *", "scripts of any site"),
    ("content-security-policy", TIGHT + "; script-src 'self' data:", "scripts of any site"),
    ("content-security-policy", TIGHT + "; script-src-elem https:", "scripts of any site"),
    ("content-security-policy", TIGHT + "; style-src 'unsafe-inline'", "styles"),
    ("content-security-policy", TIGHT.replace("default-src 'self'", "img-src 'self'"), "scripts of any site"),
    ("content-security-policy", TIGHT.replace("object-src 'none'", "object-src 'self'"), "plug-ins"),
    ("content-security-policy", TIGHT.replace("base-uri 'none'; ", ""), "base-uri"),
    ("content-security-policy", TIGHT.replace("form-action 'self'; ", ""), "form-action"),
    ("content-security-policy", "default-src *; " + TIGHT, "scripts of any site"),
    ("content-security-policy", f"{TIGHT}; script-src *, {TIGHT}; script-src https:", "scripts of any site"),
]


@pytest.mark.parametrize(
    ("name", "value", "reason"), WEAK, ids=[f"{name}: {value}"[:90] or "empty" for name, value, _ in WEAK]
)
def test_what_is_weaker_is_told_with_its_reason(name: str, value: str, reason: str) -> None:
    assert reason in weakened(RULES, name.encode(), value.encode())


def test_each_fault_of_a_policy_is_named() -> None:
    found = weakened(RULES, b"content-security-policy", b"script-src 'unsafe-inline' 'unsafe-eval'")
    for fault in ("frame-ancestors", "'unsafe-inline'", "'unsafe-eval'", "styles", "object-src", "base-uri", "form-"):
        assert fault in found


def test_where_the_guard_sends_no_strict_transport_security_none_is_weaker() -> None:
    assert weakened(compile_headers(), b"strict-transport-security", b"max-age=1") == ""


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.PAGE])
def test_ours_are_not_weaker_than_ours(kind: Kind) -> None:
    for name, value in RULES.lists[kind * 4 + 3]:
        assert weakened(RULES, name, value) == ""
