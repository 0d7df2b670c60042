"""Logins that must not succeed: forged tokens, replies to somebody else's login, and issuers that misbehave."""

import asyncio
import base64
import gzip
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.identity.login_kit import (
    URL,
    Bank,
    Browser,
    Place,
    Provider,
    a_place,
    lines_of,
    logging_to,
    parameters,
    providing,
    visiting,
    with_parameters,
)
from tests.identity.oidc_server import hand_made, signing_key
from workhorse.errors import SettingsError, StartupError
from workhorse.identity import Issuer
from workhorse.identity.discovery import IssuerAway, IssuerWrong
from workhorse.identity.login import LoginPaths
from workhorse.identity.login.attempt import Party, begin, crowded_out, give, s256
from workhorse.identity.login.provider import read_provider_metadata
from workhorse.identity.login.tokens import half_hash
from workhorse.settings import Settings, load_settings

NOW = int(time.time())


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place() as served:
        yield served


@pytest.fixture
def provider(place: Place) -> Provider:
    return place.provider()


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path)


async def failed(browser: Browser, reply: httpx.Response, status: int = 400) -> None:
    """The login did not succeed, says so in few words, and has left nothing behind."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert "session" not in " ".join(browser.bank.cookies), "nobody is logged in"
    assert await browser.whoami() is None


def reasons(path: Path) -> list[str]:
    return [line["why"] for line in lines_of(path) if line["event"] == "login.failed"]


LIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "another nonce": ("nonce", {"nonce": "x" * 43}),
    "no nonce": ("nonce", {"nonce": None}),
    "a nonce that is no text": ("nonce", {"nonce": ["x"]}),
    "another issuer": ("issuer", {"iss": "https://evil.example"}),
    "no issuer": ("issuer", {"iss": None}),
    "another client": ("audience", {"aud": "shop"}),
    "no client": ("audience", {"aud": None}),
    "another client beside this one": ("party", {"aud": ["bank", "shop"]}),
    "made for another party": ("party", {"azp": "shop"}),
    "expired": ("expired", {"exp": NOW - 3600}),
    "no end": ("claims", {"exp": None}),
    "no time of issue": ("claims", {"iat": None}),
    "issued before the login": ("expired", {"iat": NOW - 3600}),
    "issued in the future": ("not_yet", {"iat": NOW + 3600}),
    "not good yet": ("not_yet", {"nbf": NOW + 3600}),
    "nobody": ("claims", {"sub": None}),
    "an empty name": ("claims", {"sub": ""}),
    "a name with a line end": ("claims", {"sub": "a\nb"}),
    "a name that is too long to keep": ("claims", {"sub": "a" * 2000}),
    "the hash of another access token": ("access_token", {"at_hash": "x" * 22}),
    "a hash that is none": ("access_token", {"at_hash": 1}),
    "an access token's claim": ("type", {"token_use": "access"}),
    "a security event": ("type", {"events": {}}),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_lies_logs_nobody_in(
    lie: str, provider: Provider, plain_settings: Settings, tmp_path: Path
) -> None:
    reason, claims = LIES[lie]
    provider.claims = dict(claims)

    async def main() -> None:
        with logging_to(tmp_path / "log") as log:
            async with visiting(Bank(provider, plain_settings, log=log)) as browser:
                await failed(browser, await browser.log_in())
                assert not browser.bank.cookies, "the login is over"

    asyncio.run(main())
    assert reasons(tmp_path / "log") == [reason]


def unsigned(token: str) -> str:
    return hand_made({"alg": "none"}, _claims(token), b"x")


def with_a_public_key_as_secret(token: str) -> str:
    return hand_made({"alg": "HS256"}, _claims(token))


def of_another_key(token: str) -> str:
    return signing_key().sign(_claims(token), typ="JWT")


def changed(token: str) -> str:
    head, _, signature = token.split(".")
    other = hand_made({}, {**_claims(token), "sub": "mallory"}).split(".")[1]
    return f"{head}.{other}.{signature}"


def _claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


FORGERIES: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "not signed": ("algorithm", unsigned),
    "signed with a secret": ("algorithm", with_a_public_key_as_secret),
    "signed with a key that is not published": ("unknown_key", of_another_key),
    "changed after it was signed": ("signature", changed),
    "no token": ("malformed", lambda _: "no token"),
    "not ASCII": ("malformed", lambda _: "ümlaut"),
    "too large": ("too_large", lambda token: token + "x" * 40_000),
    "empty": ("malformed", lambda _: ""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_id_token_logs_nobody_in(
    forgery: str, provider: Provider, plain_settings: Settings, tmp_path: Path
) -> None:
    reason, provider.forge = FORGERIES[forgery]

    async def main() -> None:
        with logging_to(tmp_path / "log") as log:
            async with visiting(Bank(provider, plain_settings, log=log)) as browser:
                await failed(browser, await browser.log_in())

    asyncio.run(main())
    assert reasons(tmp_path / "log") == [reason]


@pytest.mark.parametrize("kind", ["at+jwt", "logout+jwt", "secevent+jwt"])
def test_a_token_of_another_kind_is_no_id_token(kind: str, provider: Provider, plain_settings: Settings) -> None:
    provider.header = {"typ": kind}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await failed(browser, await browser.log_in())

    asyncio.run(main())


REPLIES: Mapping[str, tuple[str, Mapping[str, str | None]]] = {
    "no state": ("state", {"state": None}),
    "an empty state": ("state", {"state": ""}),
    "another state": ("state", {"state": "x" * 43}),
    "a state that is no state": ("state", {"state": "../../session"}),
    "another issuer": ("issuer_parameter", {"iss": "https://evil.example"}),
    "no issuer": ("issuer_parameter", {"iss": None}),
    "no code": ("request", {"code": None}),
    "a code without end": ("request", {"code": "x" * 5000}),
    "a code that was never given": ("code", {"code": "made up"}),
}


@pytest.mark.parametrize("change", REPLIES)
def test_a_reply_that_was_changed_on_its_way_logs_nobody_in(
    change: str, provider: Provider, plain_settings: Settings, tmp_path: Path
) -> None:
    reason, changes = REPLIES[change]

    async def main() -> None:
        with logging_to(tmp_path / "log") as log:
            async with visiting(Bank(provider, plain_settings, log=log)) as browser:
                address = with_parameters(await browser.visit(await browser.begin()), **changes)
                await failed(browser, await browser.bank.get(address))
                if reason in {"issuer_parameter", "request", "state"}:
                    assert not provider.exchanged, "nobody got the code"

    asyncio.run(main())
    assert reasons(tmp_path / "log") == [reason]


@pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
def test_a_parameter_that_is_there_twice_is_refused(name: str, provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            address = await browser.visit(await browser.begin())
            await failed(browser, await browser.bank.get(f"{address}&{name}=a&{name}=b"))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        ("access_denied", 403, "access_denied"),
        ("login_required", 400, "login_required"),
        ("temporarily_unavailable", 503, None),
        ("<script>alert(1)</script>", 400, "unknown"),
    ],
)
def test_an_error_of_the_issuer_is_told_in_our_own_words(
    error: str, status: int, told: str | None, provider: Provider, plain_settings: Settings
) -> None:
    provider.reply = {"error": error, "error_description": "<b>call 555-1234</b>", "error_uri": "https://evil.example"}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            reply = await browser.log_in()
            await failed(browser, reply, status)
            assert reply.json().get("error") == told
            assert "<" not in reply.text
            assert "555-1234" not in reply.text
            assert not provider.exchanged

    asyncio.run(main())


def test_an_error_that_another_issuer_sends_is_not_believed(provider: Provider, plain_settings: Settings) -> None:
    provider.reply = {"error": "access_denied", "iss": "https://evil.example"}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            reply = await browser.log_in()
            await failed(browser, reply)
            assert "error" not in reply.json()

    asyncio.run(main())


def test_a_reply_to_another_browsers_login_logs_nobody_in(provider: Provider, plain_settings: Settings) -> None:
    """Login CSRF: the attacker logs in, and sends the victim to the end of it."""

    async def main() -> None:
        bank = Bank(provider, plain_settings)
        async with visiting(bank) as attacker, visiting(bank) as victim:
            address = await attacker.visit(await attacker.begin())
            await victim.begin()
            await failed_or_same(victim, await victim.bank.get(address))
            assert not provider.exchanged

    async def failed_or_same(browser: Browser, reply: httpx.Response) -> None:
        assert reply.status_code == 400
        assert await browser.whoami() is None

    asyncio.run(main())


def test_a_stolen_code_is_worth_nothing_in_the_thiefs_own_login(provider: Provider, plain_settings: Settings) -> None:
    """Code injection (RFC 9700, section 4.5): here PKCE stops it at the issuer."""

    async def main() -> None:
        bank = Bank(provider, plain_settings)
        async with visiting(bank) as victim, visiting(bank) as thief:
            stolen = parameters(await victim.visit(await victim.begin()))["code"]
            address = with_parameters(await thief.visit(await thief.begin()), code=stolen)
            await failed(thief, await thief.bank.get(address))
            assert provider.refused == ["grant"]

    asyncio.run(main())


def test_a_stolen_code_is_worth_nothing_where_the_issuer_forgets_about_pkce(
    provider: Provider, plain_settings: Settings
) -> None:
    """The same, and the nonce stops it; the thief knows the victim's, and cannot make a cookie of it."""

    async def main() -> None:
        bank = Bank(provider, plain_settings)
        async with visiting(bank) as victim, visiting(bank) as thief:
            stolen = parameters(await victim.visit(await victim.begin()))
            own = await thief.visit(await thief.begin())
            provider.codes[stolen["code"]] |= {"code_challenge": provider.asked[-1]["code_challenge"]}
            await failed(thief, await thief.bank.get(with_parameters(own, code=stolen["code"])))
            assert provider.refused == [], "the issuer gave the victim's ID token"

    asyncio.run(main())


