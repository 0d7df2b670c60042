"""Sessions, API keys and the login throttle in a service, which gives them their stores, counters and keys."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request

from tests.asgi_client import Seen, StartFailed, call, running
from workhorse import Policy, Service, current_request, unit
from workhorse.contracts import Query
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError
from workhorse.identity import ApiKeys, Identity, LoginThrottle, Sessions
from workhorse.identity.scheme import Surroundings
from workhorse.journal import Event
from workhorse.settings import Environment, Settings, load_settings

POLICIES = [
    Policy("POST /login", public=True),
    Policy("POST /logout"),
    Policy("POST /keys", scope="keys"),
    Policy("GET /me"),
    Policy("GET /accounts", scope="accounts:read"),
]


def a_service(settings: Settings) -> Service:
    sessions, keys, throttle = Sessions(), ApiKeys(), LoginThrottle()
    app = FastAPI(openapi_url=None)

    @app.post("/login")
    async def login(request: Request, name: str, password: str) -> None:
        work = await unit()
        attempt = await throttle.admit(name, device_cookie=request.cookies.get("__Host-device"))
        if password != "correct horse":
            await attempt.failed()
            raise HTTPException(403, "wrong name or password")
        await attempt.succeeded()
        await sessions.login(name, scopes=["accounts:read", "keys"])
        await work.execute("SELECT 1")

    @app.post("/logout")
    async def logout() -> None:
        await sessions.logout()

    @app.post("/keys")
    async def create() -> str:
        key = await keys.create(current_request().principal.subject, name="batch", scopes=["accounts:read"])
        return key.text

    @app.get("/me")
    async def me() -> str:
        return current_request().principal.id

    @app.get("/accounts")
    async def accounts() -> list[str]:
        return []

    return Service(app, identity=Identity(sessions, keys, throttle=throttle), policies=POLICIES, settings=settings)


@pytest.fixture(params=["cache", "database", "memory"])
def stored(request: pytest.FixtureRequest, settings: Settings, servers: Attachment) -> Settings:
    assert settings.database.url is not None
    more: dict[str, Any] = {"cache": {"url": servers.cache_url}} if request.param == "cache" else {}
    return load_settings(
        settings.project,
        database={"url": settings.database.url.get_secret_value()},
        identity={"session_store": request.param},
        log={"access": False},
        **more,
    )


def cookies_of(reply: Seen) -> dict[str, str]:
    values = [value.decode().partition(";")[0].partition("=") for key, value in reply.headers if key == b"set-cookie"]
    return {name: value for name, _, value in values}


def shown(cookies: dict[str, str]) -> list[tuple[str, str]]:
    return [("cookie", "; ".join(f"{name}={value}" for name, value in cookies.items() if value))]


async def log_in(service: Service, name: str, guess: str = "", jar: Any = (), **more: Any) -> Seen:
    path = f"/login?name={name}&password={guess or 'correct+horse'}"
    return await call(service, "POST", path, headers=shown(dict(jar)), **more)


def test_a_session_lasts_from_login_to_logout(stored: Settings) -> None:
    async def main() -> None:
        async with running(service := a_service(stored)):
            reply = await log_in(service, "alice")
            assert reply.status == 200
            assert reply.header("cache-control") == "no-store"
            jar = cookies_of(reply)
            assert {cookie for cookie, value in jar.items() if value} == {"session", "__Host-device"}
            assert (await call(service, "GET", "/me", headers=shown(jar))).json() == "alice"
            assert (await call(service, "GET", "/accounts", headers=shown(jar))).status == 200
            gone = await call(service, "POST", "/logout", headers=shown(jar))
            assert cookies_of(gone)["session"] == "", "the browser forgets it"
            assert (await call(service, "GET", "/me", headers=shown(jar))).status == 401

    asyncio.run(main())


def test_a_key_made_in_a_session_opens_what_it_was_made_for(stored: Settings) -> None:
    async def main() -> None:
        async with running(service := a_service(stored)):
            jar = cookies_of(await log_in(service, "alice"))
            key = (await call(service, "POST", "/keys", headers=shown(jar))).json()
            assert (await call(service, "GET", "/accounts", headers=[("x-api-key", key)])).status == 200
            assert (await call(service, "POST", "/keys", headers=[("x-api-key", key)])).status == 403
            assert (await call(service, "GET", "/me", headers=[*shown(jar), ("x-api-key", key)])).status == 401

    asyncio.run(main())


def test_guesses_are_slowed_down_and_the_known_device_is_let_in(stored: Settings) -> None:
    async def main() -> None:
        async with running(service := a_service(stored)):
            # Its own name, because the cache is shared by the tests.
            name = f"carol-{stored.identity.session_store}"
            jar = cookies_of(await log_in(service, name))
            guesses = [await log_in(service, name, "guess", client=("203.0.113.9", 1)) for _ in range(8)]
            assert [reply.status for reply in guesses].count(403) <= 5
            assert guesses[-1].status == 429
            assert int(guesses[-1].header("retry-after") or 0) > 0
            assert (await log_in(service, name, jar=jar)).status == 200

    asyncio.run(main())


def test_production_does_not_start_without_a_key_for_the_throttle(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": Environment.PRODUCTION})
    with pytest.raises(SettingsError, match="WORKHORSE_IDENTITY__LOGIN_KEYS"):
        LoginThrottle().bind(Surroundings(settings=production))


def test_a_key_that_is_too_short_stops_the_start(settings: Settings) -> None:
    assert settings.database.url is not None
    weak = load_settings(
        settings.project,
        database={"url": settings.database.url.get_secret_value()},
        identity={"login_keys": ["short"]},
    )

    async def main() -> None:
        async with running(a_service(weak)):
            pass

    with pytest.raises(StartFailed, match="key 1 of the login throttle has 5 bytes"):
        asyncio.run(main())


def test_a_service_started_again_brings_its_own_stores(stored: Settings) -> None:
    service = a_service(stored)
    name = f"dora-{stored.identity.session_store}"

    async def main() -> None:
        for _ in range(2):
            async with running(service):
                jar = cookies_of(await log_in(service, name))
                assert (await call(service, "GET", "/me", headers=shown(jar))).json() == name
                key = (await call(service, "POST", "/keys", headers=shown(jar))).json()
                assert (await call(service, "GET", "/accounts", headers=[("x-api-key", key)])).status == 200

    asyncio.run(main())


def test_logins_failed_logins_and_logouts_are_recorded(settings: Settings) -> None:
    async def main() -> list[tuple[str, str, str]]:
        service = a_service(settings)
        async with running(service):
            refused = await call(service, "POST", "/login?name=alice&password=wrong")
            assert refused.status == 403
            seen = await call(service, "POST", "/login?name=alice&password=correct%20horse")
            cookie = next(value for name, value in seen.headers if name == b"set-cookie" and b"session" in value)
            headers = [("cookie", cookie.decode().partition(";")[0]), ("sec-fetch-site", "same-origin")]
            assert (await call(service, "POST", "/logout", headers=headers)).status == 200
            await service.rooms.trail.store(Event.of("audit.test", subject="end"))
            rows = await service.rooms.database.run(
                Query("SELECT type, subject, data->>'client' FROM workhorse.events ORDER BY id")
            )
        return [(kind, subject, client) for kind, subject, client in rows]

    failed, login, logout, _ = asyncio.run(main())
    assert (failed[0], failed[2]) == ("audit.login_failed", "127.0.0.1")
    assert "alice" not in failed[1]
    assert [login, logout] == [("audit.login", "alice", "127.0.0.1"), ("audit.logout", "alice", "127.0.0.1")]


def test_nobody_logs_in_without_a_record_where_that_is_asked_for(settings: Settings) -> None:
    assert settings.database.url is not None
    changed = load_settings(
        settings.project,
        database={"url": settings.database.url.get_secret_value()},
        records={"fail_closed": True, "store_timeout_seconds": 0.2},
    )

    async def main() -> tuple[Seen, int]:
        service = a_service(changed)
        async with running(service):
            await service.rooms.database.run(Query("ALTER TABLE workhorse.events RENAME TO gone"))
            seen = await call(service, "POST", "/login?name=alice&password=correct%20horse")
            await service.rooms.database.run(Query("ALTER TABLE workhorse.gone RENAME TO events"))
        return seen, seen.count("set-cookie")

    seen, cookies = asyncio.run(main())
    assert (seen.status, cookies) == (503, 0)
