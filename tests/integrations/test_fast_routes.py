"""A fast route answers as the framework does, byte for byte; one that needs the framework is refused at the start."""

import asyncio
import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from tests.asgi_client import Seen, call
from workhorse.errors import Problem, SettingsError
from workhorse.integrations import adopt
from workhorse.integrations.fast_routes import fast_layer
from workhorse.policy import Policy

POLICIES = [Policy("POST /orders", fast=True)]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    account: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{1,6}$")]
    amount: Annotated[Decimal, Field(gt=0, max_digits=12)]
    due: datetime | None = None
    note: str = Field(default="", alias="remark")


class Receipt(BaseModel):
    account: str
    amount: Decimal
    due: datetime | None
    note: str = Field(serialization_alias="remark")


class OutOfStock(Exception):
    pass


def an_app(raises: Exception | None = None, returns: Any = None) -> FastAPI:
    app = FastAPI()

    @app.post("/orders", status_code=201)
    async def order(order: Order) -> Receipt:
        if raises is not None:
            raise raises
        if returns is not None:
            return returns  # type: ignore[no-any-return]
        return Receipt(account=order.account, amount=order.amount, due=order.due, note=order.note)

    @app.exception_handler(OutOfStock)
    def out_of_stock(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.path}: {error}", 410)

    adopt(app)
    return app


def both(body: bytes, *, app: FastAPI | None = None, content_type: str = "application/json") -> tuple[Seen, Seen]:
    """The replies of the app itself and of its fast layer."""
    app = app if app is not None else an_app()

    async def main() -> list[Seen]:
        headers = [("content-type", content_type)]
        fast = fast_layer(app, POLICIES)
        assert fast is not app
        return [await call(one, "POST", "/orders", headers=headers, body=chunks(body)) for one in (app, fast)]

    usual, fast = asyncio.run(main())
    return usual, fast


def chunks(body: bytes) -> list[bytes]:
    return [body[:7], body[7:]]


def same(replies: tuple[Seen, Seen]) -> Seen:
    usual, fast = replies
    assert (usual.status, usual.headers, usual.body) == (fast.status, fast.headers, fast.body)
    return fast


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"account": "NL1", "amount": 5}', 201),
        ('{"account": "NL1", "amount": "5.10", "due": "2026-01-02T03:04:05Z", "remark": "für dich \\u00e9"}', 201),
        ('{"account": "NL1", "amount": 1e3}', 201),
        ('{"account": "nl1", "amount": 5}', 422),
        ('{"account": "NL1", "amount": NaN}', 422),
        ('{"account": "NL1"}', 422),
        ('{"account": "NL1", "amount": 5, "more": 1}', 422),
        ("[]", 422),
        ("null", 422),
        ("", 422),
        ("{", 422),
        ('{"account": "NL1", "amount": 5} x', 422),
        ("\ufeff{}", 422),
    ],
)
def test_the_reply_is_the_framework_s(body: str, status: int) -> None:
    assert same(both(body.encode())).status == status


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-8", "application/x+json", ""])
def test_another_content_type_is_left_to_the_framework(content_type: str) -> None:
    same(both(b'{"account": "NL1", "amount": 5}', content_type=content_type))


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["NL1", "DE123456", "1.5", "2026-01-02", "2026-01-02T00:00:00"])
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=2)
)
BODIES = st.dictionaries(st.sampled_from(["account", "amount", "due", "remark", "x"]), VALUES).map(json.dumps)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES | st.text(max_size=30))
def test_whatever_is_sent_the_reply_is_the_framework_s(body: str) -> None:
    same(both(body.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HTTPException(404, "no such account", {"x-why": "gone"}), 404),
        (Problem("refused"), 500),
        (OutOfStock("gone"), 410),
    ],
    ids=["HTTPException", "Problem", "handled by the app"],
)
def test_an_exception_goes_to_the_app_s_handler(error: Exception, status: int) -> None:
    assert same(both(b'{"account": "NL1", "amount": 5}', app=an_app(raises=error))).status == status


def test_an_exception_that_nobody_handles_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        both(b'{"account": "NL1", "amount": 5}', app=an_app(raises=ZeroDivisionError()))


@pytest.mark.parametrize(
    "result",
    [
        {"account": "x", "amount": 1, "due": None, "note": ""},
        JSONResponse({"own": True}, 202, {"x-own": "1"}),
        Response(status_code=204),
    ],
    ids=["a dict", "a response", "no content"],
)
def test_what_the_handler_returns_is_sent_as_the_framework_would(result: Any) -> None:
    same(both(b'{"account": "NL1", "amount": 5}', app=an_app(returns=result)))


def test_the_document_is_the_same() -> None:
    app = an_app()
    before = app.openapi()
    fast_layer(app, POLICIES)
    app.openapi_schema = None
    assert app.openapi() == before


def test_other_requests_pass_through() -> None:
    app = an_app()

    async def main() -> list[int]:
        fast = fast_layer(app, POLICIES)
        return [(await call(fast, method, path)).status for method, path in [("GET", "/orders"), ("POST", "/nothing")]]

    assert asyncio.run(main()) == [405, 404]


def refused() -> Iterable[tuple[FastAPI, str]]:
    async def plain(order: Order) -> Receipt: ...  # type: ignore[empty-body]
    def sync(order: Order) -> Receipt: ...  # type: ignore[empty-body]
    async def no_result(order: Order): ...  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def two(order: Order, other: Order) -> Receipt: ...  # type: ignore[empty-body]
    async def query(order: Order, page: int) -> Receipt: ...  # type: ignore[empty-body]
    async def header(order: Order, x: Annotated[str, Header()]) -> Receipt: ...  # type: ignore[empty-body]
    async def request(order: Order, request: Request) -> Receipt: ...  # type: ignore[empty-body]
    async def tasks(order: Order, tasks: BackgroundTasks) -> Receipt: ...  # type: ignore[empty-body]
    async def embedded(order: Annotated[Order, Body(embed=True)]) -> Receipt: ...  # type: ignore[empty-body]
    async def depends(order: Order, x: Annotated[int, Depends(lambda: 1)]) -> Receipt: ...  # type: ignore[empty-body]

    cases: list[tuple[Any, str]] = [
        (sync, "not `async def`"),
        (no_result, "declares no result"),
        (two, "exactly one JSON body"),
        (query, "reads path, query"),
        (header, "reads path, query"),
        (request, "asks for the request"),
        (tasks, "asks for the request"),
        (embedded, "exactly one JSON body"),
        (depends, "has dependencies"),
    ]
    for handler, reason in cases:
        app = FastAPI()
        app.post("/orders")(handler)
        yield app, reason
    app = FastAPI()
    app.post("/orders", response_model_exclude_none=True)(plain)
    yield app, "leaves parts"
    app = FastAPI()
    app.post("/orders", response_class=PlainTextResponse)(plain)
    yield app, "response class"
    app = FastAPI(dependencies=[Depends(lambda: 1)])
    app.post("/orders")(plain)
    yield app, "has dependencies"
    app = FastAPI()
    app.post("/orders")(plain)

    @app.middleware("http")
    async def own(request: Request, call_next: Any) -> Response: ...  # type: ignore[empty-body]

    yield app, "middleware of its own"
    yield FastAPI(), "no such route"
    app = FastAPI()
    app.post("/{anything}")(plain)
    app.post("/orders")(plain)
    yield app, "a route before it"


@pytest.mark.parametrize(("app", "reason"), list(refused()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_needs_the_framework_is_refused_at_the_start(app: FastAPI, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        fast_layer(app, POLICIES)
