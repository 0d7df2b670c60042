"""The map of controls, and each way in which a change can take one away."""

from dataclasses import fields
from typing import Any

import msgspec
import pytest

from workhorse.guard.controls import (
    EVERYWHERE,
    NO_CONTROLS,
    POLICY_CONTROLS,
    POLICY_NO_CONTROLS,
    ControlMap,
    control_map,
    lost,
)
from workhorse.guard.routes import RouteTable
from workhorse.policy import Policy
from workhorse.rate import Rate
from workhorse.settings import GuardSettings

FULL: dict[str, Any] = {
    "scope": ["transfers:write", "mfa"],
    "rate": [Rate("600/minute", burst=50), Rate("5/second", per="address")],
    "idempotent": "required",
    "deadline": 5,
    "max_body_bytes": 1000,
    "content_types": ["application/json"],
    "isolation": "serializable",
}


def a_map(*policies: Policy, identity: bool = True, **settings: Any) -> ControlMap:
    table = RouteTable(policies, max_body_bytes=2000, deadline_seconds=60)
    rows = [("POST /a", "app.py:1 a", "POST /a"), ("GET /b/{x}", "app.py:9 b", "GET /b/~")]
    return control_map(rows, table, GuardSettings(**settings), identity=identity)


def test_the_map_says_what_guards_each_route() -> None:
    route, other = a_map(Policy("POST /a", **FULL), Policy("GET /b/{y}", public=True)).routes
    assert (route.caller, route.scopes, route.idempotency) == ("known", ["mfa", "transfers:write"], "required")
    assert route.rates == [
        "600/minute per caller, burst 50, refuse while uncounted",
        "5/second per address, burst 5, refuse while uncounted",
    ]
    assert (route.max_body_bytes, route.deadline_seconds, route.content_types) == (1000, 5, ["application/json"])
    assert (other.caller, other.policy, other.max_body_bytes) == ("public", "GET /b/{y}", 2000)


def test_a_route_without_a_policy_is_open_to_anyone_or_to_nobody() -> None:
    assert [route.caller for route in a_map(identity=False).routes] == ["anyone", "anyone"]
    assert [route.caller for route in a_map(identity=True).routes] == ["nobody", "nobody"]


LOSSES = [
    ({"scope": "transfers:write"}, "scope", "mfa", "transfers:write"),
    ({"scope": (), "public": True}, "caller", "known", "public"),
    ({"rate": Rate("600/minute", burst=50)}, "rate", "5/second per address", "600/minute per caller"),
    ({"rate": [Rate("601/minute", burst=50), FULL["rate"][1]]}, "rate", "600/minute per caller", "601/minute"),
    ({"rate": [Rate("600/minute", burst=51), FULL["rate"][1]]}, "rate", "600/minute per caller", "burst 51"),
    (
        {"rate": [Rate("600/minute", burst=50, store_away="admit"), FULL["rate"][1]]},
        "rate",
        "refuse while uncounted",
        "admit while uncounted",
    ),
    ({"idempotent": True}, "idempotency", "required", "optional"),
    ({"deadline": 6}, "deadline_seconds", "5", "6"),
    ({"max_body_bytes": 1001}, "max_body_bytes", "1000", "1001"),
    ({"content_types": []}, "content_types", "application/json", "any"),
    ({"content_types": ["application/json", "text/xml"]}, "content_types", "application/json", "text/xml"),
    ({"insecure_cross_site": True}, "cross_site", "refused", "taken"),
    ({"encoded_slashes": True}, "encoded_slashes", "refused", "taken"),
    ({"double_escapes": True}, "double_escapes", "refused", "taken"),
    ({"isolation": "read committed"}, "isolation", "serializable", "read committed"),
    ({"isolation": None}, "isolation", "serializable", "the database's default"),
]


@pytest.mark.parametrize(("change", "control", "was", "now"), LOSSES, ids=[f"{row[1]}-{row[3]}" for row in LOSSES])
def test_what_a_change_of_a_policy_takes_away_is_found(
    change: dict[str, Any], control: str, was: str, now: str
) -> None:
    before = a_map(Policy("POST /a", **FULL))
    after = a_map(Policy("POST /a", **{**FULL, **change}))
    losses = [loss for loss in lost(before, after) if loss.control == control]
    assert len(losses) == 1
    assert losses[0].where == "POST /a"
    assert was in losses[0].was
    assert now in losses[0].now


