"""hypercorn, for HTTP/2 without TLS termination elsewhere and for Trio later: `pip install "workhorse[hypercorn]"`."""

import threading

from hypercorn.config import Config
from hypercorn.run import run as run_hypercorn

from workhorse.servers.launch import Launch, announce_when_started

__all__ = ["run"]

KEEP_ALIVE_SECONDS = 75


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM. hypercorn stops at once: it has no hook for a pause before."""
    config = Config()
    config.application_path = launch.target
    host = f"[{launch.host}]" if ":" in launch.host else launch.host
    config.bind = [f"{host}:{launch.port}"]
    config.workers = launch.workers
    config.backlog = launch.backlog
    config.use_reloader = launch.reload
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.graceful_timeout = launch.stop_timeout_seconds
    config.accesslog = None
    config.errorlog = "-"
    config.loglevel = "WARNING"
    config.include_server_header = False
    announce_when_started(launch, threading.Event())
    return run_hypercorn(config)
