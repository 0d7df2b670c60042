"""The login page for development: the whole way offline, on this machine only, and never in production."""

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.asgi_client import StartFailed, call, running
from tests.identity.login_kit import URL, parameters, with_parameters
from workhorse import Policy, Service, current_request
from workhorse.asgi import ASGIApp
from workhorse.guard import Guard, compile_plan
from workhorse.identity import Bearer, Credentials, DevelopmentIssuer, Identity, NotAuthenticated, Sessions
from workhorse.identity.login import OidcLogin
from workhorse.identity.scheme import Surroundings
from workhorse.settings import GuardSettings, Settings, load_settings
from workhorse.state.memory.sessions import MemorySessions

ORIGIN = "http://localhost:8000"


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    (tmp_path / "pyproject.toml").touch()
    return load_settings(tmp_path)


def an_app(settings: Settings, **options: Any) -> ASGIApp:
    api = FastAPI(openapi_url=None)
    sessions = Sessions(MemorySessions())
    login = OidcLogin(sessions=sessions, scopes=["books:read"], **options)
    login.add_to(api)

    @api.get("/books")
    async def books() -> list[str]:
        principal = current_request().principal
        return [principal.id, principal.tenant, *sorted(principal.scopes), *sorted(principal.roles)]

    policies = [Policy("GET /books", scope="books:read"), *login.policies()]
    identity = Identity(sessions, login)
    identity.bind(Surroundings(settings=settings))
    return Guard(api, compile_plan(GuardSettings(), policies), identity=identity)


def a_browser(app: ASGIApp, client: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app, client=(client, 40_000)), base_url=ORIGIN)


async def to_the_page(browser: httpx.AsyncClient) -> str:
    reply = await browser.get("/login?next=/books")
    assert reply.status_code == 303, reply.text
    address: str = reply.headers["location"]
    assert address.partition("?")[0] == f"{ORIGIN}/login/development"
    return address


def test_a_login_in_development_needs_nobody_else(plain_settings: Settings) -> None:
    async def main() -> None:
        async with a_browser(an_app(plain_settings)) as browser:
            address = await to_the_page(browser)
            page = await browser.get(address)
            assert page.status_code == 200
            names = set(re.findall(r'name="(\w+)"', page.text))
            assert 'value="books:read"' in page.text
            form = {"name": "alice", "scopes": "books:read a", "roles": "clerk", "tenant": "north"}
            assert names == set(form)
            sent = await browser.post(address, data=form, headers={"sec-fetch-site": "same-origin"})
            assert sent.headers["location"].startswith("/login/callback?code=")
            ended = await browser.get(sent.headers["location"])
            assert (ended.status_code, ended.headers["location"]) == (303, "/books")
            who = (await browser.get("/books")).json()
            assert who == ["urn:workhorse:development|alice", "north", "a", "books:read", "clerk"]
            assert (await browser.post("/logout")).headers["location"] == "/"
            assert (await browser.get("/books")).status_code == 401

    asyncio.run(main())


def test_what_the_page_gives_is_for_one_login_and_opens_nothing_else(plain_settings: Settings) -> None:
    async def main() -> None:
        app = an_app(plain_settings)
        async with a_browser(app) as browser, a_browser(app) as thief:
            address, own = await to_the_page(browser), await to_the_page(thief)
            sent = (await browser.post(address, data={"name": "alice"})).headers["location"]
            code = parameters(sent)["code"]
            theirs = (await thief.post(own, data={"name": "mallory"})).headers["location"]
            assert (await thief.get(with_parameters(theirs, code=code))).status_code == 400
            assert (await browser.get(with_parameters(sent, iss="https://evil.example"))).status_code == 400
            credentials = Credentials(authorization=b"Bearer " + code.encode())
            with pytest.raises(NotAuthenticated) as refused:
                await Bearer(settings=plain_settings).verify(credentials, time.time())
            assert refused.value.reason == "audience"

    asyncio.run(main())


