"""`workhorse jobs` and `workhorse worker`, as operators type them."""

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tests.jobs.kit import Sql, opened, until, working
from workhorse.cli import main
from workhorse.jobs import ONCE, job

SERVICE = """
from fastapi import FastAPI
from workhorse import Service
from workhorse.caching import Caches
from workhorse.jobs import job
from workhorse.units import unit

caches = Caches()
numbers = caches.open("numbers", int, ttl=60)

@job()
async def note(number: int) -> None:
    work = await unit()
    await work.execute("INSERT INTO effects (what) VALUES (%s)", (str(number),))
    await numbers.delete_with(work, "latest")

service = Service(FastAPI(), jobs=[note], caches=caches)
"""


@job(retries=ONCE)
async def note(number: int) -> None:
    if number < 0:
        raise RuntimeError("no number")


@pytest.fixture(autouse=True)
def _named_database(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)


def test_operators_list_show_retry_and_cancel(url: str, sql: Sql, capsys: pytest.CaptureFixture[str]) -> None:
    async def prepare() -> list[str]:
        async with opened(url) as database, working(url, database, [note]):
            dead = await note.options(key="k 1").enqueue_alone(database, -1)
            later = await note.options(delay=timedelta(hours=1)).enqueue_alone(database, 1)
            await until(lambda: sql("SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'") == [(1,)])
            return [str(dead), str(later)]

    dead, later = asyncio.run(prepare())
    assert main(["jobs", "list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == ["ID", later, dead]
    assert main(["jobs", "list", "--state", "dead", "--name", "note"]) == 0
    assert later not in capsys.readouterr().out
    assert main(["jobs", "show", dead]) == 0
    shown = capsys.readouterr().out
    assert "state     dead" in shown
    assert "RuntimeError: no number" in shown
    assert '"number"' not in shown, "arguments are not shown"
    assert main(["jobs", "retry", "--all-dead"]) == 0
    assert "1 of 1" in capsys.readouterr().out
    assert sql("SELECT state::text FROM workhorse.jobs WHERE id = %s", dead) == [("ready",)]
    assert main(["jobs", "cancel", later]) == 0
    assert main(["jobs", "show", later]) == 0
    assert "state     cancelled" in capsys.readouterr().out
    assert main(["jobs", "purge"]) == 0
    assert main(["jobs", "workers"]) == 0
    assert main(["jobs", "cancel", str(uuid4())]) == 1
    assert main(["jobs", "retry"]) == 2
    assert main(["jobs", "list", "--limit", "0"]) == 2


def asked(address: str, path: str, *, host: str = "localhost", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, headers={"host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_workers_address_that_is_taken_stops_its_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("WORKHORSE_OPERATIONS__WORKER_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        assert main(["worker", "shop:service"]) == 1
    assert "a port of its own" in capfd.readouterr().err


@pytest.mark.slow
def test_a_worker_is_started_by_the_name_of_its_service(url: str, sql: Sql, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)

    async def prepare() -> None:
        async with opened(url) as database:
            await note.enqueue_alone(database, 5)

    asyncio.run(prepare())
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "workhorse.cli", "worker", "shop:service", "--concurrency", "3"],
            cwd=tmp_path,
            env={
                **os.environ,
                "DATABASE_URL": url,
                "WORKHORSE_CACHE__STORE": "database",
                "WORKHORSE_LOG__FORMAT": "json",
                "WORKHORSE_OPERATIONS__WORKER_ADDRESS": "127.0.0.1:0",
            },
            stdout=stream,
            stderr=stream,
        )
    try:
        give_up = time.monotonic() + 40
        while sql("SELECT what FROM effects") != [("5",)]:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        found = re.search(r'"worker.endpoint".*"address":"([^"]+)"', log.read_text())
        assert found is not None, log.read_text()
        assert asked(found[1], "/-/live")[0] == asked(found[1], "/-/ready")[0] == 200
        while 'workhorse_jobs_ended_total{job="note",outcome="committed"} 1' not in asked(found[1], "/-/metrics")[1]:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        assert asked(found[1], "/-/metrics", host="evil.example")[0] == asked(found[1], "/other")[0] == 404
        assert asked(found[1], "/-/live", method="POST")[0] == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait(10)
    assert "worker.started" in log.read_text()


def test_a_service_without_jobs_has_no_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jobless.py").write_text(
        "from fastapi import FastAPI\nfrom workhorse import Service\nservice = Service(FastAPI())\n"
    )
    assert main(["worker", "jobless:service"]) == 2
    assert "has no jobs" in capsys.readouterr().err
