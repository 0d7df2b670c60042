"""The routes of real apps of each framework, and the policies that cover them."""

from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import include, path, re_path
from django.views import View
from fastapi import APIRouter, FastAPI, WebSocket
from litestar import Litestar, Router, asgi, get, post, websocket
from litestar import WebSocket as LitestarSocket
from litestar.params import FromPath
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route
from starlette.staticfiles import StaticFiles

from workhorse.integrations import is_routed, list_routes
from workhorse.integrations.routes import AppRoute, fits, policies_of, sample_of, uncovered
from workhorse.policy import Policy, PolicyTable


def names(app: object) -> list[str]:
    routes = list_routes(app)
    assert routes is not None
    return [f"{route.method} {route.path}" for route in routes]


def test_routes_of_fastapi_with_routers_in_routers_sockets_and_mounts(tmp_path: Path) -> None:
    inner = APIRouter(prefix="/deep")

    @inner.post("/y")
    async def y() -> None: ...

    @inner.websocket("/w")
    async def w(socket: WebSocket) -> None: ...

    outer = APIRouter(prefix="/sub")

    @outer.get("/x/{i:int}")
    async def x(i: int) -> None: ...

    outer.include_router(inner)
    mounted = FastAPI(openapi_url=None)

    @mounted.api_route("/z/{rest:path}", methods=["PUT", "DELETE"])
    async def z(rest: str) -> None: ...

    app = FastAPI(openapi_url=None)
    app.include_router(outer, prefix="/p")
    app.mount("/m", mounted)
    app.mount("/static", StaticFiles(directory=tmp_path))
    assert names(app) == [
        "DELETE /m/z/{rest:path}",
        "PUT /m/z/{rest:path}",
        "WEBSOCKET /p/sub/deep/w",
        "POST /p/sub/deep/y",
        "GET /p/sub/x/{i:int}",
        "* /static/{rest:path}",
    ]
    listed = list_routes(app)
    assert listed is not None
    assert listed[4].source.startswith("tests/integrations/test_routes.py:")
    assert listed[4].handler == "x"


def test_the_documents_of_fastapi_are_routes_too() -> None:
    assert "GET /docs" in names(FastAPI())
    assert "GET /openapi.json" in names(FastAPI())


def test_routes_of_starlette() -> None:
    def endpoint(request: Request) -> Response:
        return Response()

    async def anything(scope: Any, receive: Any, send: Any) -> None: ...

    app = Starlette(
        routes=[
            Mount("/a", routes=[Route("/b", endpoint, methods=["GET", "POST"])]),
            Mount("/c", app=anything),
            Host("api.example.com", app=Starlette(routes=[Route("/h", endpoint)])),
        ]
    )
    assert names(app) == ["GET /a/b", "POST /a/b", "* /c/{rest:path}", "GET /h"]


def test_routes_of_litestar() -> None:
    @get("/a/{x:int}", sync_to_thread=False)
    def a(x: FromPath[int]) -> str:
        return ""

    @post(["/b", "/c/{p:path}"], sync_to_thread=False)
    def b() -> str:
        return ""

    @websocket("/ws")
    async def ws(socket: LitestarSocket[Any, Any, Any]) -> None: ...

    @asgi("/raw", is_mount=True, copy_scope=True)
    async def raw(scope: Scope, receive: Receive, send: Send) -> None: ...

    app = Litestar([Router("/v1", route_handlers=[a, b]), ws, raw], openapi_config=None)
    assert names(app) == [
        "* /raw/{rest:path}",
        "GET /v1/a/{x:int}",
        "POST /v1/b",
        "POST /v1/c/{p:path}",
        "WEBSOCKET /ws",
    ]
    assert is_routed(app, Policy("GET /v1/a/{number}"))
    assert not is_routed(app, Policy("POST /v1/a/{number}"))


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Account(View):  # type: ignore[misc]  # Django has no types
    def get(self, request: HttpRequest) -> HttpResponse:
        return view(request)

    def put(self, request: HttpRequest) -> HttpResponse:
        return view(request)


class Urls:
    """A Django project's URLs."""

    urlpatterns = (
        path("accounts/<int:pk>/", Account.as_view()),
        path(
            "sub/",
            include([path("f/<path:rest>", view, name="f"), re_path(r"^x/(?P<a>\\d+)$", view)]),
        ),
    )


def test_routes_of_django() -> None:
    if not django_settings.configured:
        django_settings.configure(ROOT_URLCONF="", SECRET_KEY="only in this test", ALLOWED_HOSTS=["*"])
        django.setup()
    with override_settings(ROOT_URLCONF=Urls):  # other tests of this process have URLs of their own
        app = get_asgi_application()
        assert names(app) == [
            "GET /accounts/{pk}/",
            "PUT /accounts/{pk}/",
            "* /sub/f/{rest:path}",
            "* /sub/{rest:path}",
        ]
        assert is_routed(app, Policy("PUT /accounts/{pk}/"))
        assert not is_routed(app, Policy("PUT /accounts/{pk}"))


@pytest.mark.parametrize(
    ("policy", "route", "expected"),
    [
        ("GET /a/{x}", AppRoute("/a/{y:int}", "GET"), True),
        ("GET /a/1", AppRoute("/a/{y:int}", "GET"), True),
        ("HEAD /a", AppRoute("/a", "GET"), False),
        ("GET /a", AppRoute("/a", "HEAD"), True),
        ("* /a", AppRoute("/a", "DELETE"), True),
        ("PUT /f/x/y", AppRoute("/f/{rest:path}", "*"), True),
        ("GET /f/{rest:path}", AppRoute("/f/{a}/{b}", "GET"), True),
        ("GET /g/{x}", AppRoute("/a/{x}", "GET"), False),
        ("GET /ws", AppRoute("/ws", "WEBSOCKET"), True),
    ],
)
def test_a_policy_is_for_the_routes_whose_requests_it_may_match(policy: str, route: AppRoute, expected: bool) -> None:  # noqa: FBT001
    assert fits(Policy(policy), route) is expected


def test_a_route_without_a_policy_is_found() -> None:
    table = PolicyTable([Policy("GET /a/{x}"), Policy("GET /files/{rest:path}", public=True), Policy("GET /b/latest")])
    routes = [
        AppRoute("/a/{x}", "GET"),
        AppRoute("/a/{x}", "PUT"),
        AppRoute("/files/{r:path}", "*"),
        AppRoute("/b/{x}", "GET"),
    ]
    assert [f"{route.method} {route.path}" for route in uncovered(routes, table)] == ["PUT /a/{x}", "GET /b/{x}"]
    assert [method for method, _ in policies_of(routes[2], table)] == ["GET"]
    assert sample_of("/a/{x:int}/{rest:path}") == "/a/~/~/~"
