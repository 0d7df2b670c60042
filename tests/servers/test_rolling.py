"""Instances are replaced one by one under load, and no request is lost (docs/operation.md)."""

import http.client
import itertools
import signal
import threading
import time
from contextlib import closing, suppress
from typing import Self

import pytest

from tests.servers.conftest import Run, Start, free_port

pytestmark = pytest.mark.slow

NOTICE_SECONDS = 0.1
"""How often the balancer looks who is ready."""
PAUSE_SECONDS = 1.0
"""How long an instance goes on serving once it is out of the balancer's hands: much longer than that."""


class Balancer:
    """Sends requests to the instances that are ready, on connections that it keeps, as balancers do.

    What it cannot deliver is lost: it tries nothing twice.
    """

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._ready: list[int] = list(ports)
        self._out: set[int] = set()
        self._turn = itertools.count()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self.answered = 0
        self.by_port: dict[int, int] = dict.fromkeys(ports, 0)
        self.lost: list[str] = []

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._look), *(threading.Thread(target=self._send) for _ in range(4))]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def take_out(self, port: int) -> None:
        """As Kubernetes does with a pod that is to end, whatever its readiness says."""
        self._out.add(port)

    def put_in(self, port: int) -> None:
        self._out.discard(port)

    def wait_for(self, port: int) -> None:
        until = time.monotonic() + 30
        while port not in self._ready:
            assert time.monotonic() < until, f"{port} is not ready again"
            time.sleep(0.02)

    def _look(self) -> None:
        while not self._end.wait(NOTICE_SECONDS):
            self._ready = [port for port in self._ports if port not in self._out and self._is_ready(port)]

    def _is_ready(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/-/ready")
            with connection.getresponse() as reply:
                return reply.status == 200
        return False

    def _send(self) -> None:
        kept: dict[int, http.client.HTTPConnection] = {}
        while not self._end.is_set():
            ready = self._ready
            for gone in kept.keys() - set(ready):  # whoever is not ready gets new connections when it is again
                kept.pop(gone).close()
            if not ready:
                time.sleep(0.01)
                continue
            number = next(self._turn)
            port = ready[number % len(ready)]
            if port not in kept:
                kept[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection = kept[port]
            method, path = ("POST", f"/notes?text={number}") if number % 2 else ("GET", "/slow?seconds=0.05")
            try:
                connection.request(method, path)
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{method} to {port}: {error!r}")
                connection.close()
                continue
            if reply.status >= 500:
                self.lost.append(f"{method} to {port}: {reply.status}")
            self.answered += 1
            self.by_port[port] += 1
        for connection in kept.values():
            connection.close()


@pytest.mark.parametrize("kind", ["granian", "uvicorn", "hypercorn"])
def test_a_rolling_restart_under_load_loses_no_request(kind: str, start: Start) -> None:
    # hypercorn has no hook for a pause of its own: it gets that from outside, as from a preStop of Kubernetes.
    drain = "0" if kind == "hypercorn" else str(PAUSE_SECONDS)

    def instance(port: int) -> Run:
        return start("--server", kind, port=port, WORKHORSE_SERVER__DRAIN_SECONDS=drain)

    ports = [free_port(), free_port()]
    runs = {port: instance(port) for port in ports}
    with Balancer(ports) as balancer:
        time.sleep(0.5)
        for port in ports:
            if kind == "hypercorn":
                balancer.take_out(port)
                time.sleep(PAUSE_SECONDS)
            runs[port].process.send_signal(signal.SIGTERM)
            assert runs[port].process.wait(20) == 0, runs[port].said
            served = balancer.by_port[port]
            runs[port] = instance(port)
            balancer.put_in(port)
            balancer.wait_for(port)
            time.sleep(0.5)
            assert balancer.by_port[port] > served, "the new instance got no request"
    assert balancer.lost == []
    assert balancer.answered > 50
