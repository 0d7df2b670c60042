from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.errors import SettingsError
from workhorse.guard.checks.host import compile_host
from workhorse.policy import Policy, PolicyTable
from workhorse.rate import Rate

TABLE = PolicyTable(
    [
        Policy("POST /transfers", idempotent="required"),
        Policy("POST /transfers/{id}/reversal", idempotent=True),
        Policy("GET /transfers/{id}"),
        Policy("GET /transfers/latest"),
        Policy("* /any/{x}"),
        Policy("PUT /files/{name:path}"),
        Policy("GET /"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "pattern"),
    [
        ("POST", "/transfers", "POST /transfers"),
        ("POST", "/transfers/7/reversal", "POST /transfers/{id}/reversal"),
        ("GET", "/transfers/7", "GET /transfers/{id}"),
        ("GET", "/transfers/latest", "GET /transfers/latest"),
        ("DELETE", "/any/1", "* /any/{x}"),
        ("GET", "/", "GET /"),
        ("PUT", "/files/a", "PUT /files/{name:path}"),
        ("PUT", "/files/a/b/c", "PUT /files/{name:path}"),
        ("PUT", "/files", None),
        ("GET", "/transfers", None),
        ("POST", "/transfers/", None),
        ("POST", "/transfers/7/8/reversal", None),
        ("POST", "/Transfers", None),
        ("GET", "", None),
    ],
)
def test_the_best_match_is_found(method: str, path: str, pattern: str | None) -> None:
    found = TABLE.find(method, path)
    assert (found.pattern if found else None) == pattern


@pytest.mark.parametrize(
    "pattern", ["", "POST", "post /x", "POST x", "POST /a b", "POST /a{b}", "POST /{", "POST  /x", "GET /{a:path}/b"]
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match="the policy"):
        Policy(pattern)


def test_two_policies_for_the_same_requests_are_refused() -> None:
    with pytest.raises(SettingsError, match="match the same requests"):
        PolicyTable([Policy("GET /a/{x}"), Policy("GET /a/{y}")])


@pytest.mark.parametrize(
    ("method", "pattern"), [("HEAD", "GET /a/{x}"), ("GET", "GET /a/{x}"), ("PUT", "* /{rest:path}")]
)
def test_head_has_the_policy_of_get_and_no_weaker_one(method: str, pattern: str) -> None:
    table = PolicyTable([Policy("* /{rest:path}", public=True), Policy("GET /a/{x}", scope="a:read")])
    found = table.find(method, "/a/1")
    assert found is not None
    assert found.pattern == pattern


def test_the_methods_of_a_path_are_told() -> None:
    table = PolicyTable([Policy("GET /a/{x}"), Policy("PUT /a/{x}"), Policy("POST /a")])
    assert table.methods("/a/1") == ["GET", "PUT"]
    assert table.methods("/b") == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"public": True, "scope": "a"}, "is public and asks for a scope"),
        ({"scope": "a b"}, "a scope is one word"),
        ({"deadline": 0}, "more than 0"),
        ({"rate": "often"}, "LIMIT/PERIOD"),
        ({"rate": ["1/second"] * 5}, "at most 4"),
        ({"priority": "urgent"}, "critical, high, normal or low"),
        ({"content_types": ["json"]}, "application/json"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_malformed_option_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Policy("GET /a", **options)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(SettingsError, match="and not negative"):
        Policy("GET /a", max_body_bytes=-1)


segment = st.text(st.characters(exclude_characters="/{}?#%", exclude_categories=("Z", "C")), min_size=1, max_size=8)


@given(st.lists(st.one_of(segment, st.just("{p}")), min_size=1, max_size=5), st.lists(segment, min_size=5, max_size=5))
def test_a_template_matches_its_own_instances_and_nothing_longer(template: list[str], values: list[str]) -> None:
    table = PolicyTable([Policy("GET /" + "/".join(template))])
    instance = "/" + "/".join(value if part == "{p}" else part for part, value in zip(template, values, strict=False))
    assert table.find("GET", instance) is not None
    assert table.find("GET", instance + "/more") is None
    assert table.find("POST", instance) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy("GET /a\n"),
        lambda: Policy("GET /a", scope="a\n"),
        lambda: Policy("GET /a", content_types=["text/plain\n"]),
        lambda: Rate("5/minute\n"),
        lambda: compile_host(allowed=["a.example\n"]),
    ],
)
def test_a_line_end_is_no_end(make: Callable[[], object]) -> None:
    with pytest.raises(SettingsError):
        make()


@pytest.mark.parametrize(
    "given",
    [
        {"max_body_bytes": float("inf")},
        {"deadline": "5"},
        {"public": "no"},
        {"fast": 1},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_refused(given: dict[str, Any]) -> None:
    # Compiled, the class itself refuses what is not of the field's type.
    with pytest.raises((SettingsError, TypeError)):
        Policy("GET /a", **given)


def test_a_literal_further_to_the_left_wins() -> None:
    table = PolicyTable(
        [Policy("GET /{a}/b/c"), Policy("GET /x/{b}/{c}"), Policy("GET /x/{rest:path}"), Policy("GET /{any:path}")]
    )
    found = {path: table.find("GET", path) for path in ("/x/b/c", "/y/b/c", "/x/y", "/z")}
    assert {path: policy.pattern if policy else None for path, policy in found.items()} == {
        "/x/b/c": "GET /x/{b}/{c}",
        "/y/b/c": "GET /{a}/b/c",
        "/x/y": "GET /x/{rest:path}",
        "/z": "GET /{any:path}",
    }
