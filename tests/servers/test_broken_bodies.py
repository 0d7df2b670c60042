"""A client that says that it sends no more, in the middle of a request's body."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from tests.servers.conftest import Start
from workhorse.asgi import ASGIApp, Message
from workhorse.servers.limits import configured_limits
from workhorse.servers.worker import ServedApp

APP = """
from fastapi import FastAPI, Request
from workhorse import Policy, Service, unit

api = FastAPI()

@api.post("/once")
async def once(note: dict[str, str]) -> dict[str, str]:
    return note

@api.post("/often")
async def often(note: dict[str, str]) -> dict[str, str]:
    return note

service = Service(api, policies=[Policy("POST /once", idempotent=True)])
"""
HALVES = {
    "length": b"Content-Length: 100\r\n\r\n{",
    "chunk": b"Transfer-Encoding: chunked\r\n\r\n64\r\n{",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
}


def half_closed(port: int, path: str, half: bytes) -> bytes:
    """What comes back, until the server closes."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.encode() + half)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(65_536):
            received += piece
    return received


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["granian", "uvicorn", "hypercorn"])
def test_half_a_body_is_answered_with_a_problem_or_a_plain_close(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    for path in ("/once", "/often"):
        for half in HALVES.values():
            received = half_closed(run.port, path, half)
            if kind == "uvicorn":  # it hangs up as soon as the client has sent its last
                assert received == b""
                continue
            top, _, body = received.partition(b"\r\n\r\n")
            assert top.startswith(b"HTTP/1.1 400"), received
            if kind == "hypercorn" and not body:  # it sometimes answers before it tells us
                assert b"connection: close" in top.lower()
                continue
            assert b"content-type: application/problem+json" in top.lower()
            assert json.loads(body)["status"] == 400
    assert run.ask("GET", "/-/live")[0] == 200
    assert "Traceback" not in run.said


async def serve(app: ASGIApp, messages: Sequence[Message], *, method: str = "POST") -> list[Message]:
    """Serve one request, which brings these messages."""
    waiting = iter(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": [], "client": ("127.0.0.1", 9)}
    await ServedApp(app, 80, configured_limits())(scope, receive, send)
    return sent


def reads(number: int) -> ASGIApp:
    """An app that reads so many messages and says nothing."""

    async def app(_scope: object, receive: Any, _send: object) -> None:
        for _ in range(number):
            await receive()

    return app


GONE: Message = {"type": "http.disconnect"}
PIECE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [([GONE], 400), ([PIECE, GONE], 400), ([PIECE, LAST, GONE], 500), ([LAST], 500), ([PIECE], 500), ([], 500)],
    ids=["nothing came", "half came", "gone after it", "all came", "it stopped reading", "it read nothing"],
)
def test_a_silent_app_is_answered_for_by_whose_fault_it_is(messages: Sequence[Message], status: int) -> None:
    start, body = asyncio.run(serve(reads(len(messages)), messages))
    assert start["status"] == status
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["status"] == status
    assert ((b"connection", b"close") in start["headers"]) is (status == 400)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_without_a_body_is_left_to_the_server(method: str) -> None:
    assert asyncio.run(serve(reads(1), [GONE], method=method)) == []


def test_an_app_that_speaks_is_left_alone() -> None:
    async def app(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    assert [one["type"] for one in asyncio.run(serve(app, [GONE]))] == ["http.response.start", "http.response.body"]


def test_an_app_that_raises_is_left_to_its_server() -> None:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        asyncio.run(serve(app, [GONE]))
