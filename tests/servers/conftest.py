"""Runs `workhorse run` as a user does: a process, a port, HTTP over a socket."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

APP = """
import asyncio, os
from fastapi import FastAPI
from workhorse import Policy, Service, unit

api = FastAPI()

@api.get("/pid")
async def pid() -> int:
    return os.getpid()

@api.get("/slow")
async def slow(seconds: float = 1) -> str:
    await asyncio.sleep(seconds)
    return "done"

@api.post("/notes", status_code=201)
async def note(text: str) -> dict[str, str]:
    await (await unit()).execute("SELECT 1")
    return {"text": text}

service = Service(api, policies=[Policy("POST /notes", idempotent=True)])
"""


@dataclass
class Run:
    """One `workhorse run`."""

    process: "subprocess.Popen[bytes]"
    port: int
    output: Path
    folder: Path

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, timeout: float = 10
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def wait_until(self, path: str, status: int, seconds: float = 20) -> float:
        """Wait for `path` to answer `status`, and return how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None and status != 0:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.said}")
            try:
                if self.ask("GET", path, timeout=2)[0] == status:
                    return time.monotonic() - began
            except OSError:
                if status == 0:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError(f"{path} did not answer {status} within {seconds} s:\n{self.said}")

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def pids(self) -> set[int]:
        """The worker processes, as they name themselves."""
        return {json.loads(self.ask("GET", "/pid")[1]) for _ in range(30)}


Start = Callable[..., Run]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Iterator[Start]:
    """Start `workhorse run`; whatever still runs at the end is killed with its group."""
    runs: list[Run] = []

    def run(*arguments: str, app: str = APP, wait: bool = True, port: int | None = None, **environment: str) -> Run:
        (tmp_path / "served.py").write_text(app)
        port = port or free_port()
        output = tmp_path / f"output-{len(runs)}"
        env = {**os.environ, "DATABASE_URL": database_url, **environment}
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "workhorse.cli", "run", "served:service", "--port", str(port), *arguments],
                cwd=tmp_path,
                env=env,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started = Run(process, port, output, tmp_path)
        runs.append(started)
        if wait:
            started.wait_until("/-/ready", 200)
        return started

    yield run
    for one in runs:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            try:
                one.process.wait(15)
            except subprocess.TimeoutExpired:
                one.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether the process ends within the time. A zombie has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def in_background(call: Callable[[], Any]) -> "Background":
    return Background(call)


class Background:
    """A call in a thread, whose result or exception is waited for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        import threading

        self._result: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = call()
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self, seconds: float = 20) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call did not end"
        if self._error is not None:
            raise self._error
        return self._result
