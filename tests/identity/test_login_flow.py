"""A login from the first page to the last, at a provider that keeps strictly to the standards."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI

from tests.asgi_client import StartFailed, running
from tests.identity.login_kit import (
    BASIC,
    CALLBACK,
    KEY,
    NONE,
    POST,
    SECRET,
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
)
from tests.identity.oidc_server import signing_key
from workhorse import Policy, Service, current_request
from workhorse.identity import ClaimNames, Identity, Issuer, Sessions
from workhorse.identity.login import OidcLogin
from workhorse.principal import Principal
from workhorse.settings import Settings, load_settings


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place() as served:
        yield served


@pytest.fixture
def provider(place: Place) -> Provider:
    return place.provider()


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    """Of development, with no database."""
    return load_settings(tmp_path)


def test_a_login_ends_at_the_page_that_was_asked_for(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            assert await browser.whoami() is None
            reply = await browser.log_in("/login?next=%2Faccounts%3Fyear%3D2026")
            assert (reply.status_code, reply.headers["location"]) == (303, "/accounts?year=2026")
            assert reply.headers["cache-control"] == "no-store"
            who = await browser.whoami()
            assert who["id"] == f"{provider.issuer}|alice"
            assert who["claims"]["login"]["sid"] == provider.sid
            assert provider.refused == []

    asyncio.run(main())


def test_the_issuer_is_asked_as_the_standards_want_it(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        bank = Bank(provider, plain_settings, scopes=["openid", "profile"], acr_values=["silver"], max_age_seconds=900)
        async with visiting(bank) as browser:
            asked = parameters(await browser.begin())
            assert asked.pop("state") != asked.pop("nonce")
            assert len(asked.pop("code_challenge")) == 43
            assert asked == {
                "response_type": "code",
                "client_id": "bank",
                "redirect_uri": CALLBACK,
                "scope": "openid profile",
                "code_challenge_method": "S256",
                "acr_values": "silver",
                "max_age": "900",
            }

    asyncio.run(main())


@pytest.mark.parametrize("algorithm", ["RS256", "ES384", "EdDSA"])
def test_id_tokens_may_be_signed_as_bearer_tokens_may(algorithm: str, plain_settings: Settings) -> None:
    with providing(algorithm=algorithm) as provider:
        provider.claims = {"aud": ["bank"], "azp": "bank", "typ": "ID"}
        provider.header = {"typ": None}

        async def main() -> None:
            async with visiting(Bank(provider, plain_settings)) as browser:
                assert (await browser.log_in()).status_code == 303
                assert await browser.whoami()

        asyncio.run(main())


def test_an_issuer_that_never_says_who_replies_need_not_and_is_held_to_what_it_says(
    provider: Provider, plain_settings: Settings
) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": None}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            provider.reply = {"iss": None}
            assert (await browser.log_in()).status_code == 303
            provider.reply = {"iss": "https://evil.example"}
            assert (await browser.log_in()).status_code == 400

    asyncio.run(main())


def test_the_cookie_of_a_login_is_bound_to_this_host_and_short_lived(
    provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            line = (await browser.bank.get("/login")).headers["set-cookie"]
            name, _, rest = line.partition("=")
            assert name.startswith("__Host-login-")
            assert rest.partition("; ")[2] == "Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Lax"
            reply = await browser.log_in()
            taken = [value for value in reply.headers.get_list("set-cookie") if value.startswith("__Host-login-")]
            assert [value.partition("; ")[2] for value in taken] == [
                "Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
            ]

    asyncio.run(main())


@pytest.mark.parametrize("method", [BASIC, POST, NONE])
def test_the_client_proves_itself_as_the_issuer_offers(
    method: str, provider: Provider, plain_settings: Settings
) -> None:
    provider.methods = [method]

    async def main() -> None:
        secret = "" if method == NONE else SECRET
        async with visiting(Bank(provider, plain_settings, client_secret=secret)) as browser:
            assert (await browser.log_in()).status_code == 303
            assert await browser.whoami()
            (form,) = provider.exchanged
            assert set(form) - {"client_id"} == {"grant_type", "code", "redirect_uri", "code_verifier"}

    asyncio.run(main())


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_the_client_proves_itself_with_a_key_of_its_own(
    algorithm: str, provider: Provider, plain_settings: Settings
) -> None:
    private = signing_key(algorithm).private
    provider.methods, provider.client_key = [KEY], private.public_key()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings, client_secret="", client_key=pem)) as browser:
            assert (await browser.log_in()).status_code == 303
            assert provider.refused == []

    asyncio.run(main())


def test_roles_tenant_and_scopes_come_from_the_claims_that_the_issuer_has(
    provider: Provider, plain_settings: Settings
) -> None:
    provider.claims = {"realm": {"roles": ["teller"]}, "org": "north", "may": "a b", "email": "a@bank.example"}

    async def main() -> None:
        names = ClaimNames(roles="realm.roles", tenant="org", scopes=("may",))
        bank = Bank(provider, plain_settings, issuer=Issuer(provider.issuer, claims=names), keep_claims=["email"])
        async with visiting(bank) as browser:
            await browser.log_in()
            who = await browser.whoami()
            assert (who["roles"], who["tenant"], who["scopes"]) == (["teller"], "north", ["a", "b"])
            assert who["claims"]["email"] == "a@bank.example"
            assert set(who["claims"]) == {"email", "login"}, "no more is kept than was named"

    asyncio.run(main())


def test_the_app_says_what_a_user_may_and_who_is_not_let_in(provider: Provider, plain_settings: Settings) -> None:
    async def admit(principal: Principal) -> Principal | None:
        if principal.subject == "mallory":
            return None
        return replace(principal, subject="nobody else", scopes=frozenset({"accounts:read"}))

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings, admit=admit)) as browser:
            await browser.log_in()
            who = await browser.whoami()
            assert (who["id"], who["scopes"]) == (f"{provider.issuer}|alice", ["accounts:read"])
        provider.user = "mallory"
        async with visiting(Bank(provider, plain_settings, admit=admit)) as browser:
            reply = await browser.log_in()
            assert reply.status_code == 403
            assert reply.json()["type"] == "urn:workhorse:problem:login-not-allowed"
            assert await browser.whoami() is None

    asyncio.run(main())


def test_the_session_that_the_browser_came_with_is_worth_nothing_after_a_login(
    provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            planted = dict(browser.bank.cookies)
            provider.user = "bob"
            await browser.log_in()
            assert (await browser.whoami())["id"].endswith("|bob")
            browser.bank.cookies.clear()
            browser.bank.cookies.update(planted)
            assert await browser.whoami() is None

    asyncio.run(main())


def test_logins_in_several_tabs_do_not_get_into_each_others_way(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            first, second = await browser.begin("/login?next=/one"), await browser.begin("/login?next=/two")
            assert (await browser.bank.get(await browser.visit(first))).headers["location"] == "/one"
            assert (await browser.bank.get(await browser.visit(second))).headers["location"] == "/two"

    asyncio.run(main())


def test_a_browser_keeps_five_logins_and_the_oldest_goes_first(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            begun = [await browser.begin() for _ in range(8)]
            assert sum("login-" in name for name in browser.bank.cookies) == 5
            assert (await browser.bank.get(await browser.visit(begun[-1]))).status_code == 303

    asyncio.run(main())


def test_logins_to_long_addresses_leave_room_in_the_header(provider: Provider, plain_settings: Settings) -> None:
    """Another site's page can begin logins, and must not fill the cookies until every request is refused."""

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            page = "/" + "a" * 511
            for _ in range(7):
                await browser.begin(f"/login?next={page}")
            assert len("; ".join(f"{name}={value}" for name, value in browser.bank.cookies.items())) < 4096 + 512
            assert (await browser.log_in(f"/login?next={page}")).headers["location"] == page
            assert (await browser.bank.get(f"/login?next={page}a")).status_code == 400

    asyncio.run(main())


