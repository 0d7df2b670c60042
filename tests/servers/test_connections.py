"""What clients that are slow, silent or many can do to others: nothing, on each server."""

import contextlib
import http.client
import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Run, Start, in_background

pytestmark = pytest.mark.slow
KINDS = ["granian", "uvicorn", "hypercorn"]

APP = """
import asyncio, os, time
from collections.abc import AsyncIterator
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from workhorse import Service

api = FastAPI()

@api.get("/pid")
async def pid() -> int:
    return os.getpid()

@api.get("/client")
async def client(request: Request) -> str:
    return request.client.host

@api.get("/slow")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"

@api.get("/block")
async def block(seconds: float) -> str:
    time.sleep(seconds)
    return "done"

@api.get("/stream")
async def stream(chunks: int, bytes: int, pause: float = 0) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield b"x" * bytes
            await asyncio.sleep(pause)
    return StreamingResponse(body())

service = Service(api)
"""
HELLO = b"GET /pid HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    """Closes what a test opens."""
    with contextlib.ExitStack() as stack:
        yield stack


def connect(run: Run, clients: contextlib.ExitStack, *, room: int | None = None) -> socket.socket:
    """A connection. `room` is the client's receive buffer, in bytes."""
    client = socket.socket()
    clients.callback(client.close)
    if room is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.settimeout(20)
    client.connect(("127.0.0.1", run.port))
    return client


def ask_on(client: socket.socket, request: bytes = HELLO) -> int:
    """Send a request on a connection that stays open, and return the status."""
    client.sendall(request)
    reply = http.client.HTTPResponse(client)
    reply.begin()
    reply.read()
    return reply.status