def test_a_login_ends_once(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            address = await browser.visit(await browser.begin())
            kept = dict(browser.bank.cookies)
            assert (await browser.bank.get(address)).status_code == 303
            assert (await browser.bank.get(address)).status_code == 400, "the browser has forgotten it"
            browser.bank.cookies.clear()
            browser.bank.cookies.update(kept)
            await failed(browser, await browser.bank.get(address))
            assert provider.refused == ["grant"], "and the issuer gives nothing for a code that was used"

    asyncio.run(main())


PARTY = Party(issuer="https://login.example.com", client_id="bank", redirect_uri=f"{URL}/login/callback")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.replace(".n.", ".f."),
        lambda value: value.rpartition(".")[0] + ".Ly9ldmls",  # //evil
        lambda value: value.rpartition(".")[0] + ".L2V2aWw",  # /evil
        lambda value: value.replace("1.", "2.", 1),
        lambda value: f"1.{NOW - 700}" + value[value.index(".", 2) :],
        lambda value: value + "A",
        lambda _: "",
    ],
    ids=["kind", "another host", "another page", "version", "time", "longer", "empty"],
)
def test_a_cookie_that_was_changed_ends_no_login(
    change: Callable[[str], str], provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            address = await browser.visit(await browser.begin())
            ((name, value),) = browser.bank.cookies.items()
            changed_value = change(value)
            assert changed_value != value
            browser.bank.cookies.clear()
            reply = await browser.bank.get(address, headers={"cookie": f"{name}={changed_value}"})
            assert reply.status_code == 400
            reply = await browser.bank.get(address, headers={"cookie": f"{name}={value}; {name}={value}"})
            assert reply.status_code == 400, "one of two must be planted"
            assert not provider.exchanged
            assert (await browser.bank.get(address, headers={"cookie": f"{name}={value}"})).status_code == 303

    asyncio.run(main())


@pytest.mark.parametrize(("age", "status"), [(0, 303), (590, 303), (610, 400), (-30, 303), (-120, 400)], ids=str)
def test_a_login_has_its_time(age: int, status: int, provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            party = Party(issuer=provider.issuer, client_id="bank", redirect_uri=PARTY.redirect_uri)
            attempt = begin(party, next_page="/", fresh=False, now=time.time() - age)
            cookie = give(attempt, plain=False, lifetime_seconds=600).decode().partition(";")[0]
            code = "code-of-this-test"
            provider.codes[code] = {
                "redirect_uri": party.redirect_uri,
                "code_challenge": attempt.challenge,
                "nonce": attempt.nonce,
            }
            address = f"/login/callback?code={code}&state={attempt.state}&iss={provider.issuer}"
            assert (await browser.bank.get(address, headers={"cookie": cookie})).status_code == status

    asyncio.run(main())


def test_a_cookie_that_somebody_made_whole_sends_nobody_elsewhere(provider: Provider, plain_settings: Settings) -> None:
    """Who can plant cookies can begin a login of their own making; it still ends on this origin."""

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            party = Party(issuer=provider.issuer, client_id="bank", redirect_uri=PARTY.redirect_uri)
            for page, status in (("/here", 503), ("//evil.example", 400), ("/\\evil.example", 400)):
                attempt = begin(party, next_page=page, fresh=False, now=time.time())
                cookie = give(attempt, plain=False, lifetime_seconds=600).decode().partition(";")[0]
                address = f"/login/callback?error=server_error&state={attempt.state}&iss={provider.issuer}"
                assert (await browser.bank.get(address, headers={"cookie": cookie})).status_code == status

    asyncio.run(main())


def test_the_oldest_logins_make_room_for_a_new_one() -> None:
    begun = [begin(PARTY, next_page="/", fresh=False, now=1_000_000 + age) for age in (3, 1, 7, 2, 6, 5, 4)]
    lines = [give(attempt, plain=False, lifetime_seconds=600).partition(b";")[0] for attempt in begun]
    spoilt = b"__Host-login-aaaaaaaaaaaaaaaa=spoilt"
    taken = crowded_out(b"; ".join([*lines, spoilt, b"__Host-session=x", b"login-short=x"]))
    names = [line.partition(b"=")[0] for line in taken]
    oldest = [line.partition(b"=")[0] for _, line in sorted(zip((3, 1, 7, 2, 6, 5, 4), lines, strict=True))[:3]]
    assert names == [*reversed(oldest), b"__Host-login-aaaaaaaaaaaaaaaa"]
    assert all(b"=; Max-Age=0; Path=/; Secure" in line for line in taken)
    assert crowded_out(None) == crowded_out(b"a=b") == []


def test_what_leaves_for_the_issuer_depends_on_all_that_the_login_is_for() -> None:
    attempt = begin(PARTY, next_page="/", fresh=False, now=1_000_000)
    others = [
        begin(PARTY, next_page="/", fresh=False, now=1_000_000),
        *[
            replace(attempt, party=replace(PARTY, **{name: "other"}))
            for name in ("issuer", "client_id", "redirect_uri")
        ],
        replace(attempt, started=1),
        replace(attempt, fresh=True),
        replace(attempt, next="/a"),
    ]
    values = [value for one in (attempt, *others) for value in (one.state, one.nonce, one.verifier)]
    assert len(set(values)) == len(values) == 3 * 8
    assert "object at" in repr(attempt), "it does not show its secret"


def test_the_digests_are_those_of_the_standards() -> None:
    """RFC 7636, appendix B; OpenID Connect Core, appendix A.3 and A.4."""
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert half_hash("RS256", "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y") == "77QmUPtjPfzWtF2AnpK9RQ"
    code = "Qcb0Orv1zh30vL1MPRsbm-diHiMwcLyZvn1arpZv-Jxf_11jnpEX3Tgfvk"
    assert half_hash("ES256", code) == "LDktKdoQak3Pk0cnXxCltA"
    assert [len(half_hash(name, "a")) for name in ("PS384", "ES512", "EdDSA", "Ed25519")] == [32, 43, 43, 43]


@pytest.mark.parametrize(
    ("options", "claims", "path"),
    [
        ({"max_age_seconds": 60}, {"auth_time": NOW - 600}, "/login"),
        ({"max_age_seconds": 60}, {"auth_time": None}, "/login"),
        ({"max_age_seconds": 60}, {"auth_time": "now"}, "/login"),
        ({"max_age_seconds": 60}, {"auth_time": True}, "/login"),
        ({"acr_values": ["gold"]}, {"acr": "silver"}, "/login"),
        ({"acr_values": ["gold"]}, {"acr": None}, "/login"),
        ({}, {"auth_time": NOW - 600}, "/login?prompt=login"),
        ({"prompt": "login"}, {"auth_time": None}, "/login"),
    ],
    ids=["old", "no time", "time as text", "time as truth", "weaker", "unknown strength", "not anew", "not told"],
)
def test_a_login_that_is_weaker_than_was_asked_for_is_none(
    options: Mapping[str, Any], claims: Mapping[str, Any], path: str, provider: Provider, plain_settings: Settings
) -> None:
    provider.claims = dict(claims)

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings, **options)) as browser:
            await failed(browser, await browser.log_in(path))

    asyncio.run(main())


