"""The policy of a request is that of the route which serves it, whatever the router does with the path."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from litestar import Litestar, get, post
from litestar.params import PathParameter
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES, Convertor
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from tests.asgi_client import StartFailed, call, running
from workhorse import Guard, Policy, Rate, Service
from workhorse.errors import SettingsError
from workhorse.identity import ApiKeys
from workhorse.integrations import AppRoute, routed_by
from workhorse.integrations.agreement import disagreements
from workhorse.policy import PolicyTable
from workhorse.principal import Kind, Principal
from workhorse.settings import GuardSettings, Settings, load_settings


def plain(settings: Settings) -> Settings:
    assert settings.database.url is not None
    return load_settings(
        settings.project, database={"url": settings.database.url.get_secret_value()}, log={"access": False}
    )


def statuses(app: Any, settings: Settings, policies: list[Policy], *paths: str, identity: bool = True) -> list[int]:
    async def main() -> list[int]:
        service = Service(app, policies=policies, identity=ApiKeys() if identity else None, settings=plain(settings))
        async with running(service):
            return [(await call(service, *path.split(" "))).status for path in paths]

    return asyncio.run(main())


async def say(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.path)


def starlette(*paths: str) -> Starlette:
    return Starlette(routes=[Route(path, say) for path in paths])


def test_a_slash_at_the_end_is_no_way_around_a_policy_of_litestar(settings: Settings) -> None:
    @get("/accounts")
    async def accounts() -> str:
        return "all"

    @get("/accounts/{account:str}")
    async def account(account: Annotated[str, PathParameter()]) -> str:
        return account

    policies = [Policy("GET /accounts", scope="all"), Policy("GET /accounts/{account}", public=True)]
    asked = ["GET /accounts", "GET /accounts/", "GET /accounts//", "GET /accounts/1"]
    first, *around, public = statuses(Litestar([accounts, account], openapi_config=None), settings, policies, *asked)
    assert first == 401
    assert 200 not in around
    assert public == 200


def test_a_slash_at_the_end_is_no_way_around_a_limit_of_litestar(settings: Settings) -> None:
    @post("/pay")
    async def pay() -> str:
        return "paid"

    policies = [Policy("POST /pay", rate=Rate("2/hour", per="route"))]
    app = Litestar([pay], openapi_config=None)
    got = statuses(app, settings, policies, "POST /pay", "POST /pay/", "POST /pay/", identity=False)
    assert got == [201, 201, 429]


def test_a_prefix_that_the_app_takes_off_is_no_way_around_a_policy(settings: Settings) -> None:
    app = FastAPI(openapi_url=None)
    app.root_path = "/api"  # as by the argument of this name, which is deprecated
    app.get("/admin")(lambda: "secret")
    app.get("/{tenant}/{page}")(lambda: "page")
    policies = [Policy("GET /admin", scope="admin"), Policy("GET /{tenant}/{page}", public=True)]
    assert statuses(app, settings, policies, "GET /admin", "GET /api/admin", "GET /api/x/y") == [401, 401, 200]


@pytest.mark.parametrize(
    ("routes", "policies", "complaint"),
    [
        (
            ["/users/export", "/users/{name}"],
            [Policy("GET /users/{name}", public=True)],
            "GET /users/export has no policy of its own",
        ),
        (
            ["/{tenant}/public", "/admin/{page}"],
            [Policy("GET /{tenant}/public", public=True), Policy("GET /admin/{page}", scope="admin")],
            "GET /admin/public is served by /{tenant}/public",
        ),
        (
            ["/files/{path:path}/acl", "/files/{folder}/{name}"],
            [Policy("GET /files/{rest:path}", scope="acl"), Policy("GET /files/{folder}/{name}", public=True)],
            "is served by /files/{path:path}/acl",
        ),
        (
            ["/files/{path:path}/acl", "/files/{a}/{b}/{c}/{d}/{e}"],
            [Policy("GET /files/{rest:path}", scope="acl"), Policy("GET /files/{a}/{b}/{c}/{d}/{e}", public=True)],
            "is served by /files/{path:path}/acl",
        ),
        (
            ["/reports/{id}.pdf", "/reports/{name}"],
            [Policy("GET /reports/{name}", public=True)],
            "a policy cannot speak of a part of a segment",
        ),
    ],
)
def test_what_the_table_and_the_router_would_see_differently_stops_the_start(
    routes: list[str], policies: list[Policy], complaint: str, settings: Settings
) -> None:
    with pytest.raises(StartFailed) as caught:
        statuses(starlette(*routes), settings, policies)
    assert complaint in str(caught.value)


def test_overlapping_routes_in_an_order_that_both_share_are_let_pass(settings: Settings) -> None:
    app = starlette("/users/export", "/users/{name}", "/{any:path}")
    policies = [
        Policy("GET /users/{name}", public=True),
        Policy("GET /users/export", scope="export"),
        Policy("GET /{any:path}", scope="any"),
    ]
    assert statuses(app, settings, policies, "GET /users/export", "GET /users/ada", "GET /x/y") == [401, 200, 401]


def test_an_app_with_a_websocket_and_an_identity_starts(settings: Settings) -> None:
    app = FastAPI(openapi_url=None)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()

    app.get("/hello")(lambda: "hello")
    policies = [Policy("GET /ws", scope="ws"), Policy("GET /hello", public=True)]
    assert statuses(app, settings, policies, "GET /hello") == [200]


def test_two_tenants_with_a_subject_of_one_name_are_two_callers() -> None:
    one = Principal(subject="payroll", tenant="acme", kind=Kind.KEY)
    other = Principal(subject="payroll", tenant="bravo", kind=Kind.KEY)
    written = Principal(subject="https://one|alice", kind=Kind.SESSION)
    theirs = Principal(subject="alice", issuer="https://one", kind=Kind.TOKEN)
    assert len({caller.key for caller in (one, other, written, theirs)}) == 4


def test_a_prefix_in_the_middle_of_a_path_is_no_way_around_a_policy_of_litestar(settings: Settings) -> None:
    @get("/admin")
    async def admin() -> str:
        return "the admin's"

    @get("/{tenant:str}/{page:str}/{name:str}")
    async def page(
        tenant: Annotated[str, PathParameter()],
        page: Annotated[str, PathParameter()],
        name: Annotated[str, PathParameter()],
    ) -> str:
        return tenant + page + name

    policies = [Policy("GET /admin", scope="admin"), Policy("GET /{tenant}/{page}/{name}", public=True)]
    app: Any = Litestar([admin, page], openapi_config=None)
    service = Service(app, policies=policies, identity=ApiKeys(), settings=plain(settings))

    async def main() -> list[int]:
        async with running(service):
            paths = ("/api/admin", "/x/api/admin", "/api/x/api/admin", "/apiadmin", "/api/a/b/c")
            return [(await call(service, "GET", path, root_path="/api")).status for path in paths]

    first, *around, public = asyncio.run(main())
    assert first == 401
    assert 200 not in around[:1] + around[2:]
    assert public == 200


def test_one_path_on_two_hosts_cannot_have_two_policies_and_so_is_refused(settings: Settings) -> None:
    app = Starlette(
        routes=[Host("admin.localhost", Router([Route("/users", say)]), name="admin"), Route("/users", say)],
    )
    with pytest.raises(StartFailed, match=r"GET /users is there for admin.localhost and for all hosts"):
        statuses(app, settings, [Policy("GET /users", public=True)])


def test_a_prefix_with_a_slash_at_its_end_is_refused() -> None:
    app = FastAPI(openapi_url=None)
    app.root_path = "/api/"
    with pytest.raises(SettingsError, match="with a slash in front and none at the end"):
        Service(app)


def test_a_mounted_app_with_a_prefix_of_its_own_is_refused() -> None:
    app, inner = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    inner.root_path = "/sub/v1"
    app.mount("/sub", inner)
    with pytest.raises(SettingsError, match="mounted at '/sub' has a root_path of its own"):
        Service(app)


def test_the_app_within_middleware_is_looked_at_as_well(settings: Settings) -> None:
    app = starlette("/users/export", "/users/{name}")
    with pytest.raises(StartFailed, match="GET /users/export has no policy of its own"):
        statuses(CORSMiddleware(app), settings, [Policy("GET /users/{name}", public=True)])


def test_routes_that_an_app_adds_at_its_start_are_looked_at_as_well(settings: Settings) -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.router.routes.insert(0, Route("/users/export", say))
        yield

    app = Starlette(routes=[Route("/users/{name}", say)], lifespan=lifespan)
    with pytest.raises(StartFailed, match="GET /users/export has no policy of its own"):
        statuses(app, settings, [Policy("GET /users/{name}", public=True)])


def test_slashes_within_a_path_are_no_way_around_a_policy_of_litestar(settings: Settings) -> None:
    @get("/accounts/secret")
    async def secret() -> str:
        return "secret"

    @get("/accounts/{rest:path}")
    async def rest(rest: Annotated[str, PathParameter()]) -> str:
        return str(rest)

    policies = [Policy("GET /accounts/secret", scope="all"), Policy("GET /accounts/{rest:path}", public=True)]
    asked = ["GET /accounts/secret", "GET /accounts//secret", "GET /accounts///secret/", "GET /accounts/1"]
    assert statuses(Litestar([secret, rest], openapi_config=None), settings, policies, *asked) == [401, 401, 401, 200]


def test_the_table_prefers_what_a_trie_prefers(settings: Settings) -> None:
    @get("/admin/{page:str}")
    async def admin(page: Annotated[str, PathParameter()]) -> str:
        return f"admin's {page}"

    @get("/{tenant:str}/public")
    async def public(tenant: Annotated[str, PathParameter()]) -> str:
        return tenant

    policies = [Policy("GET /{tenant}/public", public=True), Policy("GET /admin/{page}", scope="admin")]
    asked = ["GET /admin/public", "GET /acme/public"]
    assert statuses(Litestar([admin, public], openapi_config=None), settings, policies, *asked) == [401, 200]


class Everything(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("everything")


@pytest.mark.parametrize(
    "first",
    [
        Mount("/{tenant}/public", PlainTextResponse("an app that takes all below")),
        Route("/{tenant}/public", Everything),
        WebSocketRoute("/{tenant}/public", say),
    ],
    ids=["a mount", "a class", "a socket"],
)
def test_routes_of_all_methods_are_held_against_those_of_one(first: Any, settings: Settings) -> None:
    app = Starlette(routes=[first, Route("/admin/{page}", say)])
    path = "/{tenant}/public/{rest:path}" if isinstance(first, Mount) else "/{tenant}/public"
    page = "/admin/{a}/{b}" if isinstance(first, Mount) else "/admin/{page}"
    if isinstance(first, Mount):
        app.router.routes[1] = Route(page, say)
    policies = [Policy(f"* {path}", scope="tenant"), Policy(f"GET {page}", public=True)]
    with pytest.raises(StartFailed, match=r"is served by /\{tenant\}/public"):
        statuses(app, settings, policies)


def test_a_guard_alone_is_told_how_the_router_reads_a_path() -> None:
    @post("/pay")
    async def pay() -> str:
        return "paid"

    app: Any = Litestar([pay], openapi_config=None)
    guard = Guard(app, settings=GuardSettings(), policies=[Policy("POST /pay", rate="1/hour")], routed=routed_by(app))

    async def main() -> list[int]:
        return [(await call(guard, "POST", path)).status for path in ("/pay", "/pay/", "//pay", "/pay//")]

    assert asyncio.run(main()) == [201, 429, 429, 429]


def test_litestar_takes_all_the_rest_before_any_segment(settings: Settings) -> None:
    @get("/a/{x:str}/b")
    async def one(x: Annotated[str, PathParameter()]) -> str:
        return x

    @get("/a/{p:path}")
    async def rest(p: Annotated[str, PathParameter()]) -> str:
        return str(p)

    policies = [Policy("GET /a/{x}/b", public=True), Policy("GET /a/{p:path}", scope="all")]
    with pytest.raises(StartFailed, match=r"GET /a/x/b is served by /a/\{p:path\}"):
        statuses(Litestar([one, rest], openapi_config=None), settings, policies)


def test_a_policy_may_speak_of_one_value_of_a_routes_parameter(settings: Settings) -> None:
    policies = [Policy("GET /accounts/demo", public=True), Policy("GET /accounts/{id}", scope="accounts")]
    got = statuses(starlette("/accounts/{id}"), settings, policies, "GET /accounts/demo", "GET /accounts/1")
    assert got == [200, 401]


class Everywhere(Convertor[str]):
    regex = ".+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def test_a_convertor_that_takes_slashes_is_known_for_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTOR_TYPES, "everywhere", Everywhere())
    policies = [Policy("GET /files/{p}", scope="files"), Policy("GET /{x}/{y}/{z}", public=True)]
    with pytest.raises(StartFailed, match=r"/files/\{p:path\} has no policy of its own"):
        statuses(starlette("/files/{p:everywhere}", "/{x}/{y}/{z}"), settings, policies)


def test_a_plain_route_of_an_included_router_has_its_path(settings: Settings) -> None:
    router = APIRouter()
    router.add_route("/plain", say)
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/v1")
    assert statuses(app, settings, [Policy("GET /v1/plain", public=True)], "GET /v1/plain") == [200]


def test_many_routes_are_compared_in_no_time(settings: Settings) -> None:
    paths = [f"/part{number}/{{id}}" for number in range(400)]
    table = PolicyTable([Policy(f"GET {path}", scope="x") for path in paths])
    routes = [AppRoute(path, "GET") for path in paths]
    began = time.process_time()
    assert not list(disagreements(routes, table, first_wins=True))
    assert time.process_time() - began < 1
