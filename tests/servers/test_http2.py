"""HTTP/2 where a server has it: hypercorn, without TLS, by prior knowledge (RFC 9113, section 3.3)."""

import contextlib
import socket
import time
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.servers.conftest import Start

pytestmark = pytest.mark.slow

APP = """
import asyncio
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from workhorse import Policy, Service, unit

api = FastAPI()

@api.get("/slow")
async def slow(seconds: float = 1) -> str:
    await asyncio.sleep(seconds)
    return "done"

@api.get("/stream")
async def stream() -> StreamingResponse:
    async def parts():
        for number in range(3):
            yield f"{number},"
            await asyncio.sleep(0)
    return StreamingResponse(parts(), media_type="text/plain")

@api.post("/notes", status_code=201)
async def note(request: Request) -> dict[str, str]:
    await (await unit()).execute("SELECT 1")
    return {"version": request.scope["http_version"], "bytes": str(len(await request.body()))}

service = Service(api, policies=[Policy("POST /notes", idempotent=True, max_body_bytes=2_000_000)])
"""

STATUS: Any = ":status"  # text, as the encoding asks for, which the types do not know


class Client:
    """One connection of HTTP/2."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._flush()
        self.status: dict[int, Any] = {}
        self.body: dict[int, bytes] = {}
        self.order: list[int] = []
        """Streams, as they ended."""

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> int:
        stream = self._h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "127.0.0.1"), *headers]
        self._h2.send_headers(stream, head, end_stream=not body)
        self._flush()
        while body:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, len(body))
            if not room:
                self._take()
                continue
            self._h2.send_data(stream, body[:room], end_stream=room == len(body))
            body = body[room:]
            self._flush()
        return stream

    def wait_for(self, *streams: int) -> None:
        until = time.monotonic() + 20
        while not set(streams) <= set(self.order):
            assert time.monotonic() < until
            self._take()

    def _take(self) -> None:
        data = self._socket.recv(65_536)
        assert data, "the server has closed the connection"
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.status[event.stream_id] = next(value for name, value in event.headers if name == STATUS)
                case h2.events.DataReceived():
                    self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.order.append(event.stream_id)
                case h2.events.StreamReset():
                    raise AssertionError(f"stream {event.stream_id} was reset: {event.error_code}")
                case _:
                    pass
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_streams_of_one_connection_are_served_beside_each_other(runtime: str, start: Start) -> None:
    run = start("--server", "hypercorn", "--runtime", runtime, app=APP if runtime == "asyncio" else on_trio(APP))
    with contextlib.closing(Client(run.port)) as client:
        slow = client.ask("GET", "/slow?seconds=4")
        stream = client.ask("GET", "/stream")
        body = b"x" * 1_000_000
        plain = [("content-type", "application/octet-stream")]
        note = client.ask("POST", "/notes", [("idempotency-key", "k"), *plain], body)
        again = client.ask("POST", "/notes", [("idempotency-key", "k"), *plain], body)
        unknown = client.ask("GET", "/nowhere")
        client.wait_for(slow, stream, note, again, unknown)
        assert client.order[-1] == slow
        assert client.body[stream] == b"0,1,2,"
        assert [client.status[one] for one in (slow, stream, note, again, unknown)] == [
            "200",
            "200",
            "201",
            "201",
            "404",
        ]
        assert client.body[note] == client.body[again] == b'{"version":"2","bytes":"1000000"}'
    run.process.terminate()
    assert run.process.wait(20) == 0, run.said
    assert "Traceback" not in run.said


def on_trio(app: str) -> str:
    return app.replace("import asyncio", "import trio").replace("asyncio.sleep", "trio.sleep")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--server", "granian", "--runtime", "trio"), "granian runs apps on asyncio only"),
        (("--server", "uvicorn", "--runtime", "trio"), "--server hypercorn"),
    ],
)
def test_a_server_that_has_no_trio_says_so(arguments: tuple[str, ...], said: str, start: Start) -> None:
    run = start(*arguments, wait=False)
    assert run.process.wait(20) == 1
    assert said in run.said
    assert "Traceback" not in run.said