def is_open(client: socket.socket) -> bool:
    """Whether the server has neither ended nor reset the connection. Takes nothing from it."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return not poll.poll(0)


def seconds_until(holds: Callable[[], bool], within: float) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"it did not come within {within} s"
        time.sleep(0.05)
    return time.monotonic() - began


def memory_kb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def unsent_bytes(run: Run) -> list[int]:
    """What the kernel holds for each client of the server that does not take it (proc_net(5))."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [line for line in lines if line[1].endswith(f":{run.port:04X}")]
    return [held for line in ours if (held := int(line[4].partition(":")[0], 16))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_head_is_cut_off_and_an_idle_connection_is_not(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start("--server", kind, app=APP, WORKHORSE_SERVER__HEAD_TIMEOUT_SECONDS="2")
    first, later, idle = (connect(run, clients) for _ in range(3))
    assert ask_on(later) == ask_on(idle) == 200
    began = time.monotonic()
    for sent in HELLO[:-2] + b"x: " + b"x" * 40:
        if not is_open(first) and not is_open(later):
            break
        for slow in (first, later):
            with contextlib.suppress(OSError):
                slow.send(bytes([sent]))
        time.sleep(0.2)
    took = time.monotonic() - began
    assert 2 <= took < 6
    assert ask_on(idle) == 200
    assert re.search(r"closed \d connections: \d slow heads", run.said)


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_and_an_idle_connection_are_closed_after_keep_alive(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start(
        "--server", kind, app=APP, WORKHORSE_SERVER__KEEP_ALIVE_SECONDS="3", WORKHORSE_SERVER__HEAD_TIMEOUT_SECONDS="1"
    )
    silent, idle = connect(run, clients), connect(run, clients)
    assert ask_on(idle) == 200
    time.sleep(2)
    assert is_open(silent)
    assert is_open(idle)
    seconds_until(lambda: not is_open(idle), 4)
    seconds_until(lambda: not is_open(silent), 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_does_not_take_its_reply_is_cut_off_and_one_that_does_is_not(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start("--server", kind, app=APP, WORKHORSE_SERVER__REPLY_PAUSE_SECONDS="2")
    (pid,) = run.pids()
    before = memory_kb(pid)
    request = b"GET /stream?chunks=%d&bytes=%d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    time.sleep(1.5)  # the watch has found the socket that listens
    never = [connect(run, clients, room=4096) for _ in range(20)]
    for client in never:
        client.sendall(request % (640, 100_000))
    patient = connect(run, clients, room=4096)
    patient.sendall(request % (1, 300_000))
    taken = len(patient.recv(4096))
    seconds_until(lambda: len(unsent_bytes(run)) >= 20, 2)
    held = unsent_bytes(run)
    began = time.monotonic()
    while taken < 300_000:  # in some six seconds
        taken += len(patient.recv(4096))
        time.sleep(0.08)
    assert time.monotonic() - began > 3
    seconds_until(lambda: not any(map(is_open, never)), 10)
    assert max(held) < 500_000
    # What was under way for 20 clients, 64,000 KB each, was held back by their slowness.
    assert memory_kb(pid) - before < 20 * 2000
    assert re.search(r"readers that did not take their reply", run.said)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_or_reply_that_only_takes_long_is_not_cut(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    short = {
        f"WORKHORSE_SERVER__{name}": "1"
        for name in ("HEAD_TIMEOUT_SECONDS", "KEEP_ALIVE_SECONDS", "REPLY_PAUSE_SECONDS")
    }
    run = start("--server", kind, app=APP, **short)
    slow = in_background(lambda: run.ask("GET", "/slow?seconds=8"))
    # A stream that says little, and seldom.
    stream = in_background(lambda: run.ask("GET", "/stream?chunks=4&bytes=1&pause=2"))
    assert stream.result()[1] == b"xxxx"
    assert slow.result() == (200, b'"done"')


@pytest.mark.parametrize("kind", KINDS)
def test_requests_that_wait_for_a_blocked_app_are_not_taken_for_slow_heads(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP, WORKHORSE_SERVER__HEAD_TIMEOUT_SECONDS="1")
    block = in_background(lambda: run.ask("GET", "/block?seconds=5"))
    time.sleep(0.3)
    waiting = [in_background(lambda: run.ask("GET", "/pid")[0]) for _ in range(5)]
    assert [one.result() for one in waiting] == [200] * 5
    assert block.result()[0] == 200
    assert "slow heads" not in run.said


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_idle_connections_cost_little_and_hold_up_nobody(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start("--server", kind, app=APP)
    (pid,) = run.pids()
    before = memory_kb(pid)
    idle = [connect(run, clients) for _ in range(2000)]
    assert all(ask_on(client) == 200 for client in idle)
    times = []
    for _ in range(50):
        began = time.monotonic()
        assert run.ask("GET", "/pid")[0] == 200
        times.append(time.monotonic() - began)
    assert sorted(times)[45] < 0.5
    assert memory_kb(pid) - before < 2000 * 100
    assert all(is_open(client) for client in idle)
    assert ask_on(idle[0]) == 200
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(15) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_when_connections_run_out_the_longest_idle_make_room(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start("--server", kind, app=APP, WORKHORSE_SERVER__MAX_CONNECTIONS="100")
    busy = in_background(lambda: run.ask("GET", "/slow?seconds=6", timeout=15))
    idle = [connect(run, clients) for _ in range(95)]
    assert ask_on(idle[-1]) == 200
    assert run.ask("GET", "/pid", timeout=5)[0] == 200
    seconds_until(lambda: sum(map(is_open, idle)) <= 85, 6)
    assert is_open(idle[-1])
    more = [connect(run, clients) for _ in range(300)]
    assert more
    # Beyond the number: in the kernel's backlog, or refused, but not for long.
    seconds_until(lambda: answers(run), 15)
    assert busy.result()[0] == 200
    assert re.search(r"closed \d+ connections: .*\d+ idle while connections run out", run.said)


def answers(run: Run) -> bool:
    try:
        return run.ask("GET", "/pid", timeout=15)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_is_too_large_is_refused_before_it_is_whole(
    kind: str, start: Start, clients: contextlib.ExitStack
) -> None:
    run = start("--server", kind, app=APP, WORKHORSE_SERVER__MAX_HEAD_BYTES="16384")
    (pid,) = run.pids()
    before = memory_kb(pid)
    client = connect(run, clients)
    with contextlib.suppress(OSError):  # it may hang up before all is sent
        client.sendall(b"GET /pid HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
        for _ in range(1024):
            client.sendall(b"x" * 65536)
    seconds_until(lambda: not is_open(client), 5)
    assert memory_kb(pid) - before < 16_000
    client = connect(run, clients)
    assert ask_on(client, HELLO[:-2] + b"x: " + b"x" * 20_000) == 431
    assert ask_on(connect(run, clients), HELLO[:-2] + b"x: " + b"x" * 8_000 + b"\r\n\r\n") == 200


@pytest.mark.parametrize("kind", KINDS)
def test_trailers_without_end_are_refused(kind: str, start: Start, clients: contextlib.ExitStack) -> None:
    run = start("--server", kind, app=APP)
    (pid,) = run.pids()
    before = memory_kb(pid)
    client = connect(run, clients)
    client.sendall(b"POST /pid HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    with contextlib.suppress(OSError):
        for number in range(20_000):
            client.sendall(b"x-%d: %s\r\n" % (number, b"x" * 1000))
    seconds_until(lambda: not is_open(client), 5)
    assert memory_kb(pid) - before < 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_no_server_believes_by_itself_what_a_client_says_of_its_address(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    assert run.ask("GET", "/client", {"x-forwarded-for": "192.0.2.1"}) == (200, b'"127.0.0.1"')


def test_more_connections_than_open_files_are_refused_at_the_start_with_the_mend(start: Start) -> None:
    run = start(app=APP, wait=False, WORKHORSE_SERVER__MAX_CONNECTIONS="100000000")
    assert run.process.wait(20) == 1
    assert "100000000 connections need 100000512 open files" in run.said
    assert "ulimit -Hn" in run.said
    assert "server.max_connections" in run.said
    assert "Traceback" not in run.said


def test_a_worker_has_the_open_files_that_its_connections_need(start: Start) -> None:
    run = start(app=APP, WORKHORSE_SERVER__MAX_CONNECTIONS="3000")
    (pid,) = run.pids()
    limits = Path(f"/proc/{pid}/limits").read_text()
    found = re.search(r"Max open files +(\d+)", limits)
    assert found is not None
    assert int(found[1]) >= 3512


def test_each_worker_watches_its_own_connections(start: Start, clients: contextlib.ExitStack) -> None:
    run = start("--workers", "2", app=APP, WORKHORSE_SERVER__HEAD_TIMEOUT_SECONDS="1")
    slow = [connect(run, clients) for _ in range(40)]
    for client in slow:
        client.sendall(b"GET")
    seconds_until(lambda: not any(map(is_open, slow)), 8)
    assert len(run.pids()) == 2
    assert os.getpid() not in run.pids()
