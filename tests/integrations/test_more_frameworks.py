"""Routes of Quart, Falcon and BlackSheep for policies to cover, and paths that their routers read as others."""

import asyncio
import json
from typing import Any

import falcon.asgi
import pytest
from blacksheep import Application, Request, Response, WebSocket
from blacksheep.server.controllers import Controller
from blacksheep.server.routing import Router, RoutesRegistry
from falcon.asgi import Request as FalconRequest
from falcon.asgi import Response as FalconResponse
from quart import Quart

from tests.asgi_client import StartFailed, call, running
from tests.conformance.wire import StartFailed as WireStartFailed
from tests.conformance.wire import serving
from workhorse import Policy, Service
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.integrations import is_known, is_routed, list_routes, routed_by
from workhorse.settings import Settings


def names(app: object) -> list[str]:
    routes = list_routes(app)
    assert routes is not None
    return [f"{route.method} {route.path}" for route in routes]


def a_quart_app() -> Quart:
    app = Quart("app", static_folder=None)

    @app.route("/notes/<int:number>", methods=["GET", "PUT"])
    async def note(number: int) -> str:
        return str(number)

    @app.get("/files/<path:rest>")
    async def files(rest: str) -> str:
        return rest

    @app.get("/loose/", strict_slashes=False)
    async def loose() -> str:
        return "loose"

    @app.websocket("/talk")
    async def talk() -> None: ...

    return app


def test_routes_of_quart_with_both_spellings_of_a_rule_that_takes_both() -> None:
    app = a_quart_app()
    assert names(app) == [
        "GET /files/{rest:path}",
        "GET /loose",
        "GET /loose/",
        "GET /notes/{number}",
        "PUT /notes/{number}",
        "WEBSOCKET /talk",
    ]
    routes = list_routes(app)
    assert routes is not None
    assert routes[3].source.startswith("tests/integrations/test_more_frameworks.py:")
    assert is_routed(app, Policy("PUT /notes/{number}"))
    assert not is_routed(app, Policy("DELETE /notes/{number}"))


class Notes:
    """A resource of Falcon's."""

    async def on_get(self, request: FalconRequest, response: FalconResponse, number: int) -> None:
        response.text = str(number)

    async def on_put(self, request: FalconRequest, response: FalconResponse, number: int) -> None:
        raise falcon.HTTPConflict(description="Somebody else was first.", headers={"x-first": "somebody"})


async def sink(req: FalconRequest, resp: FalconResponse | None, **kwargs: Any) -> None:
    assert resp is not None
    resp.text = "sunk"


def a_falcon_app() -> falcon.asgi.App[Any, Any]:
    app = falcon.asgi.App()
    app.add_route("/notes/{number:int}", Notes())
    app.add_route("/files/{rest:path}", Notes())
    app.add_sink(sink, prefix="/old/v1")
    return app


def test_routes_of_falcon_with_its_sinks() -> None:
    app = a_falcon_app()
    assert names(app) == [
        "GET /files/{rest:path}",
        "PUT /files/{rest:path}",
        "GET /notes/{number}",
        "PUT /notes/{number}",
        "* /old/{rest:path}",
    ]
    assert not is_routed(app, Policy("POST /notes/{number}"))


def a_blacksheep_app() -> Application:
    app = Application(router=Router())

    @app.router.get("/Notes/{int:number}")
    async def note(number: int) -> str:
        return str(number)

    @app.router.post("/files/*")
    async def files() -> str:
        return "files"

    @app.router.ws("/talk")
    async def talk(socket: WebSocket) -> None: ...

    return app


def test_routes_of_blacksheep_are_known_before_its_start() -> None:
    app = a_blacksheep_app()
    assert names(app) == ["GET /Notes/{number}", "POST /files/{rest:path}", "WEBSOCKET /talk"]
    untyped: Any = app
    asyncio.run(untyped.start())
    assert names(app) == ["GET /Notes/{number}", "POST /files/{rest:path}", "WEBSOCKET /talk"]
    asyncio.run(untyped.stop())


