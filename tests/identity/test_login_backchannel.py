"""The issuer ends sessions by itself (OpenID Connect Back-Channel Logout 1.0)."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.identity.login_kit import Bank, Browser, Place, Provider, a_place, providing, visiting
from tests.identity.oidc_server import signing_key
from workhorse.settings import Settings, load_settings

EVENT = "http://schemas.openid.net/event/backchannel-logout"


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


async def tell(browser: Browser, token: str, **more: Any) -> httpx.Response:
    """Tell the bank as the issuer's server does: without any cookie."""
    async with Browser(browser.bank._transport.app).bank as server:  # type: ignore[attr-defined]
        return await server.post("/login/backchannel-logout", data={"logout_token": token}, **more)


def test_a_logout_token_ends_all_sessions_of_its_user_and_nobody_elses(
    provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        bank = Bank(provider, plain_settings)
        async with visiting(bank) as laptop, visiting(bank) as phone, visiting(bank) as other:
            await laptop.log_in()
            provider.sid = uuid4().hex
            await phone.log_in()
            provider.user = "bob"
            await other.log_in()
            provider.user = "alice"
            reply = await tell(laptop, provider.logout_token())
            assert (reply.status_code, reply.content, reply.headers["cache-control"]) == (200, b"", "no-store")
            assert [await one.whoami() is None for one in (laptop, phone, other)] == [True, True, False]

    asyncio.run(main())


def test_a_logout_token_that_names_one_session_of_the_issuers_ends_what_began_with_it(
    provider: Provider, plain_settings: Settings
) -> None:
    async def main() -> None:
        bank = Bank(provider, plain_settings)
        async with visiting(bank) as laptop, visiting(bank) as phone:
            await laptop.log_in()
            first, provider.sid = provider.sid, uuid4().hex
            await phone.log_in()
            assert (await tell(laptop, provider.logout_token(sid=first))).status_code == 200
            assert [await one.whoami() is None for one in (laptop, phone)] == [True, False]

    asyncio.run(main())


def test_a_session_that_forgot_how_it_began_ends_with_any_of_its_user(
    provider: Provider, plain_settings: Settings
) -> None:
    provider.claims = {"sid": None}

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            await tell(browser, provider.logout_token(sid="any"))
            assert await browser.whoami() is None

    asyncio.run(main())


LIES: Mapping[str, Mapping[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another client": {"aud": "shop"},
    "expired": {"exp": int(time.time()) - 3600},
    "no end": {"exp": None},
    "no time of issue": {"iat": None},
    "no name of its own": {"jti": None},
    "no event": {"events": None},
    "an event that is none": {"events": [EVENT]},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "a nonce, as ID tokens have": {"nonce": "x"},
    "no user": {"sub": None},
    "a session that is no text": {"sid": 1},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_logout_token_that_is_not_good_ends_nothing(lie: str, provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            reply = await tell(browser, provider.logout_token(**LIES[lie]))
            assert (reply.status_code, reply.json()["error"]) == (400, "invalid_request")
            assert await browser.whoami()

    asyncio.run(main())


def test_an_id_token_and_a_token_of_another_key_log_nobody_out(provider: Provider, plain_settings: Settings) -> None:
    id_tokens: list[str] = []

    def noted(token: str) -> str:
        id_tokens.append(token)
        return token

    provider.forge = noted

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            good, provider.key = provider.key, signing_key(kid=provider.key.kid)
            forged = provider.logout_token()
            provider.key = good
            wrong_type = provider.logout_token(header={"typ": "at+jwt"})
            for token in (*id_tokens, forged, wrong_type, "", "x.y.z"):
                assert (await tell(browser, token)).status_code == 400
            assert await browser.whoami()
            assert (await tell(browser, provider.logout_token())).status_code == 200

    asyncio.run(main())


def test_a_logout_that_is_no_form_is_refused(provider: Provider, plain_settings: Settings) -> None:
    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            await browser.log_in()
            path, token = "/login/backchannel-logout", provider.logout_token()
            json = await browser.bank.post(path, json={"logout_token": token})
            twice = await browser.bank.post(
                path,
                content=f"logout_token={token}&logout_token={token}",
                headers={"content-type": "application/x-www-form-urlencoded"},
            )
            large = await browser.bank.post(path, data={"logout_token": token, "more": "x" * 70_000})
            assert (json.status_code, twice.status_code, large.status_code) == (400, 400, 400)
            assert await browser.whoami()

    asyncio.run(main())


def test_a_logout_that_cannot_be_checked_is_to_be_sent_again(plain_settings: Settings) -> None:
    with providing() as provider:
        token = provider.logout_token()

    async def main() -> None:
        async with visiting(Bank(provider, plain_settings)) as browser:
            reply = await tell(browser, token)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")

    asyncio.run(main())
