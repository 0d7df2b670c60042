"""Secrets planted in each part of a request and of what the app does with it: none reaches a log, metric or reply."""

import asyncio
import logging
import os
from typing import Any

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from tests.asgi_client import Seen, call
from workhorse.asgi import ASGIApp
from workhorse.guard import Guard, compile_plan
from workhorse.integrations import adopt
from workhorse.policy import Policy
from workhorse.rate import Rate
from workhorse.settings import GuardSettings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.stdlib_handler import StdlibHandler

CANARY = "canary-5f1d0c"
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.{CANARY}AAAAAAAAAAAAAAAA.c2lnbmF0dXJl"

PLANTED: list[tuple[str, str, dict[str, Any]]] = [
    ("authorization", "/fine", {"headers": [("authorization", f"Bearer {TOKEN}")]}),
    ("cookie", "/fine", {"headers": [("cookie", f"session={CANARY}")]}),
    ("api-key", "/fine", {"headers": [("x-api-key", CANARY)]}),
    ("query", f"/fine?token={CANARY}", {}),
    ("idempotency-key", "/fine", {"headers": [("idempotency-key", CANARY)]}),
    ("request-id with a blank", "/fine", {"headers": [("x-request-id", f"a {CANARY}")]}),
    ("user-agent", "/fine", {"headers": [("user-agent", CANARY)]}),
    ("refused host", "/fine", {"headers": [("host", f"{CANARY}.test")]}),
    ("refused origin", "/fine", {"headers": [("origin", f"https://{CANARY}.test")], "method": "POST"}),
    ("refused body", "/large", {"body": CANARY.encode() * 9, "method": "POST"}),
    ("limited caller", "/limited", {"headers": [("authorization", f"Bearer {TOKEN}")]}),
    ("body that fails validation", "/model", {"as_json": {"password": CANARY}, "method": "POST"}),
    ("exception with a password", "/raise", {}),
    ("exception with a token", "/raise-token", {"headers": [("authorization", f"Bearer {TOKEN}")]}),
    ("log line of the app with a URL", "/log", {}),
]


class Model(BaseModel):
    password: str = Field(max_length=3)


def an_app() -> FastAPI:
    app = FastAPI()

    @app.api_route("/fine", methods=["GET", "POST"])
    @app.get("/limited")
    async def fine() -> None: ...

    @app.post("/large")
    async def large(request: Request) -> int:
        return len(await request.body())

    @app.post("/model")
    async def model(body: Model) -> None: ...

    @app.get("/raise")
    async def raises() -> None:
        raise RuntimeError(f"cannot connect: password={CANARY} host=db")

    @app.get("/raise-token")
    async def raises_token(request: Request) -> None:
        raise RuntimeError(f"the issuer refused {request.headers['authorization']}")

    @app.get("/log")
    async def logs() -> None:
        logging.getLogger("app").warning("connecting to %s", f"postgresql://bank:{CANARY}@db/bank")

    adopt(app)
    return app


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(("path", "request_"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
def test_a_planted_secret_reaches_no_log_no_metric_and_no_reply(
    path: str, request_: dict[str, Any], style: Any
) -> None:
    read, write = os.pipe()
    log, metrics = Log(write, format=style, level="debug"), Registry(None)
    log.start()
    handler = StdlibHandler(log)
    logging.getLogger().addHandler(handler)
    policies = [Policy("GET /limited", rate=Rate("1/hour", per="key")), Policy("POST /large", max_body_bytes=10)]
    guard: ASGIApp = Guard(an_app(), compile_plan(GuardSettings(), policies), log=log, metrics=metrics)
    seen = Seen()
    try:
        for _ in range(2):
            seen = asyncio.run(call(guard, path=path, **{"method": "GET", **request_}))
    finally:
        logging.getLogger().removeHandler(handler)
        log.close()
        os.close(write)
    with os.fdopen(read, "rb") as lines:
        logged = lines.read()
    assert logged.count(b"\n") >= 2, "there is a line for each request"
    assert CANARY.encode() not in logged
    assert CANARY.encode() not in metrics.render()
    assert CANARY.encode() not in seen.body
    assert not any(CANARY.encode() in value for _, value in seen.headers)
