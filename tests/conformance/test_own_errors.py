"""With `own_errors=True` a client sees the framework's errors as before, and nothing else is given up for it."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from tests.conformance.apps import raw
from tests.conformance.cases import CASES, Case
from tests.conformance.contract import SECRET, Book
from tests.conformance.wire import Seen, serving
from workhorse import Service
from workhorse.asgi import ASGIApp, Message, Scope
from workhorse.guard import Guard
from workhorse.settings import GuardSettings, Settings

FRAMEWORKS = [case for case in CASES if "problems" not in case.lacks]


@pytest.mark.parametrize("case", FRAMEWORKS, ids=lambda case: case.name)
def test_errors_of_the_framework_stay_as_they_are(case: Case, settings: Settings, tmp_path: Path) -> None:
    async def asked(app: ASGIApp) -> list[Seen]:
        async with serving(app) as server:
            return [await server.request("GET", case.prefix + path) for path in ("/nowhere", "/problem", "/broken")]

    async def main() -> tuple[list[Seen], list[Seen]]:
        service = Service(case.make(Book(tmp_path)), own_errors=True, settings=settings)
        return await asked(case.make(Book(tmp_path))), await asked(service)

    (bare, *_), (served, problem, broken) = anyio.run(main, backend=case.runtime)
    assert (served.status, served.body) == (bare.status, bare.body)
    assert served.header(b"content-type") == bare.header(b"content-type")
    assert (problem.status, problem.header(b"content-type")) == (418, b"application/problem+json")
    assert broken.status == 500
    assert SECRET.encode() not in broken.body


def test_fastapis_faults_and_document_stay_as_they_are(settings: Settings) -> None:
    def an_app() -> FastAPI:
        app = FastAPI()

        @app.get("/items/{number}")
        async def item(number: int) -> int:
            return number

        return app

    async def asked(app: Any) -> list[Any]:
        async with serving(app) as server:
            replies = [await server.request("GET", path) for path in ("/items/x", "/openapi.json")]
        return [json.loads(reply.body) for reply in replies]

    async def main() -> None:
        bare = await asked(an_app())
        assert bare == await asked(Service(an_app(), own_errors=True, settings=settings))
        ours = await asked(Service(an_app(), settings=settings))
        assert "detail" in bare[0]
        assert "errors" in ours[0]
        assert bare[1] != ours[1]

    anyio.run(main)


def test_what_asgi_leaves_out_of_a_scope_is_not_asked_for(tmp_path: Path) -> None:
    """A WebSocket's scope need not have a version, a scheme and a query, and those of test clients do not."""
    guard = Guard(raw.make(Book(tmp_path)), settings=GuardSettings())

    scope: Scope = {"type": "websocket", "path": "/talk", "headers": [(b"host", b"localhost")], "subprotocols": []}

    async def main() -> list[str]:
        sent: list[str] = []
        messages: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message["type"])

        await guard({**scope, "root_path": ""}, receive, send)
        return sent

    assert anyio.run(main) == ["websocket.accept"]
