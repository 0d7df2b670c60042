"""The apps of the conformance suite over real servers: what only a socket shows."""

import http.client
import socket
import time
from contextlib import closing

import pytest

from tests.docs.blocks import ROOT
from tests.servers.conftest import Start

pytestmark = pytest.mark.slow

APP = """
from pathlib import Path
from tests.conformance.apps import {framework}
from tests.conformance.contract import Book
from workhorse import Policy, Service

book = Book(Path(__file__))
api = {framework}.make(book)

async def notes(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/notes-of-the-app":
        await api(scope, receive, send)
        return
    body = ",".join(book.notes).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})

notes.app = api
service = Service(notes, policies=[Policy("POST /echo", max_body_bytes=1000)])
"""
PAIRS = [
    ("granian", "quart"),
    ("granian", "falcon"),
    ("granian", "starlette"),
    ("uvicorn", "blacksheep"),
    ("uvicorn", "fastapi"),
    ("hypercorn", "litestar"),
    ("hypercorn", "raw"),
    ("hypercorn on trio", "starlette"),
]


def read_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        part = client.recv(65_536)
        assert part, f"closed after {received!r}"
        received += part
    return received


@pytest.mark.parametrize(("kind", "framework"), PAIRS)
def test_what_only_a_socket_shows(kind: str, framework: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    kind, _, runtime = kind.partition(" on ")
    run = start("--server", kind, "--runtime", runtime or "asyncio", app=APP.format(framework=framework))
    head = (
        b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\nexpect: 100-continue\r\n"
    )
    # The body is asked for, sent, and echoed.
    with closing(socket.create_connection(("127.0.0.1", run.port), timeout=20)) as client:
        client.sendall(head + b"content-length: 4\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        client.sendall(b"body")
        assert b" 200 " in read_until(client, b"body")
    # A body that is too large is refused instead.
    with closing(socket.create_connection(("127.0.0.1", run.port), timeout=20)) as client:
        client.sendall(head + b"content-length: 2000\r\n\r\n")
        # hypercorn asks for every body as soon as it has seen the head.
        first = b"HTTP/1.1 100 " if kind == "hypercorn" else b"HTTP/1.1 413 "
        assert read_until(client, b"HTTP/1.1 413 ").startswith(first)
    # HEAD has the headers of GET, and nothing after them.
    with closing(http.client.HTTPConnection("127.0.0.1", run.port, timeout=20)) as connection:
        connection.request("HEAD", "/hello")
        reply = connection.getresponse()
        assert (reply.status, reply.headers["content-length"], reply.read()) == (200, "5", b"")
        connection.request("GET", "/events")
        assert connection.getresponse().read().count(b"event: tick") == 2
    # A client that leaves in the middle of a stream ends it.
    if framework in {"falcon", "blacksheep"}:  # which do not listen
        return
    with closing(socket.create_connection(("127.0.0.1", run.port), timeout=20)) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        read_until(client, b"more")
    until = time.monotonic() + 10
    while b"stream ended" not in run.ask("GET", "/notes-of-the-app")[1]:
        assert time.monotonic() < until, run.said
        time.sleep(0.05)
