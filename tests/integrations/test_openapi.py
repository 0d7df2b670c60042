"""The OpenAPI document of an app inside of a service says what the service does, and leaves what the app says."""

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.models import OpenAPI
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount

from tests.asgi_client import Seen, call, running
from workhorse import Policy, Rate, Service, unit
from workhorse.errors import Problem
from workhorse.guard import Guard
from workhorse.identity import ApiKeys, Bearer, DevelopmentIssuer, Identity, MutualTls, Sessions
from workhorse.identity.scheme import Credentials, Surroundings
from workhorse.integrations import adopt, describe
from workhorse.integrations.openapi import Facts, complete, problem_replies
from workhorse.policy import PolicyTable
from workhorse.principal import ANONYMOUS, Principal
from workhorse.settings import GuardSettings, IdentitySettings, Settings, load_settings
from workhorse.state.memory.api_keys import MemoryApiKeys

PROBLEM = "application/problem+json"
POLICIES = (
    Policy("POST /orders", scope=["orders:write", "orders:all"], rate="60/minute", idempotent="required"),
    Policy("PUT /orders/{number}", idempotent=True, deadline=5, max_body_bytes=10),
    Policy("GET /orders/{number}", scope="orders:read", rate=[Rate("10/second", burst=20, per="address"), "1000/day"]),
    Policy("POST /files", content_types=["text/xml"], insecure_cross_site=True),
    Policy("* /open/{rest:path}", public=True),
)


def an_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.post("/orders", status_code=201)
    async def order(lines: list[int]) -> int:
        return len(lines)

    @app.put("/orders/{number}")
    async def change(number: int) -> int:
        return number

    @app.get("/orders/{number}")
    async def read(number: int) -> int:
        return number

    @app.post("/files")
    async def take(request: Request) -> int:
        return len(await request.body())

    @app.get("/open/{name}")
    async def look(name: str) -> str:
        return name

    return app


def facts(*schemes: Any, policies: tuple[Policy, ...] = POLICIES, **settings: Any) -> Facts:
    made = Settings(**settings)
    return Facts(
        policies=PolicyTable(policies), identity=Identity(*schemes) if schemes else None, settings=lambda: made
    )


def document(app: FastAPI, known: Facts | None = None) -> dict[str, Any]:
    adopt(app)
    assert describe(app, known if known is not None else facts(Bearer("https://issuer.example", audience="bank")))
    return app.openapi()


def resolve(made: dict[str, Any], value: Any) -> Any:
    """Follow a reference within the document."""
    while "$ref" in value:
        place: Any = made
        for part in value["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        value = place
    return value


def problems(made: dict[str, Any], path: str, method: str, status: int) -> set[str]:
    """The types of the problems of one status."""
    reply = resolve(made, made["paths"][path][method]["responses"][str(status)])
    return {one["value"]["type"].rpartition(":")[2] for one in reply["content"][PROBLEM]["examples"].values()}


def test_who_may_call_is_told_with_the_scopes() -> None:
    paths = document(an_app())["paths"]
    assert paths["/orders"]["post"]["security"] == [{"bearer": ["orders:all", "orders:write"]}]
    assert paths["/orders/{number}"]["put"]["security"] == [{"bearer": []}]
    assert paths["/open/{name}"]["get"]["security"] == []


def test_without_an_identity_nothing_is_said_of_callers() -> None:
    made = document(an_app(), facts(policies=(Policy("POST /orders", idempotent=True),)))
    assert "securitySchemes" not in made["components"]
    assert not any("security" in operation for item in made["paths"].values() for operation in item.values())
    assert not {"401", "403"} & made["paths"]["/orders/{number}"]["get"]["responses"].keys()


def test_every_way_to_prove_who_calls_is_described() -> None:
    known = facts(ApiKeys(MemoryApiKeys()), Sessions(cookie="bank"), Bearer(), MutualTls("xfcc"))
    schemes = document(an_app(), known)["components"]["securitySchemes"]
    told = {
        name: {key: scheme.get(key) for key in ("type", "in", "name", "scheme")} for name, scheme in schemes.items()
    }
    assert told == {
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "scheme": None},
        "session": {"type": "apiKey", "in": "cookie", "name": "__Host-bank", "scheme": None},
        "bearer": {"type": "http", "in": None, "name": None, "scheme": "bearer"},
        "mutualTLS": {"type": "mutualTLS", "in": None, "name": None, "scheme": None},
    }
    assert schemes["bearer"]["bearerFormat"] == "JWT"


