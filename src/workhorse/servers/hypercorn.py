"""hypercorn, for HTTP/2 without TLS termination elsewhere, and for apps on Trio: `pip install "workhorse[hypercorn]"`.

It bounds the size of a head, and, with one timer, the time that a connection is silent, idle or in the middle of a
head. It accepts every connection; the watch cuts slow heads and slow readers, and makes room where there are many.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from hypercorn.config import Config
from hypercorn.run import run as run_hypercorn

from workhorse.servers.launch import Launch, announce_when_started, begin_drain
from workhorse.servers.worker import FACTORY
from workhorse.service.supervision import say

__all__ = ["run"]

STOPS: Final = frozenset({signal.SIGINT, signal.SIGTERM})


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM. hypercorn stops at once: it has no hook for a pause before.

    It waits for replies that are under way, so those that have no end by themselves are told of the stop.
    """
    config = Config()
    config.application_path = f"{FACTORY}()"
    host = f"[{launch.host}]" if ":" in launch.host else launch.host
    config.bind = [f"{host}:{launch.port}"]
    config.workers = launch.workers
    config.worker_class = launch.runtime
    config.backlog = launch.backlog
    config.use_reloader = launch.reload
    config.keep_alive_timeout = launch.limits.keep_alive_seconds
    config.h11_max_incomplete_size = launch.limits.max_head_bytes
    config.h2_max_header_list_size = launch.limits.max_head_bytes
    config.graceful_timeout = launch.stop_timeout_seconds
    config.accesslog = None
    config.errorlog = "-"
    config.loglevel = "WARNING"
    config.include_server_header = False
    announce_when_started(launch, threading.Event())
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        begin_drain(launch)

    with noting_stops(stop):
        code = run_hypercorn(config)
    if code == 0 and not stopped.is_set():
        # hypercorn ends all workers when one dies, and forgets of what.
        say("workhorse: a worker has died, so hypercorn has ended the others: start it again")
        return 1
    return code


@contextmanager
def noting_stops(note: Callable[[], None]) -> Generator[None]:
    """Call `note`, in a thread, when a signal to stop arrives, whoever handles it. At the end all were noted."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def read() -> None:
        while arrived := os.read(reader, 1024):
            if not STOPS.isdisjoint(arrived):
                note()

    thread = threading.Thread(target=read, name="stops", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(writer)
        thread.join()
        os.close(reader)