def huge(tokens: dict[str, Any]) -> Response:
    return JSONResponse({**tokens, "more": "x" * 300_000})


def packed(tokens: dict[str, Any]) -> Response:
    return Response(gzip.compress(json.dumps(tokens).encode()), headers={"content-encoding": "gzip"})


TOKEN_REPLIES: Mapping[str, Callable[[dict[str, Any]], Response]] = {
    "larger than anything that is read": huge,
    "compressed unasked": packed,
    "a page": lambda _: HTMLResponse("<h1>Down for maintenance"),
    "no ID token": lambda tokens: JSONResponse({"access_token": tokens["access_token"]}),
    "an ID token that is no text": lambda _: JSONResponse({"id_token": 1}),
    "a failure": lambda _: JSONResponse({"error": "server_error"}, 500),
    "too many requests": lambda _: JSONResponse({}, 429),
    "a list": lambda _: JSONResponse([]),
}


@pytest.mark.parametrize("kind", TOKEN_REPLIES)
def test_a_token_endpoint_that_misbehaves_is_told_as_trouble_of_the_issuers(
    kind: str, provider: Provider, plain_settings: Settings
) -> None:
    provider.token_reply = TOKEN_REPLIES[kind]

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await failed(browser, await browser.log_in(), 503)

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirecting_token_endpoint_gets_nobody_the_code_and_the_secret(
    status: int, provider: Provider, plain_settings: Settings
) -> None:
    provider.token_reply = lambda _: RedirectResponse(f"{provider.issuer}/stolen", status)

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await failed(browser, await browser.log_in(), 503)
            assert provider.stolen == []

    asyncio.run(main())