def test_any_one_of_several_ways_is_enough() -> None:
    made = document(an_app(), facts(ApiKeys(MemoryApiKeys()), Bearer()))
    assert made["paths"]["/orders/{number}"]["get"]["security"] == [
        {"apiKey": ["orders:read"]},
        {"bearer": ["orders:read"]},
    ]


def test_the_cookie_of_a_browser_without_tls_is_named_as_it_is(settings: Settings) -> None:
    sessions = Sessions()
    sessions.bind(Surroundings(settings=settings))
    scheme = document(an_app(), facts(sessions))["components"]["securitySchemes"]["session"]
    assert scheme["name"] == "session"
    assert "__Host-session" in scheme["description"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, True),
        ({"identity": IdentitySettings(issuers=("https://issuer.example",), audience=("bank",))}, False),
        ({"environment": "production"}, False),
    ],
    ids=["development", "an issuer is named", "production"],
)
def test_the_command_that_makes_tokens_is_told_where_they_are_taken(settings: dict[str, Any], *, told: bool) -> None:
    made = document(an_app(), facts(Bearer("https://issuer.example", audience="bank"), **settings))
    assert ("workhorse token" in made["components"]["securitySchemes"]["bearer"]["description"]) is told


class Own:
    """A scheme of the app's own."""

    def __init__(self, challenge: bytes) -> None:
        self.challenge = challenge

    def presents(self, credentials: Credentials) -> bool:
        return False

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        return ANONYMOUS

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        return ANONYMOUS

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def test_an_unknown_way_is_described_by_its_challenge() -> None:
    made = document(an_app(), facts(Own(b'Digest realm="bank"')))
    assert made["components"]["securitySchemes"] == {"digest": {"type": "http", "scheme": "digest"}}


def test_a_way_that_cannot_be_described_does_not_make_a_route_public() -> None:
    paths = document(an_app(), facts(Own(b"")))["paths"]
    assert "security" not in paths["/orders"]["post"]
    assert "401" in paths["/orders"]["post"]["responses"]
    assert paths["/open/{name}"]["get"]["security"] == []


def test_an_old_document_gets_what_it_has_words_for() -> None:
    app = an_app()
    app.openapi_version = "3.0.3"
    made = document(app, facts(Bearer("https://issuer.example", audience="bank"), MutualTls("xfcc")))
    assert made["components"]["securitySchemes"].keys() == {"bearer"}
    assert made["paths"]["/orders"]["post"]["security"] == [{"bearer": []}]
    assert made["paths"]["/orders"]["post"]["x-required-scopes"] == ["orders:all", "orders:write"]


@pytest.mark.parametrize(
    ("path", "method", "required"), [("/orders", "post", True), ("/orders/{number}", "put", False)]
)
def test_the_key_of_a_retry_is_a_header_of_the_operation(path: str, method: str, *, required: bool) -> None:
    made = document(an_app())
    found = [resolve(made, one) for one in made["paths"][path][method]["parameters"]]
    (key,) = [one for one in found if one["in"] == "header"]
    assert (key["name"], key["required"]) == ("Idempotency-Key", required)
    assert ("idempotency-key-missing" in problems(made, path, method, 400)) is required
    (success,) = [code for code in made["paths"][path][method]["responses"] if code < "300"]
    assert "Idempotent-Replayed" in made["paths"][path][method]["responses"][success]["headers"]


def test_operations_without_a_key_have_no_word_of_it() -> None:
    made = document(an_app())
    assert "Idempotency" not in json.dumps(made["paths"]["/orders/{number}"]["get"])
    assert problems(made, "/orders/{number}", "get", 400) == {"malformed-request"}


def test_every_refusal_is_described_for_the_routes_that_can_have_it() -> None:
    paths = document(an_app())["paths"]
    told = {
        f"{method} {path}": sorted(code for code in operation["responses"] if code >= "400")
        for path, item in paths.items()
        for method, operation in item.items()
    }
    every = ["400", "500", "503", "504"]
    body = ["408", "413", "415"]
    assert told == {
        "post /orders": sorted([*every, *body, "401", "403", "409", "422", "429"]),
        "put /orders/{number}": sorted([*every, *body, "401", "403", "409", "422"]),
        "get /orders/{number}": sorted([*every, "401", "403", "422", "429"]),
        "post /files": sorted([*every, *body, "401"]),
        "get /open/{name}": sorted([*every, "422"]),
    }


