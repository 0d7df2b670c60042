"""A service with an identity: tokens of the development issuer, scopes, and every route covered by a policy."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request

from tests.asgi_client import Seen, StartFailed, call, running
from workhorse import Policy, Service, current_request, unit
from workhorse.identity import Bearer, DevelopmentIssuer
from workhorse.migrations import Migrations
from workhorse.settings import Settings, load_settings

NOTES = Migrations.inline("notes", "CREATE TABLE notes (text text NOT NULL)")
POLICIES = [
    Policy("POST /notes", scope="notes:write", idempotent=True),
    Policy("GET /me"),
    Policy("GET /hello", public=True),
]


def an_app() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/notes")
    async def write(text: str) -> int:
        work = await unit()
        await work.execute("INSERT INTO notes VALUES (%s)", (text,))
        row = await (await work.execute("SELECT count(*) FROM notes")).fetchone()
        return int(row[0])

    @app.get("/me")
    async def me(request: Request) -> dict[str, str]:
        assert request.user is current_request().principal
        return {"subject": request.user.subject, "issuer": request.user.issuer}

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    return app


def test_the_identity_opens_with_the_service_and_reads_its_settings(settings: Settings) -> None:
    issuer = DevelopmentIssuer(settings)

    async def main() -> list[Seen]:
        service = Service(an_app(), identity=Bearer(), policies=POLICIES, migrations=[NOTES], settings=settings)
        async with running(service):
            replies: list[Seen] = []
            for token in (issuer.mint("alice", scopes=["notes:write"]), issuer.mint("bob"), "forged"):
                headers = [("authorization", f"Bearer {token}")]
                replies += [
                    await call(service, "POST", "/notes?text=x", headers=headers),
                    await call(service, "GET", "/me", headers=headers),
                ]
            return [*replies, await call(service, "GET", "/hello"), await call(service, "GET", "/me")]

    replies = asyncio.run(main())
    assert [seen.status for seen in replies] == [200, 200, 403, 200, 401, 401, 200, 401]
    assert replies[1].json() == {"subject": "alice", "issuer": "urn:workhorse:development"}


def test_a_key_belongs_to_the_principal_and_not_to_one_token(settings: Settings) -> None:
    issuer = DevelopmentIssuer(settings)

    async def main() -> list[tuple[int, bytes, str | None]]:
        service = Service(an_app(), identity=Bearer(), policies=POLICIES, migrations=[NOTES], settings=settings)
        async with running(service):
            seen: list[Seen] = []
            for who in ("alice", "alice", "bob"):
                token = issuer.mint(who, scopes=["notes:write"])
                headers = [("authorization", f"Bearer {token}"), ("idempotency-key", '"same"')]
                seen.append(await call(service, "POST", "/notes?text=x", headers=headers))
            return [(one.status, one.body, one.header("idempotent-replayed")) for one in seen]

    assert asyncio.run(main()) == [(200, b"1", None), (200, b"1", "true"), (200, b"2", None)]


def test_a_route_without_a_policy_stops_the_start_and_is_listed(settings: Settings) -> None:
    async def main() -> None:
        async with running(Service(an_app(), identity=Bearer(), policies=POLICIES[:1], settings=settings)):
            pass

    with pytest.raises(StartFailed) as failed:
        asyncio.run(main())
    message = str(failed.value)
    assert "every route needs a policy" in message
    assert "  GET /hello  tests/service/test_identity.py:" in message
    assert "GET /me" in message
    assert "POST /notes" not in message


def test_a_scope_without_an_identity_stops_the_start(settings: Settings) -> None:
    async def main() -> None:
        async with running(Service(an_app(), policies=POLICIES, settings=settings)):
            pass

    with pytest.raises(StartFailed, match=r"'POST /notes' ask for a scope, but nobody says who calls"):
        asyncio.run(main())


def in_production(settings: Settings, **identity: Any) -> Settings:
    assert settings.database.url is not None
    return load_settings(
        settings.project,
        environment="production",
        database={"url": settings.database.url.get_secret_value()},
        guard={"allowed_hosts": ["localhost"]},
        identity=identity,
    )


@pytest.mark.parametrize(
    ("identity", "complaint"),
    [
        ({}, "the development issuer is not for production"),
        ({"issuers": ["https://login.example.com"]}, "no audience is named"),
        ({"issuers": ["urn:workhorse:development"], "audience": ["a"]}, "cannot be named as an issuer"),
    ],
)
def test_production_wants_a_real_issuer_and_an_audience(
    identity: dict[str, Any], complaint: str, settings: Settings
) -> None:
    async def main() -> None:
        # Migrates, which production leaves to the operator.
        async with running(Service(an_app(), identity=Bearer(), policies=POLICIES, settings=settings)):
            pass
        production = in_production(settings, **identity)
        async with running(Service(an_app(), identity=Bearer(), policies=POLICIES, settings=production)):
            pass

    with pytest.raises(StartFailed, match=complaint):
        asyncio.run(main())
