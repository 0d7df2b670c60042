"""The pages of the login in apps of several kinds: as routes, mounted, and as the only app there is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from tests.asgi_client import call
from tests.identity.login_kit import Place, Provider, a_place, logging_to, parameters
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.guard import Guard, compile_plan
from workhorse.identity import Credentials, Identity, NotAuthenticated, Sessions
from workhorse.identity.login import LoginPaths, OidcLogin
from workhorse.identity.scheme import Surroundings
from workhorse.integrations import list_routes
from workhorse.integrations.routes import uncovered
from workhorse.policy import PolicyTable
from workhorse.settings import GuardSettings, load_settings
from workhorse.state.memory.sessions import MemorySessions

MOUNTED = LoginPaths(
    login="/auth/login", callback="/auth/back", logout="/auth/logout", backchannel="/auth/backchannel-logout"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place() as served:
        yield served


@pytest.fixture
def provider(place: Place) -> Provider:
    return place.provider()


def a_login(provider: Provider, **options: Any) -> OidcLogin:
    return OidcLogin(provider.issuer, client_id="bank", sessions=Sessions(MemorySessions()), **options)


def starlette(login: OidcLogin) -> ASGIApp:
    return Starlette(routes=[Route(page.path, page, methods=[page.method]) for page in login.routes()])


def fastapi(login: OidcLogin) -> ASGIApp:
    app = FastAPI()
    login.add_to(app)
    assert "/login" not in app.openapi()["paths"], "pages for people are no part of the API"
    return app


def mounted(login: OidcLogin) -> ASGIApp:
    app = Starlette()
    app.mount("/auth", login.app)
    return app


def alone(login: OidcLogin) -> ASGIApp:
    return login.app


def guarded(app: ASGIApp, login: OidcLogin, tmp_path: Path) -> ASGIApp:
    identity = Identity(login._sessions, login)
    identity.bind(Surroundings(settings=load_settings(tmp_path)))
    return Guard(app, compile_plan(GuardSettings(), login.policies()), identity=identity)


@pytest.mark.parametrize(
    ("kind", "paths", "root", "callback"),
    [
        (starlette, LoginPaths(), "", "http://localhost/login/callback"),
        (fastapi, LoginPaths(), "", "http://localhost/login/callback"),
        (alone, LoginPaths(), "", "http://localhost/login/callback"),
        (mounted, MOUNTED, "", "http://localhost/auth/back"),
        (alone, LoginPaths(), "/bank", "http://localhost/bank/login/callback"),
        (mounted, MOUNTED, "/bank", "http://localhost/bank/auth/back"),
    ],
    ids=["Starlette", "FastAPI", "alone", "mounted", "behind a prefix", "mounted behind a prefix"],
)
def test_the_pages_are_found_and_know_their_own_address(
    kind: Any, paths: LoginPaths, root: str, callback: str, provider: Provider, tmp_path: Path
) -> None:
    async def main() -> None:
        login = a_login(provider, paths=paths)
        app = guarded(kind(login), login, tmp_path)
        seen = await call(app, "GET", f"{root}{paths.login}", root_path=root)
        assert seen.status == 303
        assert parameters(seen.header("location") or "")["redirect_uri"] == callback
        seen = await call(app, "GET", f"{root}{paths.callback}", root_path=root)
        assert seen.json()["type"] == "urn:workhorse:problem:login-failed"
        seen = await call(app, "POST", f"{root}{paths.logout}", root_path=root)
        assert "client_id=bank" in (seen.header("refresh") or "")
        assert (await call(app, "POST", f"{root}{paths.backchannel}", root_path=root)).status == 400
        await login.close()

    asyncio.run(main())


def test_every_page_has_its_policy(provider: Provider) -> None:
    login = a_login(provider)
    assert uncovered(list_routes(starlette(login)) or (), PolicyTable(login.policies())) == []
    assert len(list_routes(starlette(login)) or ()) == len(login.policies()) == 4


def test_what_is_no_page_of_the_login_is_not_found(provider: Provider) -> None:
    async def main() -> None:
        app = a_login(provider).app
        assert (await call(app, "GET", "/evil/login")).status == 404
        assert (await call(app, "GET", "/login/")).status == 404
        seen = await call(app, "POST", "/login")
        assert (seen.status, seen.header("allow")) == (405, "GET")

    asyncio.run(main())


def test_a_host_that_cannot_stand_in_an_address_begins_no_login(provider: Provider, tmp_path: Path) -> None:
    async def main() -> None:
        login = a_login(provider)

        async def without_host(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"host", b"localhost/evil?x") if name == b"host" else (name, v) for name, v in scope["headers"]]
            await login.app({**scope, "headers": headers}, receive, send)

        assert (await call(guarded(without_host, login, tmp_path), "GET", "/login")).status == 400
        await login.close()

    asyncio.run(main())


def test_a_login_that_is_not_among_the_schemes_wants_an_address(provider: Provider, tmp_path: Path) -> None:
    async def main() -> None:
        login = a_login(provider)
        plan, sessions = compile_plan(GuardSettings(), login.policies()), Identity(login._sessions)
        with logging_to(tmp_path / "log") as log:
            assert (await call(Guard(login.app, plan, identity=sessions, log=log), "GET", "/login")).status == 500
        assert "list it in the service's identity, as in Identity(sessions, login)" in (tmp_path / "log").read_text()
        login = a_login(provider, url="https://bank.example")
        app = Guard(login.app, compile_plan(GuardSettings(), login.policies()), identity=Identity(login._sessions))
        seen = await call(app, "GET", "/login")
        assert parameters(seen.header("location") or "")["redirect_uri"] == "https://bank.example/login/callback"
        await login.close()

    asyncio.run(main())


def test_a_login_proves_nobody_by_itself(provider: Provider) -> None:
    login = a_login(provider, client_secret="not to be shown")
    credentials = Credentials(cookie=b"__Host-session=x", authorization=b"Bearer x")
    assert not login.presents(credentials)
    assert login.recall(credentials, 0.0) is None
    with pytest.raises(NotAuthenticated):
        asyncio.run(login.verify(credentials, 0.0))
    assert "not to be shown" not in f"{login!r} {vars(login)!r}"
