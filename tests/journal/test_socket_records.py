"""A WebSocket of an audited route is recorded when it is accepted or refused; others are not."""

import asyncio
from typing import Any

import psycopg
from fastapi import FastAPI, WebSocket

from tests.asgi_client import http_scope, running
from workhorse import Audit, Policy, Service
from workhorse.asgi import Message
from workhorse.identity import ApiKeys
from workhorse.settings import Settings


async def connect(app: Service, path: str, key: str) -> str:
    """Open a socket and leave; returns what the server was told first."""
    base = http_scope("GET", path, [("x-api-key", key)])
    more: dict[str, Any] = {"type": "websocket", "scheme": "ws", "subprotocols": []}
    scope = {name: value for name, value in base.items() if name != "method"} | more
    incoming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    sent: list[str] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app(scope, receive, send)
    return sent[0]


def test_an_accepted_and_a_refused_socket_leave_a_record_each(settings: Settings, database_url: str) -> None:
    app, keys = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), ApiKeys()

    @app.websocket("/wards/{ward}")
    @app.websocket("/open")
    async def watch(socket: WebSocket) -> None:
        await socket.accept()

    policies = [
        Policy("* /wards/{ward}", scope="read", audit=Audit(subject="ward:{ward}", fail_closed=True)),
        Policy("* /open", public=True),
    ]

    async def main() -> None:
        service = Service(app, identity=keys, policies=policies, settings=settings)
        async with running(service):
            may = await keys.create("anna", name="a", scopes=["read"])
            may_not = await keys.create("otto", name="o")
            assert await connect(service, "/wards/7", may.text) == "websocket.accept"
            assert await connect(service, "/wards/8", may_not.text) == "websocket.close"
            assert await connect(service, "/open", may.text) == "websocket.accept"

    asyncio.run(main())
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT type, subject, principal, data->>'status' FROM workhorse.events"
            " WHERE type NOT LIKE 'audit.api%%' ORDER BY id"
        ).fetchall()
    assert rows == [
        ("audit.connected", "ward:7", "anna", "101"),
        ("audit.denied", "ward:8", "otto", "403"),
    ]


def test_where_nothing_goes_without_its_record_no_socket_is_accepted(settings: Settings, database_url: str) -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.websocket("/wards/{ward}")
    async def watch(socket: WebSocket) -> None:
        await socket.accept()

    records = settings.records.model_copy(update={"store_timeout_seconds": 0.5})
    policies = [Policy("* /wards/{ward}", audit=Audit(fail_closed=True))]

    async def main() -> None:
        service = Service(app, policies=policies, settings=settings.model_copy(update={"records": records}))
        async with running(service):
            with psycopg.connect(database_url) as other:
                other.execute("LOCK TABLE workhorse.events IN ACCESS EXCLUSIVE MODE")
                assert await connect(service, "/wards/7", "") != "websocket.accept"

    asyncio.run(main())