def test_asking_anew_makes_the_issuer_ask_the_user_and_is_checked(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in("/login?prompt=login")
            assert (provider.asked[-1]["prompt"], provider.asked[-1]["max_age"]) == ("login", "0")
            assert await browser.whoami()

    asyncio.run(main())


def test_a_logout_ends_the_session_here_and_leads_to_the_issuers(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings, after_logout="/bye")) as browser:
            await browser.log_in()
            stolen = dict(browser.bank.cookies)
            reply = await browser.bank.post("/logout", headers={"sec-fetch-site": "same-origin"})
            assert reply.status_code == 200
            delay, _, address = reply.headers["refresh"].partition("; url=")
            assert (delay, address.partition("?")[0]) == ("0", f"{provider.issuer}/goodbye")
            assert parameters(address) == {"client_id": "bank", "post_logout_redirect_uri": f"{URL}/bye"}
            browser.bank.cookies.update(stolen)
            assert await browser.whoami() is None

    asyncio.run(main())


def test_a_logout_is_done_where_the_issuer_has_no_page_for_it_and_where_it_is_away(
    provider: Provider, plain_settings: Settings
) -> None:
    provider.metadata = {"end_session_endpoint": None}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            reply = await browser.bank.post("/logout")
            assert (reply.status_code, reply.headers["location"]) == (303, "/")
            assert await browser.whoami() is None

    asyncio.run(main())