def test_a_slow_token_endpoint_holds_nobody_up(provider: Provider, plain_settings: Settings) -> None:
    provider.token_seconds = 3.0

    async def main() -> None:
        slow = Bank(provider, plain_settings, issuer=Issuer(provider.issuer, timeout_seconds=0.3))
        async with visiting(slow) as browser:
            address = await browser.visit(await browser.begin())
            began = time.monotonic()
            await failed(browser, await browser.bank.get(address), 503)
            assert time.monotonic() - began < 2

    asyncio.run(main())


def test_a_wrong_secret_is_the_operators_to_mend_and_not_the_users(
    provider: Provider, plain_settings: Settings, tmp_path: Path
) -> None:
    async def main() -> None:
        with logging_to(tmp_path / "log") as log:
            async with visiting(Bank(provider, plain_settings, client_secret="wrong", log=log)) as browser:
                reply = await browser.log_in()
                await failed(browser, reply, 503)
                assert "invalid_client" not in reply.text

    asyncio.run(main())
    (line,) = [line for line in lines_of(tmp_path / "log") if line["event"] == "login.failed"]
    assert line["level"] == "error"
    assert "status 401 'invalid_client'" in line["why"]


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"issuer": "https://evil.example"}, "says that it is of 'https://evil.example'"),
        ({"code_challenge_methods_supported": ["plain"]}, "does not offer PKCE with S256, only plain"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
        ({"token_endpoint": "http://login.example.com/token"}, "must begin with https://"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"end_session_endpoint": "http://login.example.com/"}, "end_session_endpoint"),
    ],
)
def test_an_issuer_that_nobody_can_log_in_at_safely_stops_the_start(
    metadata: Mapping[str, Any], complaint: str, provider: Provider, plain_settings: Settings
) -> None:
    provider.metadata = dict(metadata)

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)):
            pass

    with pytest.raises(StartupError) as failure:
        asyncio.run(main())
    assert complaint in str(failure.value)


