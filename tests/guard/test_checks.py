"""Each check as a table of requests: what it admits, and what it refuses under which name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.asgi import Message, Scope
from workhorse.errors import SettingsError
from workhorse.guard.admission import admit
from workhorse.guard.checks.host import host_name
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import SINGLE_VALUED, Facts
from workhorse.guard.plan import Plan, compile_plan
from workhorse.guard.verdict import Refusal
from workhorse.policy import Policy
from workhorse.settings import GuardSettings

PLAN = compile_plan(
    GuardSettings(allowed_hosts=("api.example.com", "*.tenants.example.com", "[::1]"), max_body_bytes=100),
    [Policy("POST /upload", max_body_bytes=1_000)],
)


async def send(message: Message) -> None:
    raise AssertionError("admission sends nothing")


def judge(plan: Plan, scope: Scope) -> str:
    facts = Facts(scope)
    verdict = admit(plan, facts, Exchange(plan, facts, send, 0.0))
    if verdict is None:
        return "admitted"
    if isinstance(verdict, Refusal):
        return f"{verdict.problem.status} {verdict.control}"
    return str(verdict.status)


def verdict(plan: Plan, method: str, path: str, headers: list[tuple[str, str]], **more: object) -> str:
    return judge(plan, http_scope(method, path, headers, **more))


HOSTS = [
    ("api.example.com", "admitted"),
    ("API.Example.COM", "admitted"),
    ("api.example.com:8443", "admitted"),
    ("api.example.com.", "admitted"),
    ("one.tenants.example.com", "admitted"),
    ("a.b.tenants.example.com", "admitted"),
    ("[::1]:8000", "admitted"),
    ("[::1]", "admitted"),
    ("tenants.example.com", "421 host.not_served"),
    ("eviltenants.example.com", "421 host.not_served"),
    ("api.example.com.evil.test", "421 host.not_served"),
    ("api.example.com@evil.test", "421 host.not_served"),
    ("api.example.com:80@evil.test", "421 host.not_served"),
    ("evil.test", "421 host.not_served"),
    ("api.example.com, evil.test", "421 host.not_served"),
    ("api.example.com:port", "421 host.not_served"),
    (" api.example.com", "421 host.not_served"),
    ("", "421 host.not_served"),
    (":80", "421 host.not_served"),
    ("169.254.169.254", "421 host.not_served"),
]


@pytest.mark.parametrize(("host", "expected"), HOSTS, ids=[repr(host) for host, _ in HOSTS])
def test_hosts(host: str, expected: str) -> None:
    assert verdict(PLAN, "GET", "/", [("host", host)]) == expected


def test_a_request_without_host_is_refused() -> None:
    scope = http_scope("GET", "/")
    scope["headers"] = []
    assert judge(PLAN, scope) == "400 host.missing"


OK = ("host", "api.example.com")
BODIES = [
    ("POST", "/", [OK, ("content-length", "100")], "admitted"),
    ("POST", "/", [OK, ("content-length", "101")], "413 body.size"),
    ("POST", "/upload", [OK, ("content-length", "1000")], "admitted"),
    ("POST", "/upload", [OK, ("content-length", "1001")], "413 body.size"),
    ("GET", "/upload", [OK, ("content-length", "1000")], "413 body.size"),
    ("POST", "/", [OK, ("content-length", "10737418240")], "413 body.size"),
    ("POST", "/", [OK, ("content-length", "9" * 30)], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "-1")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "+1")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "0x10")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "1, 1")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "\xb2")], "400 shape.content_length"),
    ("POST", "/", [OK, ("content-length", "5"), ("transfer-encoding", "chunked")], "400 shape.framing"),
    ("POST", "/", [OK, ("transfer-encoding", "Chunked ")], "admitted"),
    ("POST", "/", [OK, ("transfer-encoding", "gzip, chunked")], "400 shape.transfer_coding"),
    ("POST", "/", [OK, ("transfer-encoding", "xchunked")], "400 shape.transfer_coding"),
]


@pytest.mark.parametrize(("method", "path", "headers", "expected"), BODIES)
def test_declared_bodies_and_framing(method: str, path: str, headers: list[tuple[str, str]], expected: str) -> None:
    assert verdict(PLAN, method, path, headers) == expected


@pytest.mark.parametrize("name", sorted(name.decode() for name in SINGLE_VALUED))
def test_a_repeated_single_valued_header_is_refused(name: str) -> None:
    headers = [OK, (name, "1"), (name, "1")]
    assert verdict(PLAN, "POST", "/", headers) == "400 shape.duplicate_header"


def test_other_headers_may_be_repeated() -> None:
    assert verdict(PLAN, "GET", "/", [OK, ("cookie", "a=1"), ("cookie", "b=2"), ("x", "1"), ("x", "2")]) == "admitted"


@pytest.mark.parametrize("path", ["/a\x00b", "/a\nb", "/a\x7fb"])
def test_a_control_character_is_refused_though_the_server_does_not_tell_the_raw_path(path: str) -> None:
    scope = http_scope("GET", "/", [OK])
    scope["path"] = path
    del scope["raw_path"]
    assert judge(PLAN, scope) == "400 path.character"


def test_a_target_and_headers_beyond_the_limits_are_refused() -> None:
    assert verdict(PLAN, "GET", "/" + "a" * 8191, [OK]) == "admitted"
    assert verdict(PLAN, "GET", "/" + "a" * 8192, [OK]) == "414 size.target"
    assert verdict(PLAN, "GET", "/?" + "a" * 8192, [OK]) == "414 size.target"
    assert verdict(PLAN, "GET", "/", [OK, ("x", "a" * 40_000)]) == "431 size.headers"
    assert verdict(PLAN, "GET", "/", [OK, *((f"x{i}", "a") for i in range(99))]) == "admitted"
    assert verdict(PLAN, "GET", "/", [OK, *((f"x{i}", "a") for i in range(100))]) == "431 size.header_count"
    assert verdict(PLAN, "GET", "/", [OK, *((f"x{i}", "a" * 400) for i in range(90))]) == "431 size.headers"


def test_with_no_hosts_named_development_serves_this_machine_and_production_nobody() -> None:
    development = compile_plan(GuardSettings())
    production = compile_plan(GuardSettings(), production=True)
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert verdict(development, "GET", "/", [("host", host)]) == "admitted"
        assert verdict(production, "GET", "/", [("host", host)]) == "421 host.not_served"
    assert verdict(development, "GET", "/", [("host", "rebound.evil.test")]) == "421 host.not_served"


@pytest.mark.parametrize(
    "host", ["http://a.example", "a.example:80", "a b", "*", "*.*.example", "", "-a.example", "a..b"]
)
def test_a_malformed_allowed_host_is_refused_at_start_up(host: str) -> None:
    with pytest.raises(SettingsError, match="is not a host name"):
        compile_plan(GuardSettings(allowed_hosts=(host,)))


@given(st.binary(max_size=100))
def test_any_host_header_has_a_name_without_its_port(host: bytes) -> None:
    name = host_name(host)
    assert name == name.lower()
    assert name == b"" or name in host.lower()


header = st.tuples(
    st.text(st.characters(codec="latin-1"), max_size=10), st.text(st.characters(codec="latin-1"), max_size=10)
)


@given(st.lists(header, max_size=8), st.text(max_size=20), st.sampled_from(["GET", "POST", "\x00"]))
def test_no_request_makes_a_check_raise(headers: list[tuple[str, str]], path: str, method: str) -> None:
    scope = http_scope(method, "/", headers)
    scope["path"] = path
    judge(PLAN, scope)
