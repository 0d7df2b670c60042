"""Who may call, and how often, through the whole guard: with real signed tokens and the counters of one process."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.asgi_client import Seen, call
from workhorse.asgi import Receive, Reply, Scope, Send
from workhorse.context import current_request
from workhorse.contracts import Exactness, Grant
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.guard import Guard, compile_plan
from workhorse.identity.reason import Reason
from workhorse.identity.scheme import Credentials, Identity, NotAuthenticated
from workhorse.policy import Policy
from workhorse.principal import Kind, Principal
from workhorse.rate import Quota, Rate
from workhorse.settings import GuardSettings
from workhorse.state.memory.counters import MemoryCounters
from workhorse.telemetry.metrics import Registry


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    principal = current_request().principal
    body = json.dumps({"subject": principal.subject, "same": scope.get("user") is principal}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


class Names:
    """A scheme whose credentials are names with scopes, `Bearer alice read,write`: enough to ask the guard."""

    challenge = b"Bearer"

    def __init__(self) -> None:
        self.verified = 0
        self._known: dict[bytes, Principal] = {}

    def presents(self, credentials: Credentials) -> bool:
        return credentials.authorization is not None

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        return self._known.get(credentials.authorization or b"")

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        self.verified += 1
        assert credentials.authorization is not None
        match credentials.authorization.decode().split(" "):
            case ["Bearer", "away"]:
                raise StoreUnavailable
            case ["Bearer", name, scopes]:
                principal = Principal(subject=name, kind=Kind.TOKEN, scopes=frozenset(scopes.split(",")))
                self._known[credentials.authorization] = principal
                return principal
            case _:
                raise NotAuthenticated(Reason.SIGNATURE, challenges=[self.challenge])

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Away:
    """A store of counters that cannot be reached."""

    exactness = Exactness.SHARED

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        raise StoreUnavailable

    async def forget(self, keys: Sequence[str]) -> None:
        raise StoreUnavailable


POLICIES = [
    Policy("GET /public", public=True),
    Policy("GET /known"),
    Policy("POST /write", scope=["write", "mfa"]),
    Policy("GET /caller", rate="2/hour"),
    Policy("GET /address", public=True, rate=Rate("2/hour", per="address")),
    Policy("GET /route", public=True, rate=Rate("3/hour", per="route")),
    Policy("GET /both", rate=["3/hour", Rate("2/hour", per="address", store_away="admit")]),
    Policy("GET /shared", rate=Rate("3/hour", per="route")),
    Policy("GET /mine", rate=["2/hour", Rate("4/hour", per="route")]),
    Policy("GET /lenient", public=True, rate=Rate("2/hour", per="address", store_away="admit")),
]


class Client:
    """Asks one guard again and again."""

    def __init__(self, counters: Any = None, *, identity: bool = True) -> None:
        self.scheme = Names()
        self.metrics = Registry(None)
        self.guard = Guard(
            app,
            compile_plan(
                GuardSettings(), POLICIES if identity else [policy for policy in POLICIES if not policy.scopes]
            ),
            identity=Identity(self.scheme) if identity else None,
            counters=counters if counters is not None else MemoryCounters(),
            metrics=self.metrics,
        )

    def ask(self, method: str, path: str, who: str = "", address: str = "203.0.113.7") -> Seen:
        headers = [("authorization", f"Bearer {who}")] if who else []
        return asyncio.run(call(self.guard, method, path, headers=headers, client=(address, 1)))


@pytest.mark.parametrize(
    ("method", "path", "who", "status"),
    [
        ("GET", "/public", "", 200),
        ("GET", "/public", "forged", 200),
        ("GET", "/known", "", 401),
        ("GET", "/known", "forged", 401),
        ("GET", "/known", "away", 503),
        ("GET", "/known", "alice read", 200),
        ("HEAD", "/known", "", 401),
        ("HEAD", "/known", "alice read", 200),
        ("POST", "/write", "alice read", 403),
        ("POST", "/write", "alice write", 403),
        ("POST", "/write", "alice mfa,write,more", 200),
        ("PUT", "/write", "alice mfa,write", 405),
        ("GET", "/write/", "alice mfa,write", 404),
        ("GET", "/nowhere", "alice mfa,write", 404),
        ("GET", "/nowhere", "", 404),
    ],
)
def test_who_may_call_what(method: str, path: str, who: str, status: int) -> None:
    assert Client().ask(method, path, who).status == status


def test_the_app_knows_who_calls_under_every_name() -> None:
    assert Client().ask("GET", "/known", "alice read").json() == {"subject": "alice", "same": True}
    assert Client().ask("GET", "/public", "forged").json()["subject"] == "", "bad credentials prove nobody"


def test_refusals_tell_the_client_what_to_present_and_no_reason() -> None:
    missing = Client().ask("GET", "/known")
    assert missing.header("www-authenticate") == "Bearer"
    assert missing.json()["type"] == "urn:workhorse:problem:not-authenticated"
    forged = Client().ask("GET", "/known", "forged")
    assert b"signature" not in forged.body
    denied = Client().ask("POST", "/write", "alice read")
    assert denied.header("www-authenticate") == 'Bearer error="insufficient_scope", scope="mfa write"'
    assert Client().ask("PUT", "/write", "alice mfa").header("allow") == "POST"


def test_each_refusal_is_counted_under_its_control() -> None:
    client = Client()
    client.ask("GET", "/known", "forged")
    client.ask("GET", "/known")
    client.ask("POST", "/write", "alice read")
    client.ask("GET", "/nowhere")
    text = client.metrics.render().decode()
    for control in ("identity.signature", "identity.missing", "identity.scope", "identity.no_policy"):
        assert f'workhorse_refusals_total{{control="{control}"}} 1' in text


def test_a_known_caller_is_verified_once() -> None:
    client = Client()
    for _ in range(3):
        assert client.ask("GET", "/known", "alice read").status == 200
    assert client.scheme.verified == 1


def test_a_reply_to_a_known_caller_is_kept_by_no_cache() -> None:
    assert Client().ask("GET", "/known", "alice read").header("cache-control") == "no-store"
    assert Client().ask("GET", "/public").header("cache-control") is None


def test_a_caller_has_its_limit_wherever_it_calls_from() -> None:
    client = Client()
    statuses = [client.ask("GET", "/caller", "alice a", address=f"198.51.100.{i}").status for i in range(3)]
    assert statuses == [200, 200, 429]
    assert client.ask("GET", "/caller", "bob a").status == 200


def test_an_address_has_its_limit_whoever_calls_and_ipv6_is_counted_by_network() -> None:
    client = Client()
    assert [client.ask("GET", "/address").status for _ in range(3)] == [200, 200, 429]
    assert client.ask("GET", "/address", address="203.0.113.8").status == 200
    statuses = [client.ask("GET", "/address", address=f"2001:db8:1:2::{i}").status for i in range(3)]
    assert statuses == [200, 200, 429]
    assert client.ask("GET", "/address", address="2001:db8:1:3::1").status == 200
    statuses = [client.ask("GET", "/address", address=f"::ffff:192.0.2.{i}").status for i in (1, 1, 1, 2)]
    assert statuses == [200, 200, 429, 200], "an IPv4 address in IPv6's clothes is counted as itself"


def test_a_route_has_its_limit_over_all() -> None:
    client = Client()
    assert [client.ask("GET", "/route", address=f"203.0.113.{i}").status for i in range(4)] == [200, 200, 200, 429]


def test_of_several_limits_none_is_charged_when_one_refuses() -> None:
    client = Client()
    assert [client.ask("GET", "/both", "alice a").status for _ in range(5)] == [200, 200, 429, 429, 429]
    # Alice has one left: the address was refused, and she was not charged for it.
    assert client.ask("GET", "/both", "alice a", address="203.0.113.9").status == 200
    assert client.ask("GET", "/both", "alice a", address="203.0.113.9").status == 429


def test_signatures_cannot_be_tried_beyond_the_limit_of_the_address() -> None:
    client = Client()
    statuses = [client.ask("GET", "/both", f"forged{i}").status for i in range(5)]
    assert statuses == [401, 401, 429, 429, 429]
    assert client.scheme.verified == 2


def test_what_is_left_is_told_as_the_draft_has_it() -> None:
    client = Client()
    first = client.ask("GET", "/both", "alice a")
    # She is not known yet when it comes: the address is asked before, the caller after. The lines are one list.
    assert [value for name, value in first.headers if name == b"ratelimit-policy"] == [
        b'"address-2";q=2;w=3600',
        b'"caller";q=3;w=3600',
    ]
    again = client.ask("GET", "/both", "alice a")
    assert again.header("ratelimit-policy") == '"caller";q=3;w=3600, "address-2";q=2;w=3600'
    assert again.header("ratelimit") == '"caller";r=1;t=2400, "address-2";r=0;t=3600'
    refused = client.ask("GET", "/both", "alice a")
    assert refused.status == 429
    assert refused.header("retry-after") == "1800"
    assert refused.json()["detail"] == "At most 2/hour are served to one address."


def test_while_the_store_is_away_a_limit_refuses_or_is_counted_by_the_process() -> None:
    client = Client(Away())
    strict = client.ask("GET", "/address")
    assert (strict.status, strict.json()["type"]) == (503, "urn:workhorse:problem:store-unavailable")
    assert strict.header("retry-after") == "1"
    assert [client.ask("GET", "/lenient").status for _ in range(3)] == [200, 200, 429]
    assert client.ask("GET", "/public").status == 200, "what has no limit needs no store"


def test_a_scope_that_nobody_can_check_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="'POST /write' ask for a scope, but nobody says who calls"):
        Guard(app, compile_plan(GuardSettings(), POLICIES))


def test_without_an_identity_everybody_may_call_and_limits_hold_by_address() -> None:
    client = Client(identity=False)
    assert client.ask("POST", "/write").status == 200
    assert client.ask("GET", "/nowhere").status == 200
    assert [client.ask("GET", "/caller", address="198.51.100.1").status for _ in range(3)] == [200, 200, 429]
    assert client.ask("GET", "/caller", address="198.51.100.2").status == 200


def test_strangers_with_made_up_credentials_use_up_nothing_that_all_share() -> None:
    client = Client()
    for number in range(5):
        assert client.ask("GET", "/shared", "forged", address=f"203.0.113.{number}").status == 401
    assert [client.ask("GET", "/shared", "alice read").status for _ in range(3)] == [200, 200, 200]
    assert client.ask("GET", "/shared", "bob read").status == 429


def test_a_caller_over_its_own_limit_uses_up_nothing_that_all_share() -> None:
    client = Client()
    for _ in range(5):
        client.ask("GET", "/mine", "alice read")
    assert [client.ask("GET", "/mine", "bob read").status for _ in range(2)] == [200, 200]


def test_several_cookie_fields_are_one_for_the_guard_and_for_the_app() -> None:
    seen: list[Any] = []

    class Cookie(Names):
        def presents(self, credentials: Credentials) -> bool:
            return credentials.cookie is not None

        def recall(self, credentials: Credentials, now: float) -> Principal | None:
            seen.append(credentials.cookie)
            return None

        async def verify(self, credentials: Credentials, now: float) -> Principal:
            return Principal(subject="alice", kind=Kind.SESSION)

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append([value for name, value in scope["headers"] if name == b"cookie"])
        await app(scope, receive, send)

    guard = Guard(reads, compile_plan(GuardSettings(), POLICIES), identity=Identity(Cookie()))
    headers = [("cookie", "session=1"), ("accept", "a"), ("accept", "b"), ("cookie", "theme=dark")]
    assert asyncio.run(call(guard, "GET", "/known", headers=headers)).status == 200
    assert seen[0] == b"session=1; theme=dark"
    assert seen[-1] == [b"session=1; theme=dark"]


class WithLogin(Names):
    """Names, and a page to log in for all that asks for a page."""

    def login_redirect(self, scope: Scope) -> Reply | None:
        if not any(field == (b"sec-fetch-mode", b"navigate") for field in scope["headers"]):
            return None
        return Reply(status=302, headers=((b"location", b"/login?next=" + scope["path"].encode()),), body=b"")


@pytest.mark.parametrize(
    ("path", "headers", "status", "control"),
    [
        ("/known", {"sec-fetch-mode": "navigate"}, 302, "identity.missing"),
        ("/known", {"sec-fetch-mode": "cors"}, 401, "identity.missing"),
        ("/known", {"sec-fetch-mode": "navigate", "authorization": "Bearer forged"}, 401, "identity.signature"),
        ("/write", {"sec-fetch-mode": "navigate", "authorization": "Bearer alice read"}, 403, "identity.scope"),
        ("/nowhere", {"sec-fetch-mode": "navigate"}, 404, "identity.no_policy"),
        ("/public", {"sec-fetch-mode": "navigate"}, 200, ""),
    ],
)
def test_a_person_who_is_not_known_is_led_to_the_login(
    path: str, headers: dict[str, str], status: int, control: str
) -> None:
    metrics = Registry(None)
    policies = [*POLICIES, Policy("GET /write", scope="write")]
    guard = Guard(app, compile_plan(GuardSettings(), policies), identity=Identity(WithLogin()), metrics=metrics)
    seen = asyncio.run(call(guard, "GET", path, headers=headers.items()))
    assert seen.status == status
    assert (seen.header("location") == f"/login?next={path}") == (status == 302)
    counted = f'workhorse_refusals_total{{control="{control}"}} 1' in metrics.render().decode()
    assert counted == bool(control)


def test_a_guard_with_a_plan_takes_nothing_that_plans_are_made_of() -> None:
    plan = compile_plan(GuardSettings())
    given: list[dict[str, Any]] = [
        {"settings": GuardSettings()},
        {"policies": [Policy("GET /a")]},
        {"production": True},
    ]
    for beside in given:
        with pytest.raises(SettingsError, match="beside it"):
            Guard(app, plan, **beside)


def test_a_guard_of_settings_can_be_told_that_it_is_production() -> None:
    settings = GuardSettings(allowed_hosts=("localhost",), trusted_proxies=("127.0.0.1",))
    asked = [asyncio.run(call(Guard(app, settings=settings, production=live), "GET", "/")) for live in (True, False)]
    assert [seen.status for seen in asked] == [308, 200]


def test_a_policy_for_a_method_that_is_never_served_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'BREW /pot' is for the method BREW, which is not served"):
        compile_plan(GuardSettings(), [Policy("BREW /pot")])
    with pytest.raises(SettingsError, match=r"add it to\s+guard\.methods"):
        compile_plan(GuardSettings(methods=("GET",)), [Policy("POST /a")])
    compile_plan(GuardSettings(methods=("GET",)), [Policy("* /a"), Policy("GET /a")])