def test_the_metadata_of_another_issuer_are_not_taken() -> None:
    """The fetch of the keys looks at it too; here nothing else does."""
    pages = {"authorization_endpoint": "https://a.example/in", "token_endpoint": "https://a.example/token"}
    document = json.dumps({"issuer": "https://a.example", **pages}).encode()
    assert read_provider_metadata("https://a.example", document).token_endpoint == "https://a.example/token"
    for issuer in ("https://b.example", "https://a.example/", "https://A.example"):
        with pytest.raises(IssuerWrong, match=r"says that it is of 'https://a\.example'"):
            read_provider_metadata(issuer, document)
    on_this_machine = json.dumps({"issuer": "https://a.example", **pages, "token_endpoint": "http://127.0.0.1:80/"})
    with pytest.raises(IssuerWrong, match="is on this machine"):
        read_provider_metadata("https://a.example", on_this_machine.encode())
    with pytest.raises(IssuerAway):
        read_provider_metadata("https://a.example", b"<html>")


def test_while_the_issuer_is_away_nobody_logs_in_and_the_service_starts_all_the_same(plain_settings: Settings) -> None:
    with providing() as provider:
        pass  # it has gone

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            reply = await browser.bank.get("/login")
            assert reply.status_code == 503
            assert reply.json()["type"] == "urn:workhorse:problem:issuer-unavailable"
            assert (await browser.bank.post("/logout")).status_code == 303, "who leaves can leave"

    asyncio.run(main())


