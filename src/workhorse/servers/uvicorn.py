"""uvicorn, for those who run it already: `pip install "workhorse[uvicorn]"`.

With httptools it bounds neither the size of a head nor the number of connections, so its protocol is extended by both
here. It times idle connections once they have had a reply; the watch times silent ones, slow heads and slow readers.
"""

import asyncio
import signal
import threading
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors import ChangeReload, Multiprocess

from workhorse.servers.launch import Launch, announce_when_started, begin_drain
from workhorse.servers.worker import FACTORY

__all__ = ["BoundedConfig", "BoundedProtocol", "run"]

TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def run(launch: Launch) -> int:
    """Serve until SIGINT or SIGTERM."""
    config = BoundedConfig(
        FACTORY,
        factory=True,
        http=BoundedProtocol,
        # Who the client is behind proxies is the guard's to decide, from the proxies that the settings trust.
        proxy_headers=False,
        host=launch.host,
        port=launch.port,
        workers=launch.workers,
        reload=launch.reload,
        backlog=launch.backlog,
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=launch.limits.keep_alive_seconds,
        timeout_graceful_shutdown=launch.stop_timeout_seconds,
        server_header=False,
    )
    config.max_connections = launch.limits.max_connections
    config.max_head_bytes = launch.limits.max_head_bytes
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


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration, which its worker processes get as a copy, and what `BoundedProtocol` adds to it."""

    max_connections: int
    max_head_bytes: int


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, refusing connections above a number and bytes that become neither head nor body.

    The parser keeps what it has of a head, and likewise of the trailers of a chunked body, for as long as they come.
    """

    config: BoundedConfig
    _unused: int = 0
    """Bytes that came since the parser last made something of them."""
    _in_head: bool = False
    """Whether fields that come are those of a head, and no trailers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or hang up on it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unused += len(data)
        super().data_received(data)
        if self._unused > self.config.max_head_bytes and not self.transport.is_closing():
            cycle = cast("RequestResponseCycle | None", self.cycle)
            if cycle is None or cycle.response_complete:
                self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field has come; one of a trailer is dropped.

        uvicorn would put it among those of the head, of which the proxies in front and the guard have made sure.
        """
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._unused = 0
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body has come."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete."""
        self._unused = 0
        super().on_message_complete()


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
