"""What one connection may carry from a request to the next: nothing."""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable

import pytest

from tests.servers.conftest import Run

Start = Callable[..., Run]

KINDS = ["granian", "uvicorn", "hypercorn"]

APP = """
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from workhorse import Service

api = FastAPI()

@api.post("/seen")
async def seen(request: Request) -> dict[str, str]:
    await request.body()
    return {"user": request.headers.get("x-user", "nobody"), "client": request.client.host}

@api.get("/grown")
async def grown() -> StreamingResponse:
    async def body():
        yield b"0123456789"
        yield b"HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\n\\r\\nevil!"
    return StreamingResponse(body(), headers={"content-length": "10"})

@api.get("/mine")
async def mine() -> str:
    return "mine"

service = Service(api)
"""


def connect(run: Run) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", run.port), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def reply_on(client: socket.socket) -> tuple[int, bytes]:
    reply = http.client.HTTPResponse(client)
    reply.begin()
    return reply.status, reply.read()


@pytest.mark.parametrize("kind", KINDS)
def test_trailers_do_not_become_headers(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    head = b"POST /seen HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    rest = b"1\r\nx\r\n0\r\nx-user: admin\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
    for pause in (0.0, 0.2):
        with contextlib.closing(connect(run)) as client:
            client.sendall(head if pause else head + rest)
            if pause:
                time.sleep(pause)
                client.sendall(rest)
            assert reply_on(client) == (200, b'{"user":"nobody","client":"127.0.0.1"}')


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_reply_has_too_much_is_not_the_next_one(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    with contextlib.closing(connect(run)) as client:
        client.sendall(b"GET /grown HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert reply_on(client) == (200, b"0123456789")
        client.sendall(b"GET /mine HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert reply_on(client) == (200, b'"mine"')


@pytest.mark.parametrize("kind", KINDS)
def test_after_ambiguous_framing_nothing_more_is_read(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    with contextlib.closing(connect(run)) as client:
        client.sendall(
            b"POST /seen HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            b"GET /mine HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        )
        received = b""
        with contextlib.suppress(OSError):
            while part := client.recv(65536):
                received += part
        assert b'"mine"' not in received
