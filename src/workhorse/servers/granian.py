"""granian: the default, because it costs least a request, and does not break POSTs on idle connections.

What is added: workers are spawned, not forked (the main process has threads and locks by then); a worker that dies
is replaced, but only once one has served, so that an app that cannot start ends the run instead of a loop; a stop
first drains.

Its limits on connections are two. Each worker accepts `max_connections` and leaves the rest in the kernel's backlog.
One timer covers a connection that is silent, idle, or in the middle of a head: it begins anew with each request, not
with each byte. That is the time for idle connections; slow heads and slow readers are cut by the watch. HTTP/1.1 only:
where it may be HTTP/2 as well, that timer does not run until the client has sent enough to tell.
"""

import multiprocessing
import threading
import time
from types import FrameType
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from workhorse.servers.launch import Launch, announce_when_started, begin_drain
from workhorse.servers.worker import FACTORY

__all__ = ["run"]

RESPAWN_CHECK_SECONDS = 1.0


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM."""
    multiprocessing.set_start_method("spawn", force=True)
    limits = launch.limits
    server: Any = Granian(
        FACTORY,
        factory=True,
        address=launch.host,
        port=launch.port,
        interface=Interfaces.ASGI,
        loop=Loops.auto,
        workers=launch.workers,
        backlog=launch.backlog,
        backpressure=limits.max_connections,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(max(limits.keep_alive_seconds, limits.head_timeout_seconds) * 1000),
            max_buffer_size=limits.max_head_bytes,
        ),
        workers_kill_timeout=launch.stop_timeout_seconds,
        respawn_failed_workers=False,
        respawn_interval=0.1,
        reload=launch.reload,
        log_level=LogLevels.warning,
        log_access=False,
    )
    interrupt = server.signal_handler_interrupt
    stopping = threading.Event()

    def stop(signum: int = 0, frame: FrameType | None = None) -> None:
        if stopping.is_set() or not launch.drain_seconds:
            begin_drain(launch)
            interrupt(signum, frame)
            return
        stopping.set()
        begin_drain(launch)
        pause = threading.Timer(launch.drain_seconds, interrupt)
        pause.daemon = True
        pause.start()

    server.signal_handler_interrupt = stop
    started = threading.Event()
    announce_when_started(launch, started)

    def see_to_respawns() -> None:
        started.wait()
        server.respawn_failed_workers = True
        while True:
            time.sleep(RESPAWN_CHECK_SECONDS)
            # A worker that dies while granian replaces another can be overlooked: it clears its wake-up after its list.
            if server.interrupt_children:
                server.main_loop_interrupt.set()

    threading.Thread(target=see_to_respawns, name="respawn", daemon=True).start()
    try:
        server.serve()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
