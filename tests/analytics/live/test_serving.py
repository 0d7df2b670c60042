"""Streams of real servers over sockets: several processes, clients that do not read, processes that die or stop."""

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.servers.conftest import Run, Start

pytestmark = pytest.mark.slow

SECONDS = 20.0
KINDS = ["granian", "uvicorn", "hypercorn"]
APP = """
import os
from fastapi import FastAPI
from workhorse import Policy, Service, unit
from workhorse.analytics.live import Live
from workhorse.analytics.measures import Measure, Measures
from workhorse.identity import Bearer
from workhorse.integrations.live import live_routes

api = FastAPI()
measures = Measures([Measure("revenue", of="order.placed", by=("currency",), window="1 day", sum="amount")])
live = Live(measures, stall_seconds=2)

@api.post("/orders", status_code=201)
async def place(amount: str, currency: str = "EUR") -> int:
    await (await unit()).emit("order.placed", subject="shop", data={"amount": amount, "currency": currency})
    return os.getpid()

api.router.routes += live_routes("/live", live.stream("revenue"))
service = Service(api, feeds=measures.feeds, live=live)
"""
GUARDED = APP.replace("FastAPI()", "FastAPI(openapi_url=None, docs_url=None, redoc_url=None)").replace(
    "live=live)",
    'live=live, identity=Bearer(), policies=[Policy("POST /orders", scope="orders:write"),'
    ' Policy("GET /live", scope="figures:read")])',
)


class Stream:
    """One stream of events, read by hand: `http.client` takes its chunks apart."""

    def __init__(self, run: Run, headers: dict[str, str] | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=SECONDS)
        self.connection.request("GET", "/live", headers=headers or {})
        self.reply = self.connection.getresponse()
        self.status = self.reply.status

    def events(self) -> Iterator[tuple[str, str, Any]]:
        """Kind, id and data of each, until the stream ends."""
        fields: dict[str, str] = {}
        for line in self.reply:
            if line == b"\n":
                if "event" in fields:
                    yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                fields = {}
            elif not line.startswith(b":"):
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = value

    def until(self, events: int) -> tuple[str, str]:
        """Read until EUR has so many events. Gives the kind and the id of what told so."""
        for kind, id_, data in self.events():
            for row in data.get("revenue", {}).get("rows", ()):
                if row["by"]["currency"] == "EUR" and row["events"] == events:
                    return kind, id_
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.connection.close()


