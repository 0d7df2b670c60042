"""A policy that guards nothing stops the start."""

import asyncio

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.asgi_client import StartFailed, running
from workhorse import Policy, Service
from workhorse.integrations import is_routed
from workhorse.settings import Settings


def endpoint(request: Request) -> Response:
    return Response()


def an_app() -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/accounts")

    @router.post("/{account:int}/close")
    async def close(account: int) -> None: ...

    @router.get("/{key:uuid}/{part}")
    async def part(key: str, part: str) -> None: ...

    @app.post("/transfers")
    async def transfer() -> None: ...

    app.include_router(router, prefix="/v1")
    app.mount("/old", Starlette(routes=[Route("/x", endpoint)]))
    return app


@pytest.mark.parametrize(
    ("method", "path", "routed"),
    [
        ("POST", "/transfers", True),
        ("*", "/transfers", True),
        ("POST", "/v1/accounts/{id}/close", True),
        ("GET", "/v1/accounts/{key}/{part}", True),
        ("POST", "/old/anything", True),
        ("POST", "/transfer", False),
        ("PUT", "/transfers", False),
        ("POST", "/accounts/{id}/close", False),
        ("POST", "/v1/accounts/close", False),
    ],
)
def test_routes_are_asked_themselves(method: str, path: str, routed: bool) -> None:  # noqa: FBT001
    assert is_routed(an_app(), Policy(f"{method} {path}")) is routed


def test_routes_of_starlette_and_of_what_is_mounted() -> None:
    app = Starlette(routes=[Mount("/a", routes=[Route("/b", endpoint, methods=["GET"])])])
    assert is_routed(app, Policy("GET /a/b"))
    assert not is_routed(app, Policy("GET /b"))


def test_an_app_that_cannot_be_asked_is_believed() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    assert is_routed(app, Policy("GET /anything"))


def test_a_misspelt_policy_stops_the_start_by_its_name(settings: Settings) -> None:
    service = Service(an_app(), policies=[Policy("POST /transfer", idempotent="required")], settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match=r"no route for the policies 'POST /transfer'"):
        asyncio.run(main())