def test_another_sites_page_logs_nobody_out(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            headers = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
            assert (await browser.bank.post("/logout", headers=headers)).status_code == 403
            assert (await browser.bank.get("/logout")).status_code in {404, 405}
            assert await browser.whoami()

    asyncio.run(main())


def test_the_log_tells_of_logins_and_holds_nothing_secret(
    provider: Provider, plain_settings: Settings, tmp_path: Path
) -> None:
    async def main() -> None:
        with logging_to(tmp_path / "log") as log:
            async with visiting(Bank(provider, plain_settings, log=log)) as browser:
                reply = await browser.log_in()
                secrets = [*browser.bank.cookies.values(), provider.access_token, SECRET, "alice"]
                secrets += [value for form in provider.exchanged for value in (form["code"], form["code_verifier"])]
                provider.reply = {"error": "access_denied", "error_description": "the user said no"}
                reply = await browser.log_in()
                assert (reply.status_code, reply.json()["error"]) == (403, "access_denied")
                assert "said no" not in reply.text
        text = (tmp_path / "log").read_text()
        assert not [secret for secret in secrets if secret in text]

    asyncio.run(main())
    told = [line for line in lines_of(tmp_path / "log") if line.get("event", "").startswith("login.")]
    assert [line["path"] for line in lines_of(tmp_path / "log") if line.get("path")] == [
        "/login",
        "/login/callback",
    ] * 2
    assert [(line["event"], line.get("why")) for line in told] == [
        ("login.succeeded", None),
        ("login.failed", "issuer_error"),
    ]
    assert told[1]["described"] == "the user said no"


def a_service(provider: Provider, settings: Settings, **options: Any) -> Service:
    api = FastAPI(openapi_url=None)
    sessions = Sessions()
    login = OidcLogin(provider.issuer, client_id="bank", client_secret=SECRET, sessions=sessions, **options)
    login.add_to(api)

    @api.get("/accounts")
    async def accounts() -> str:
        return current_request().principal.id

    policies = [Policy("GET /accounts"), *login.policies(rate="100/minute")]
    return Service(api, identity=Identity(sessions, login), policies=policies, settings=settings)


def test_a_service_in_development_needs_no_address_and_no_tls(provider: Provider, settings: Settings) -> None:
    provider.redirect_uris = {"http://localhost:8000/login/callback"}

    async def main() -> None:
        async with running(service := a_service(provider, settings)):
            browser = Browser(service, "http://localhost:8000", client="127.0.0.1")
            async with browser.bank, browser.web:
                assert (await browser.log_in("/login?next=/accounts")).headers["location"] == "/accounts"
                assert await browser.whoami() == f"{provider.issuer}|alice"
                assert {name.partition("-")[0] for name in browser.bank.cookies} == {"session"}

    asyncio.run(main())


def test_a_service_in_production_wants_to_know_its_own_address(provider: Provider, settings: Settings) -> None:
    assert settings.database.url is not None
    production = load_settings(
        settings.project,
        environment="production",
        database={"url": settings.database.url.get_secret_value()},
        guard={"allowed_hosts": ["bank.example"]},
    )

    async def main() -> None:
        async with running(a_service(provider, settings)):
            pass  # migrates, which production leaves to the operator
        async with running(a_service(provider, production, url=URL)):
            pass
        async with running(a_service(provider, production)):
            pass

    with pytest.raises(StartFailed, match="OidcLogin has no url"):
        asyncio.run(main())