def test_stricter_controls_are_no_loss() -> None:
    stricter = {
        "scope": [*FULL["scope"], "more"],
        "rate": [Rate("60/minute", burst=10), Rate("5/second", per="address", burst=2), Rate("9/day", per="route")],
        "deadline": 1,
        "max_body_bytes": 10,
    }
    assert lost(a_map(Policy("POST /a", **FULL)), a_map(Policy("POST /a", **{**FULL, **stricter}))) == []


def test_the_identity_itself_taken_away_is_a_loss_of_every_route() -> None:
    losses = lost(a_map(Policy("POST /a", scope="x")), a_map(identity=False))
    assert {(loss.where, loss.control) for loss in losses} >= {("POST /a", "caller"), ("GET /b/{x}", "caller")}


@pytest.mark.parametrize(
    "change",
    [
        {"insecure_any_host": True},
        {"insecure_cross_site": True},
        {"cors_origins": ("https://evil.test",)},
        {"csrf_origins": ("https://evil.test",)},
        {"allowed_hosts": ("evil.test",)},
        {"trusted_proxies": ("10.0.0.0/8",)},
        {"max_json_depth": 65},
        {"hsts_seconds": 0},
        {"hsts_subdomains": False},
        {"insecure_cors_any_origin": True},
        {"insecure_needless_escapes": True},
        {"client_certificate_header": "x-cert"},
        {"proxy_header": "forwarded"},
        {"methods": (*GuardSettings().methods, "QUERY")},
        {"cors_methods": (*GuardSettings().cors_methods, "QUERY")},
        {"max_pending_bytes": 10**12},
        {"max_concurrent_requests": 10**6},
        {"rate_store": "memory"},
        {"rate_ahead_seconds": 5},
        {"https": "off"},
        {"body_bytes_per_second": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_that_opens_the_guard_is_a_loss_everywhere(change: dict[str, Any]) -> None:
    losses = [loss for loss in lost(a_map(), a_map(**change)) if loss.where == "everywhere"]
    assert [loss.control for loss in losses] == list(change)
    back = [loss.control for loss in lost(a_map(**change), a_map()) if loss.where == "everywhere"]
    # Another header to believe is another one to forge, in either direction.
    assert back == [name for name in change if name in {"client_certificate_header", "proxy_header"}]


def test_https_turned_off_is_a_loss() -> None:
    losses = lost(a_map(https="redirect"), a_map(https="off"))
    assert [(loss.control, loss.was, loss.now) for loss in losses] == [("https", "redirect", "off")]


def test_a_stricter_https_is_no_loss() -> None:
    for was, now in (("off", "auto"), ("auto", "redirect"), ("redirect", "refuse")):
        assert lost(a_map(https=was), a_map(https=now)) == []
        assert [loss.control for loss in lost(a_map(https=now), a_map(https=was))] == ["https"]


def test_keys_of_the_csrf_token_are_told_to_be_there_and_never_told() -> None:
    was = a_map(csrf_token_keys=("k" * 32,))
    assert b"kkk" not in msgspec.json.encode(was)
    assert [(loss.control, loss.was, loss.now) for loss in lost(was, a_map())] == [("csrf_token_keys", "on", "off")]
    assert lost(was, a_map(csrf_token_keys=("another key of 32 characters or more",))) == []


def test_a_route_that_could_not_write_and_now_can_has_lost_something() -> None:
    losses = lost(a_map(Policy("GET /b/{x}", read_only=True)), a_map(Policy("GET /b/{x}")))
    assert [(loss.control, loss.was, loss.now) for loss in losses] == [("read_only", "on", "off")]


def test_every_setting_and_every_field_of_a_policy_is_in_the_map_or_named_as_no_control() -> None:
    assert {*EVERYWHERE} | NO_CONTROLS == set(GuardSettings.model_fields)
    assert {*EVERYWHERE} & NO_CONTROLS == set()
    assert {field.name for field in fields(Policy)} == POLICY_CONTROLS | POLICY_NO_CONTROLS


def test_the_map_survives_its_file() -> None:
    controls = a_map(Policy("POST /a", **FULL))
    again = msgspec.json.decode(msgspec.json.encode(controls), type=ControlMap)
    assert again == controls
    assert lost(controls, again) == []
