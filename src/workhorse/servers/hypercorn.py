"""hypercorn, for HTTP/2 without TLS termination elsewhere and for Trio later: `pip install "workhorse[hypercorn]"`.

It bounds the size of a head, and, with one timer, the time that a connection is silent, idle or in the middle of a
head. It accepts every connection; the watch cuts slow heads and slow readers, and makes room where there are many.
"""

import threading

from hypercorn.config import Config
from hypercorn.run import run as run_hypercorn

from workhorse.servers.launch import Launch, announce_when_started
from workhorse.servers.worker import FACTORY

__all__ = ["run"]


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM. hypercorn stops at once: it has no hook for a pause before."""
    config = Config()
    config.application_path = f"{FACTORY}()"
    host = f"[{launch.host}]" if ":" in launch.host else launch.host
    config.bind = [f"{host}:{launch.port}"]
    config.workers = launch.workers
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
    return run_hypercorn(config)