@contextmanager
def watching(run: Run, **headers: str) -> Iterator[Stream]:
    stream = Stream(run, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        yield stream
    finally:
        stream.close()


def order(run: Run, amount: str = "1") -> None:
    assert run.ask("POST", f"/orders?amount={amount}")[0] == 201


def over_a_socket(
    run: Run, script: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]], **headers: str
) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(SECONDS),
            aiohttp.ClientSession(headers=headers) as session,
            session.ws_connect(f"http://127.0.0.1:{run.port}/live") as socket_,
        ):
            await script(socket_)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_streams_tell_what_changes_and_end_when_the_server_stops(kind: str, start: Start) -> None:
    run = start("--server", kind, app=APP)
    ended: list[int | None] = []

    async def script(socket_: aiohttp.ClientWebSocketResponse) -> None:
        first = await socket_.receive_json()
        assert (first["event"], first["data"]["revenue"]["rows"]) == ("snapshot", [])
        await asyncio.to_thread(order, run)
        second = await socket_.receive_json()
        while not second["data"]["revenue"]["rows"]:  # the feed has begun in between
            second = await socket_.receive_json()
        assert second["data"]["revenue"]["rows"][0]["sum"] == "1"
        with watching(run, Last_Event_ID=second["id"]) as stream:
            await asyncio.to_thread(order, run)
            assert (await asyncio.to_thread(stream.until, 2))[0] == "change"
            run.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(lambda: list(stream.events())) == []
        while (await socket_.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        ended.append(socket_.close_code)

    over_a_socket(run, script)
    assert run.process.wait(8) == 0, run.said
    # Come again; or the server has closed it by itself, before that word was on its way.
    assert ended[0] in {1012, 1006}
    assert "Traceback" not in run.said


def test_those_who_watch_at_any_process_are_told_and_one_that_dies_hands_them_over(start: Start) -> None:
    first = start("--workers", "2", app=APP)
    second = start(app=APP)
    order(first)
    streams = [Stream(run) for run in (first, first, first, first, second)]
    seen = [stream.until(1) for stream in streams]
    order(second)
    last = [stream.until(2) for stream in streams]
    assert {kind for kind, _ in last} == {"change"}
    assert len({id_ for _, id_ in last}) == 1, "a position is the same in all processes"
    assert seen[0][1] != last[0][1]

    first.process.kill()
    assert first.process.wait(10)
    for stream in streams:
        stream.close()
    order(second, "40")
    with watching(second, Last_Event_ID=last[0][1]) as again:
        kind, _ = again.until(3)
        assert kind == "change", "only what has changed since, although that was another process"


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_does_not_read_is_cut_and_holds_no_memory(kind: str, start: Start, database_url: str) -> None:
    run = start("--server", kind, app=APP)
    order(run)
    with psycopg.connect(database_url, autocommit=True) as database, socket.socket() as deaf:
        until = time.monotonic() + SECONDS
        while not database.execute("SELECT 1 FROM workhorse.measures").fetchall():
            assert time.monotonic() < until
            time.sleep(0.05)
        database.execute(
            "INSERT INTO workhorse.measures (measure, version, starts, by, events, rejected, summed, averaged_of)"
            " SELECT measure, version, starts, jsonb_build_object('currency', 'C' || n), 1, 0, 1, 0"
            " FROM workhorse.measures, generate_series(1, 3000) n"
        )
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", run.port))
        deaf.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert deaf.recv(100).startswith(b"HTTP/1.1 200")
        resident = memory_mb(run)
        # Half a megabyte of changes each time: a queue of them would be seen.
        ends = ""
        for _ in range(150):
            database.execute("UPDATE workhorse.measures SET events = events + 1")
            database.execute("UPDATE workhorse.feeds SET events = events + 1")
            ends = run.ask("GET", "/-/metrics")[1].decode()
            if 'workhorse_live_ends_total{reason="stalled"} 1' in ends or 'reason="left"} 1' in ends:
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"it was not cut: {[line for line in ends.splitlines() if 'live_' in line]}")
        assert memory_mb(run) - resident < 40
        assert "workhorse_live_subscribers 0" in run.ask("GET", "/-/metrics")[1].decode()
        deaf.settimeout(SECONDS)
        with suppress(ConnectionResetError):  # as hypercorn does it
            while deaf.recv(1 << 20):
                pass


def memory_mb(run: Run) -> float:
    """What the processes of a run have resident."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == run.process.pid:  # its session
                    total += int(fields[21]) * 4096
            except OSError:
                pass
    return total / 1024 / 1024


def test_only_who_may_read_the_figures_watches_them(start: Start, tmp_path: Path) -> None:
    run = start(app=GUARDED, WORKHORSE_EMBEDDED__FOLDER=str(tmp_path / "embedded"))

    def token(scope: str) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "workhorse.cli", "token", "alice", "--scope", scope],
            cwd=tmp_path,
            env={"WORKHORSE_EMBEDDED__FOLDER": str(tmp_path / "embedded"), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return f"Bearer {made.stdout.strip()}"

    reader, writer = token("figures:read"), token("orders:write")
    for headers, status in (({}, 401), ({"Authorization": writer}, 403), ({"Authorization": reader}, 200)):
        with watching(run, **headers) as stream:
            assert stream.status == status
            if status == 200:
                assert next(stream.events())[0] == "snapshot"
    for headers in ({}, {"authorization": writer}):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            over_a_socket(run, lambda _: asyncio.sleep(0), **headers)

    async def script(socket_: aiohttp.ClientWebSocketResponse) -> None:
        assert (await socket_.receive_json())["event"] == "snapshot"

    over_a_socket(run, script, authorization=reader)