def test_what_a_status_means_differs_by_route() -> None:
    made = document(an_app())
    assert problems(made, "/orders", "post", 403) == {"not-allowed", "cross-origin"}
    assert problems(made, "/orders/{number}", "put", 403) == {"cross-origin"}
    assert problems(made, "/orders/{number}", "get", 403) == {"not-allowed"}
    assert problems(made, "/orders", "post", 422) == {"invalid-request", "idempotency-key-reused"}
    assert problems(made, "/open/{name}", "get", 422) == {"invalid-request"}


def test_a_rate_is_told_with_the_headers_that_tell_what_is_left_of_it() -> None:
    made = document(an_app())
    read = made["paths"]["/orders/{number}"]["get"]
    assert read["x-rate-limits"] == [
        {"requests": 10, "seconds": 1, "burst": 20, "per": "address"},
        {"requests": 1000, "seconds": 86_400, "burst": 1000, "per": "caller"},
    ]
    assert {"RateLimit", "RateLimit-Policy"} <= read["responses"]["200"]["headers"].keys()
    assert resolve(made, read["responses"]["429"])["headers"].keys() == {"Retry-After", "RateLimit-Policy", "RateLimit"}
    assert "x-rate-limits" not in made["paths"]["/orders/{number}"]["put"]


def test_the_bounds_are_told() -> None:
    made = document(an_app(), facts(Bearer(), guard=GuardSettings(deadline_seconds=7, max_body_bytes=99)))
    paths = made["paths"]
    assert (
        paths["/orders/{number}"]["put"]["x-deadline-seconds"],
        paths["/orders/{number}"]["put"]["x-max-body-bytes"],
    ) == (
        5,
        10,
    )
    assert (paths["/orders"]["post"]["x-deadline-seconds"], paths["/orders"]["post"]["x-max-body-bytes"]) == (7, 99)
    assert "x-max-body-bytes" not in paths["/orders/{number}"]["get"]


def test_a_body_that_only_the_policy_knows_of_is_told() -> None:
    body = document(an_app())["paths"]["/files"]["post"]["requestBody"]
    assert body == {"content": {"text/xml": {"schema": {"type": "string"}}}}


def test_validation_is_told_in_our_words_and_fastapis_schemas_are_gone() -> None:
    made = document(an_app())
    reply = made["paths"]["/orders/{number}"]["get"]["responses"]["422"]
    assert reply["content"].keys() == {PROBLEM}
    assert resolve(made, reply["content"][PROBLEM]["schema"])["title"] == "Problem"
    assert made["components"]["schemas"].keys() == {"Problem"}


def test_an_app_that_answers_validation_itself_keeps_its_words() -> None:
    app = an_app()

    @app.exception_handler(RequestValidationError)
    async def own(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"detail": []}, 422)

    made = document(app)
    assert "application/json" in made["paths"]["/orders/{number}"]["get"]["responses"]["422"]["content"]
    assert "HTTPValidationError" in made["components"]["schemas"]


def test_the_documents_are_openapi() -> None:
    for known in (facts(), facts(Bearer(), ApiKeys(MemoryApiKeys()), Sessions())):
        OpenAPI.model_validate(document(an_app(), known))


# What the app says stays.


def test_nothing_that_the_app_declares_is_overwritten() -> None:
    app = FastAPI()
    signed = HTTPBasic()
    declared: dict[int | str, dict[str, Any]] = {
        401: {"description": "ours", "content": {"text/plain": {}}},
        409: {"description": "both", "content": {PROBLEM: {"example": {"type": "urn:bank:own"}}}},
        413: {"description": "no words"},
        429: {"description": "slow", "headers": {"retry-after": {"schema": {"type": "string"}}}},
    }
    extra = {"x-rate-limits": "many", "x-deadline-seconds": 1}

    @app.post("/orders", responses=declared, openapi_extra=extra, dependencies=[Depends(signed)])
    async def order(lines: list[int], idempotency_key: str = Header()) -> int:
        return len(lines)

    plain = deepcopy(app.openapi())
    made = document(app)
    before, after = plain["paths"]["/orders"]["post"], made["paths"]["/orders"]["post"]
    for name in (
        "summary",
        "operationId",
        "requestBody",
        "security",
        "parameters",
        "x-rate-limits",
        "x-deadline-seconds",
    ):
        assert after[name] == before[name], name
    replies = after["responses"]
    assert (replies["401"]["description"], replies["401"]["content"]) == ("ours", {"text/plain": {}})
    assert replies["409"]["content"][PROBLEM]["example"] == {"type": "urn:bank:own"}
    assert replies["413"]["description"] == "no words"
    assert replies["413"]["content"].keys() == {PROBLEM}
    assert replies["429"]["headers"]["retry-after"] == {"schema": {"type": "string"}}
    assert "Retry-After" not in replies["429"]["headers"]


