"""uvicorn, for those who run it already: `pip install "workhorse[uvicorn]"`."""

import signal
import threading
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import ChangeReload, Multiprocess

from workhorse.servers.launch import Launch, announce_when_started, begin_drain

__all__ = ["run"]

# Idle connections must outlive the load balancer's own limit (often 60 s), or it sends a POST into a closing one.
KEEP_ALIVE_SECONDS = 75


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        launch.target,
        host=launch.host,
        port=launch.port,
        workers=launch.workers,
        reload=launch.reload,
        backlog=launch.backlog,
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=launch.stop_timeout_seconds,
        server_header=False,
    )
    announce_when_started(launch, threading.Event())
    for signum in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal that ended it once more, for the handlers that were there before: these.
        signal.signal(signum, _ignore)
    server = uvicorn.Server(config)
    if config.should_reload:
        ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()
    elif launch.workers > 1:
        Multiprocess(config, sockets=[config.bind_socket()]).run()
    else:
        _drain_first(server, launch)
        server.run()
        return 0 if server.started else 1
    return 0


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Take no notice of a signal that has done its work already."""


def _drain_first(server: Any, launch: Launch) -> None:
    """Put the pause of draining before uvicorn's own stop. A second signal stops at once."""
    handle_exit = server.handle_exit
    asked = threading.Event()

    def stop(sig: int, frame: object) -> None:
        begin_drain(launch)
        if asked.is_set() or not launch.drain_seconds:
            handle_exit(sig, frame)
            return
        asked.set()
        pause = threading.Timer(launch.drain_seconds, handle_exit, (sig, frame))
        pause.daemon = True
        pause.start()

    server.handle_exit = stop