def test_the_routes_of_blacksheeps_controllers_are_held_against_the_policies_at_the_start(settings: Settings) -> None:
    async def refused(path: str) -> str:
        app = Application(router=Router())
        app.controllers_router = RoutesRegistry()

        class Notes(Controller):
            @classmethod
            def route(cls) -> str:
                return "notes"

            @app.controllers_router.get("/{number}")
            async def note(self, number: int) -> str:
                return str(number)

        assert list_routes(app) is None
        untyped: Any = app
        try:
            async with serving(Service(untyped, policies=[Policy(f"GET {path}")], settings=settings)):
                return ""
        except WireStartFailed as error:
            return str(error)

    assert asyncio.run(refused("/notes/{number}")) == ""
    assert "no route for the policies 'GET /note/{number}'" in asyncio.run(refused("/note/{number}"))


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/Notes/7", "/Notes/7"),
        ("/notes/7/", "/Notes/7"),
        ("/NOTES/7", "/Notes/7"),
        ("/FILES/A/B", "/files/A/B"),
        ("/Elsewhere", "/Elsewhere"),
    ],
)
def test_blacksheep_reads_either_case_and_a_policy_is_found_for_both(path: str, routed: str) -> None:
    app = a_blacksheep_app()
    read = routed_by(app)
    assert read is not None
    scope: Scope = {"path": path, "raw_path": path.encode(), "root_path": ""}
    assert read(scope)["path"] == routed
    assert read({**scope, "path": "/in" + path, "root_path": "/in"})["path"] == "/in" + routed


def test_falcon_reads_a_slash_at_the_end_as_none_only_where_it_is_told_to() -> None:
    app = a_falcon_app()
    assert routed_by(app) is None
    app.req_options.strip_url_path_trailing_slash = True
    read = routed_by(app)
    assert read is not None
    assert read({"path": "/notes/1/", "raw_path": b"/notes/1/"})["path"] == "/notes/1"
    assert read({"path": "/", "raw_path": b"/"})["path"] == "/"


APPS = {"quart": a_quart_app, "falcon": a_falcon_app, "blacksheep": a_blacksheep_app}


@pytest.mark.parametrize("framework", APPS)
def test_a_misspelt_policy_stops_the_start(framework: str, settings: Settings) -> None:
    service = Service(served(framework), policies=[Policy("GET /nots/{number}")], settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match=r"no route for the policies 'GET /nots/\{number\}'"):
        asyncio.run(main())


@pytest.mark.parametrize("framework", APPS)
def test_errors_of_the_framework_are_problems(framework: str, settings: Settings) -> None:
    service = Service(served(framework), settings=settings)

    async def main() -> tuple[int, bytes | None, Any]:
        async with serving(service) as server:
            seen = await server.request("GET", "/nowhere")
        return seen.status, seen.header(b"content-type"), json.loads(seen.body)["title"]

    assert asyncio.run(main()) == (404, b"application/problem+json", "Not Found")


def test_what_falcon_says_of_an_error_is_in_the_problem(settings: Settings) -> None:
    service = Service(served("falcon"), settings=settings)

    async def main() -> tuple[int, str | None, Any]:
        async with running(service):
            seen = await call(service, "PUT", "/notes/1")
        return seen.status, seen.header("x-first"), seen.json()["detail"]

    assert asyncio.run(main()) == (409, "somebody", "Somebody else was first.")


def test_handlers_of_the_apps_own_are_left_alone() -> None:
    app = a_blacksheep_app()

    async def theirs(app: Application, request: Request, error: Exception) -> Response:
        return Response(404)

    app.exceptions_handlers[404] = theirs
    Service(app)
    assert app.exceptions_handlers[404] is theirs
    quart = a_quart_app()
    quart.config["PROPAGATE_EXCEPTIONS"] = False
    Service(quart)  # type: ignore[arg-type]  # the same
    assert quart.config["PROPAGATE_EXCEPTIONS"] is False


def test_an_app_of_an_unknown_kind_is_served_and_its_policies_are_believed(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert not is_known(app)
    service = Service(app, policies=[Policy("GET /anything", rate="1/hour")], settings=settings)

    async def main() -> list[int]:
        async with running(service):
            return [(await call(service, "GET", path)).status for path in ("/anything", "/anything", "/other")]

    assert asyncio.run(main()) == [204, 429, 204]
    assert "unknown_framework" in capfd.readouterr().out


def served(framework: str) -> ASGIApp:
    untyped: Any = APPS[framework]()
    app: ASGIApp = untyped  # the frameworks type the words of ASGI in ways of their own
    return app