def test_components_of_the_same_name_stand_side_by_side() -> None:
    plain: dict[str, Any] = {
        "openapi": "3.1.0",
        "paths": {"/orders": {"post": {"responses": {}}}},
        "components": {
            "schemas": {"Problem": {"type": "string"}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    made = complete(plain, facts(Bearer()))
    assert made["components"]["schemas"]["Problem"] == {"type": "string"}
    assert made["components"]["schemas"]["WorkhorseProblem"]["type"] == "object"
    assert made["components"]["securitySchemes"].keys() == {"bearer", "WorkhorseBearer"}
    assert made["paths"]["/orders"]["post"]["security"] == [{"WorkhorseBearer": ["orders:all", "orders:write"]}]
    assert plain["components"]["schemas"] == {"Problem": {"type": "string"}}


def test_a_document_that_says_who_may_call_everything_is_believed() -> None:
    plain: dict[str, Any] = {
        "openapi": "3.1.0",
        "security": [{"own": []}],
        "paths": {"/orders": {"post": {"responses": {}}}},
    }
    assert "security" not in complete(plain, facts(Bearer()))["paths"]["/orders"]["post"]


def test_completing_twice_changes_nothing() -> None:
    app, known = an_app(), facts(Bearer(), Sessions())
    once = complete(app.openapi(), known)
    assert complete(once, known) == once


def test_a_key_that_is_a_shared_component_is_found() -> None:
    plain: dict[str, Any] = {
        "openapi": "3.1.0",
        "components": {"parameters": {"Key": {"in": "header", "name": "idempotency-key", "schema": {}}}},
        "paths": {"/orders": {"parameters": [{"$ref": "#/components/parameters/Key"}], "post": {"responses": {}}}},
    }
    assert "parameters" not in complete(plain, facts(Bearer()))["paths"]["/orders"]["post"]


class TooFar(Problem):
    status = 409
    type = "urn:shop:problem:too-far"
    title = "That is too far"


def test_problems_of_the_apps_own_stand_beside_ours() -> None:
    app = FastAPI()

    @app.post("/orders", responses=problem_replies(TooFar))
    async def order(lines: list[int]) -> int:
        return len(lines)

    made = document(app)
    assert problems(made, "/orders", "post", 409) == {
        "too-far",
        "idempotency-key-in-flight",
        "idempotency-key-stale",
        "idempotent-reply-not-kept",
    }
    reply = made["paths"]["/orders"]["post"]["responses"]["409"]
    assert reply["description"] == "That is too far"
    assert resolve(made, reply["content"][PROBLEM]["schema"])["title"] == "Problem"


# Customised, mounted, repeated.


def customised(app: FastAPI) -> Callable[[], dict[str, Any]]:
    before = app.openapi

    def own() -> dict[str, Any]:
        made = before()
        made["info"]["x-logo"] = "shop.svg"
        return made

    return own


def test_an_app_may_customise_its_document_before_and_after() -> None:
    for late in (False, True):
        app = an_app()
        if not late:
            app.openapi = customised(app)  # type: ignore[method-assign]
        made = document(app)
        if late:
            app.openapi = customised(app)  # type: ignore[method-assign]
            made = app.openapi()
        assert made["info"]["x-logo"] == "shop.svg"
        assert made["paths"]["/open/{name}"]["get"]["security"] == []


def test_the_document_is_made_once_and_again_when_routes_come() -> None:
    app = an_app()
    made = document(app)
    assert app.openapi() is made

    @app.get("/open/late")
    async def late() -> None: ...

    assert app.openapi()["paths"]["/open/late"]["get"]["security"] == []


def test_describing_again_tells_the_new_facts_only() -> None:
    app = an_app()
    document(app)
    again = document(app, facts())
    assert "securitySchemes" not in again["components"]
    assert "security" not in again["paths"]["/orders"]["post"]


def test_mounted_apps_are_adopted_and_told_of_their_whole_paths() -> None:
    class Around:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    inner, deep = an_app(), an_app()
    router = APIRouter()
    router.mount("/deep", Around(deep))
    inner.include_router(router, prefix="/r")
    outer = Starlette(
        routes=[Mount("/shop", inner), Host("api.example", Starlette(routes=[Mount("/x", outer_less())]))]
    )
    policies = (Policy("POST /shop/orders", scope="shop"), Policy("POST /shop/r/deep/orders", scope="deep"))
    adopt(outer)
    assert describe(outer, facts(Bearer(), policies=policies))
    assert inner.openapi()["paths"]["/orders"]["post"]["security"] == [{"bearer": ["shop"]}]
    assert deep.openapi()["paths"]["/orders"]["post"]["security"] == [{"bearer": ["deep"]}]
    assert "security" not in deep.openapi()["paths"]["/files"]["post"]

    guard = Guard(outer, settings=GuardSettings())
    refused = asyncio.run(call(guard, "POST", "/shop/r/deep/orders", as_json={}))
    assert (refused.status, refused.header("content-type")) == (422, PROBLEM)
    page = asyncio.run(call(guard, "GET", "/shop/docs"))
    assert "/shop/docs/swagger-ui/" in page.body.decode()


def outer_less() -> FastAPI:
    return FastAPI(openapi_url=None)


def test_an_app_that_is_mounted_in_itself_comes_to_an_end() -> None:
    app = an_app()
    app.mount("/again", app)
    adopt(app)
    assert describe(app, facts())


def test_what_publishes_no_document_is_left_alone() -> None:
    assert not describe(Starlette(), facts())
    assert not describe(object(), facts())


# Served: what is told is what is answered.


def test_a_service_publishes_what_it_answers(settings: Settings) -> None:
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.post("/orders", status_code=201)
    async def order(lines: list[int]) -> int:
        await unit()
        return len(lines)

    policies = [
        Policy(
            "POST /orders",
            scope="orders:write",
            rate="7/day",
            idempotent="required",
            content_types=["application/json"],
            max_body_bytes=50,
        ),
        Policy("GET /openapi.json", public=True),
    ]
    issuer = DevelopmentIssuer(settings)

    async def main() -> tuple[dict[str, Any], list[Seen]]:
        service = Service(app, identity=Bearer(), policies=policies, settings=settings)
        async with running(service):
            told = (await call(service, "GET", "/openapi.json")).json()
            writer = ("authorization", f"Bearer {issuer.mint('alice', scopes=['orders:write'])}")
            reader = ("authorization", f"Bearer {issuer.mint('alice')}")
            key = ("idempotency-key", "k")

            async def post(*headers: tuple[str, str], lines: Any = (1,), **more: Any) -> Seen:
                return await call(service, "POST", "/orders", headers=headers, as_json=lines, **more)

            return told, [
                await post(writer, key),
                await post(writer, key),
                await post(writer),
                await post(key),
                await post(reader, key),
                await post(writer, ("sec-fetch-site", "cross-site"), key),
                await post(writer, key, lines=[2]),
                await post(writer, ("idempotency-key", "l"), lines="x"),
                await post(writer, key, lines=[1] * 100),
                await call(
                    service, "POST", "/orders", headers=[writer, key, ("content-type", "text/xml")], body=b"<x/>"
                ),
                *[await post(writer, ("idempotency-key", f"m{number}")) for number in range(4)],
            ]

    told, replies = asyncio.run(main())
    assert [seen.status for seen in replies] == [201, 201, 400, 401, 403, 403, 422, 422, 413, 415, 201, 201, 429, 429]
    operation = told["paths"]["/orders"]["post"]
    for seen in replies:
        reply = resolve(told, operation["responses"][str(seen.status)])
        assert seen.header("content-type") in reply["content"], seen.status
        if seen.status >= 400:
            kinds = {one["value"]["type"] for one in reply["content"][PROBLEM]["examples"].values()}
            assert seen.json()["type"] in kinds, seen.status
        known = {name.lower() for name in reply.get("headers", {})}
        assert {"retry-after", "www-authenticate", "idempotent-replayed"} & {
            name.decode() for name, _ in seen.headers
        } <= known, seen.status


def test_a_service_tells_of_a_document_that_was_customised_after_it_was_made(settings: Settings) -> None:
    app = an_app()
    service = Service(app, policies=[Policy("POST /orders", rate="1/day")], settings=settings)

    def own() -> dict[str, Any]:
        return {"openapi": "3.1.0", "info": {}, "paths": {"/orders": {"post": {"responses": {}}}}}

    app.openapi = own  # type: ignore[method-assign]

    async def main() -> Seen:
        async with running(service):
            return await call(service, "GET", "/openapi.json")

    assert "429" in asyncio.run(main()).json()["paths"]["/orders"]["post"]["responses"]


def test_a_document_can_be_asked_for_before_the_service_starts(tmp_path: Path) -> None:
    app = an_app()
    Service(app, policies=[Policy("POST /orders", rate="1/day")], settings=load_settings(tmp_path))
    assert "429" in app.openapi()["paths"]["/orders"]["post"]["responses"]