def test_another_token_of_the_development_issuer_ends_no_login(plain_settings: Settings) -> None:
    async def main() -> None:
        async with a_browser(an_app(plain_settings)) as browser:
            for code in (DevelopmentIssuer(plain_settings).mint("alice"), "x.y.z", "ümlaut", ""):
                address = await to_the_page(browser)
                sent = (await browser.post(address, data={"name": "alice"})).headers["location"]
                assert (await browser.get(with_parameters(sent, code=code))).status_code == 400

    asyncio.run(main())


def test_the_page_is_for_this_machine_only_and_for_a_login_only(plain_settings: Settings) -> None:
    async def main() -> None:
        app = an_app(plain_settings, url=ORIGIN)
        async with a_browser(app, client="192.0.2.7") as neighbour, a_browser(app) as browser:
            address = await to_the_page(neighbour)
            assert (await neighbour.get(address)).status_code == 400
            assert (await neighbour.post(address, data={"name": "alice"})).status_code == 400
            assert (await browser.get("/login/development")).status_code == 400
            assert (await browser.get(with_parameters(address, nonce="<script>"))).status_code == 400
            assert (await browser.post(address, data={"name": " "})).status_code == 400
            for name in ("x-forwarded-for", "forwarded", "via"):
                assert (await browser.get(address, headers={name: "for=192.0.2.7"})).status_code == 400
            evil = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
            assert (await browser.post(address, data={"name": "alice"}, headers=evil)).status_code == 403

    asyncio.run(main())


def test_the_page_is_not_for_other_names_than_this_machines_own(plain_settings: Settings) -> None:
    """As a tunnel to this machine is asked by one."""

    async def main() -> None:
        sessions = Sessions(MemorySessions())
        login = OidcLogin(sessions=sessions)
        identity = Identity(sessions, login)
        identity.bind(Surroundings(settings=plain_settings))
        plan = compile_plan(GuardSettings(allowed_hosts=("tunnel.example", "localhost")), login.policies())
        app = Guard(login.app, plan, identity=identity)
        values = "&".join(f"{name}={'x' * 43}" for name in ("state", "nonce", "challenge"))
        for host, status in (("tunnel.example", 400), ("localhost", 200)):
            seen = await call(app, "GET", f"/login/development?{values}", headers=[("host", host)])
            assert seen.status == status

    asyncio.run(main())


def test_production_refuses_a_login_without_an_issuer(settings: Settings) -> None:
    assert settings.database.url is not None
    production = load_settings(
        settings.project,
        environment="production",
        database={"url": settings.database.url.get_secret_value()},
        guard={"allowed_hosts": ["bank.example"]},
    )
    sessions = Sessions(MemorySessions())
    login = OidcLogin(sessions=sessions, url=URL)
    service = Service(
        login.app, identity=Identity(sessions, login), policies=list(login.policies()), settings=production
    )

    async def main() -> None:
        async with running(Service(login.app, settings=settings)):
            pass  # migrates, which production leaves to the operator
        async with running(service):
            pass

    with pytest.raises(StartFailed, match="OidcLogin names no issuer"):
        asyncio.run(main())


def test_a_login_that_does_not_know_that_this_is_development_offers_no_page() -> None:
    sessions = Sessions(MemorySessions())
    login = OidcLogin(sessions=sessions, url=URL)
    app = Guard(login.app, compile_plan(GuardSettings(), login.policies()), identity=Identity(sessions))

    async def main() -> None:
        for path in ("/login", "/login/development"):
            assert (await call(app, "GET", path)).status == 500

    asyncio.run(main())


def test_with_an_issuer_there_is_no_page_for_development_and_nothing_of_it_is_loaded() -> None:
    program = """
import sys
from workhorse.identity import Sessions
from workhorse.identity.login import OidcLogin
login = OidcLogin("https://login.example.com", client_id="bank", sessions=Sessions(), url="https://bank.example")
assert not [policy for policy in login.policies() if "development" in policy.pattern]
print(sorted(name for name in sys.modules if "embedded" in name or "development" in name or "starlette" in name))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