def test_an_issuer_that_was_away_at_the_start_is_asked_again(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        bank = Bank(provider, plain_settings)
        provider.metadata = {"issuer": None}
        assert bank.login._flow is not None
        parts = bank.login._flow._provider
        await parts.refresh()
        assert parts.wrong
        async with Browser(bank.guard).bank as client:
            provider.metadata = {}
            assert (await client.get("/login")).status_code == 503, "not before some seconds are over"
            parts._started = -math.inf
            assert (await client.get("/login")).status_code == 303
        await bank.identity.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 303),
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 400),
        ({"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 400),
        ({"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 400),
        ({}, 303),
    ],
)
def test_only_a_person_begins_a_login(
    headers: dict[str, str], status: int, provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            assert (await browser.bank.get("/login", headers=headers)).status_code == status
            assert bool(browser.bank.cookies) == (status == 303)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/login", "/login/callback"])
def test_a_look_ahead_neither_begins_nor_ends_a_login(path: str, provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            address = await browser.visit(await browser.begin())
            before = dict(browser.bank.cookies)
            assert (await browser.bank.head(f"{path}?{address.partition('?')[2]}")).status_code == 405
            assert dict(browser.bank.cookies) == before
            assert not provider.exchanged

    asyncio.run(main())


@pytest.mark.parametrize("query", ["prompt=none", "prompt=login&prompt=login", "next=/a&next=/b", "next=%ff"])
def test_a_login_that_cannot_be_is_not_begun(query: str, provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            assert (await browser.bank.get(f"/login?{query}")).status_code == 400

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"client_id": ""}, "client_id is ''"),
        ({"client_key": b"no key"}, "has a secret and a key"),
        ({"client_key": b"no key", "client_secret": ""}, "no private key"),
        ({"url": "http://bank.example"}, "must begin with https://"),
        ({"url": "https://bank.example?a"}, "it has no query"),
        ({"issuer": "http://login.example.com"}, "must begin with https://"),
        ({"after_login": "//evil.example"}, "after_login is '//evil.example'"),
        ({"after_logout": "https://evil.example"}, "after_logout is"),
        ({"attempt_seconds": 5}, "attempt_seconds is 5"),
        ({"clock_skew_seconds": 900}, "clock_skew_seconds is 900"),
        ({"prompt": "none"}, "prompt is 'none'"),
        ({"scopes": ["open id"]}, "each is one word"),
        ({"max_age_seconds": -1}, "max_age_seconds is -1"),
        ({"keep_claims": ["login"]}, "keep_claims has 'login'"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    options: Mapping[str, Any], complaint: str, plain_settings: Settings
) -> None:
    provider = Provider()
    provider.issuer = "https://login.example.com"
    with pytest.raises(SettingsError) as refused:
        Bank(provider, plain_settings, **options)
    assert complaint in str(refused.value)
    assert "no key" not in str(refused.value).replace("no private key", "")


@pytest.mark.parametrize("path", ["login", "/login/", "/{login}", "/lo gin", "//login", "/login?x"])
def test_pages_have_plain_paths(path: str) -> None:
    with pytest.raises(SettingsError, match="write a plain path"):
        LoginPaths(login=path)
    with pytest.raises(SettingsError, match="a path of its own"):
        LoginPaths(login="/logout")
