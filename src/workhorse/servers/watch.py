"""Looks at every client's connection of this process about once a second, and cuts those that hold too much too long.

No server can do all of that by itself (docs/decisions/0011 has the list), and none shows its connections. But they are
open files of this process: /proc/self/fd lists them, the kernel tells of each how many bytes came, went and wait, and
shutting one down is for the server as if the client had gone away, which every server survives. So one watch serves
all three servers, whatever language they are written in. It is a thread, so that it gets on when the app does not.

The server may close a file at any instant, and its number may come back as another one's. So a socket is duplicated
first, then looked at, then shut down, then closed: all four mean the same connection, whatever the server does.

Linux only: elsewhere the servers' own limits stand alone.
"""

import logging
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from workhorse.bridge import AnyLoop
from workhorse.servers.connections import Connection, Cut, Look, Peer, choose_victims
from workhorse.servers.ledger import Ledger, peer_of
from workhorse.servers.limits import ConnectionLimits

__all__ = ["Watch", "can_watch", "read_look"]

DESCRIPTORS: Final = Path("/proc/self/fd")
SWEEP_SECONDS: Final = 1.0
BATCH: Final = 64
BATCH_PAUSE_SECONDS: Final = 0.01
"""A pause after so many connections, so that the app's thread does not wait for a whole sweep (17 us a connection)."""
DISCARD: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: when the server closes, what waits to be sent is given up, with its memory."""
SEND_AHEAD_BYTES: Final = 128 * 1024
"""What the kernel holds of a reply beyond what the client has room for. It would take some megabytes by default, for
each client that does not read; held back here, the server holds back the app."""
FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})

# struct tcp_info of linux/tcp.h, whose fields have kept their places: the state, then those that `Look` names.
TCP_INFO_BYTES: Final = 148
TCP_INFO_ROOM: Final = 256
ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
_UNACKNOWLEDGED: Final = struct.Struct("=I")
_LAST_SENT_AND_RECEIVED: Final = struct.Struct("=I4xI")
_ACKNOWLEDGED_RECEIVED_UNSENT: Final = struct.Struct("=QQ8xI")

logger = logging.getLogger("workhorse.connections")


def can_watch() -> bool:
    """Whether this system tells what the watch needs."""
    return sys.platform == "linux" and DESCRIPTORS.is_dir()


class Watch:
    """The thread.

    Args:
        port: the one that the server listens on.
        limits: what holds for its connections.
        ledger: what the app knows of them.
        loop: the one that runs the app.
    """

    def __init__(self, *, port: int, limits: ConnectionLimits, ledger: Ledger, loop: AnyLoop) -> None:
        self._port = port
        self._limits = limits
        self._ledger = ledger
        self._loop = loop
        self._loop_asked = self._loop_answered = 0
        self._connections: dict[int, Connection] = {}
        """By inode, which is one socket's for as long as that is open; a descriptor's number is not."""
        self._others: set[int] = set()
        """Inodes of sockets that are no client's."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. The thread ends within a moment, for which nobody waits."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_SECONDS):
            try:
                cuts = self._sweep()
            except Exception:  # a watch that ended would leave the server without one
                logger.exception("the connections could not be looked at; the next try follows")
                continue
            if cuts:
                reasons = ", ".join(f"{count} {cut.value}" for cut, count in cuts.items())
                logger.warning("closed %d connections: %s", cuts.total(), reasons)

    def _sweep(self) -> Counter[Cut]:
        """Look at every connection once, and cut those that are to be cut."""
        stalled = self._is_loop_stalled()
        ended, multiplexed = self._ledger.take_ended()
        cuts: Counter[Cut] = Counter()
        present: set[int] = set()
        for count, name in enumerate(os.listdir(DESCRIPTORS), 1):  # noqa: PTH208 - thousands of names, and no paths
            if count % BATCH == 0:
                time.sleep(BATCH_PAUSE_SECONDS)
            descriptor = int(name)
            inode = _socket_inode(descriptor)
            if inode is None:
                continue
            present.add(inode)
            opened = None if inode in self._others else _open(descriptor, inode)
            if opened is None:
                continue
            with opened as sock:
                connection = self._connections.get(inode) or self._take_up(sock, inode)
                look = None if connection is None else read_look(sock)
                if connection is None or look is None:
                    continue
                connection.descriptor = descriptor
                connection.multiplexed = connection.multiplexed or connection.peer in multiplexed
                cut = connection.judge(
                    look,
                    busy=connection.peer in self._ledger.under_way,
                    finished=connection.peer in ended,
                    stalled=stalled,
                    now=time.monotonic(),
                    limits=self._limits,
                )
                if cut is not None:
                    _shut(sock, discard=cut is Cut.READER)
                    cuts[cut] += 1
        for inode in self._connections.keys() - present:
            del self._connections[inode]
        self._others &= present
        for victim in choose_victims(list(self._connections.values()), self._limits):
            cuts[Cut.CROWD] += self._relieve_of(victim)
        return cuts

    def _take_up(self, sock: socket.socket, inode: int) -> Connection | None:
        """Remember a socket that was not seen before: as a client's, or as one to leave alone.

        What is set on the one that listens, later connections have from the start.
        """
        peer = _client_of(sock, self._port)
        if peer is None and _listens_at(sock, self._port):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SEND_AHEAD_BYTES)
        if peer is None:
            self._others.add(inode)
            return None
        connection = self._connections[inode] = Connection(peer, inode)
        return connection

    def _relieve_of(self, victim: Connection) -> bool:
        """Close an idle connection, unless a request has come on it since it was looked at."""
        opened = _open(victim.descriptor, victim.inode)
        if opened is None:
            return False
        with opened as sock:
            look = read_look(sock)
            if look is None or look.received != victim.received or victim.peer in self._ledger.under_way:
                return False
            _shut(sock, discard=False)
            return True

    def _is_loop_stalled(self) -> bool:
        """Whether the app's loop has not got to what it was asked at the last sweep. Asks it again otherwise.

        Requests whose heads have long come then wait for the app, and must not be taken for slow ones.
        """
        if self._loop_answered < self._loop_asked:
            return True
        self._loop_asked += 1
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # it is closed: the server has stopped
            self._stopping.set()
        return False

    def _answer(self) -> None:
        self._loop_answered = self._loop_asked


def read_look(sock: socket.socket) -> Look | None:
    """Ask the kernel about a connection; None for one that is not open any more, or if the kernel tells too little."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_ROOM)
    if len(info) < TCP_INFO_BYTES or info[0] not in {ESTABLISHED, CLOSE_WAIT}:
        return None
    (unacknowledged,) = _UNACKNOWLEDGED.unpack_from(info, 24)
    last_sent_ms, last_received_ms = _LAST_SENT_AND_RECEIVED.unpack_from(info, 44)
    acknowledged, received, unsent = _ACKNOWLEDGED_RECEIVED_UNSENT.unpack_from(info, 120)
    return Look(received, acknowledged, unsent, unacknowledged, min(last_sent_ms, last_received_ms) / 1000)


def _socket_inode(descriptor: int) -> int | None:
    """The inode behind a descriptor; None if that is no socket, or not open any more."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


def _open(descriptor: int, inode: int) -> socket.socket | None:
    """A second descriptor of the socket with that inode; None if the first one is not its any more."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    if _socket_inode(copy) != inode:
        os.close(copy)
        return None
    # The family matters only where an address is read (see `_by_its_family`); named, it saves Python three questions.
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=copy)


def _client_of(sock: socket.socket, port: int) -> Peer | None:
    """The peer of a connection that came in at `port`; None for any other socket."""
    try:
        with _by_its_family(sock) as known:
            own_port = known.getsockname()[1] if known.family in FAMILIES else None
            return peer_of(known.getpeername()) if own_port == port else None
    except OSError:  # it listens, or is closed
        return None


def _listens_at(sock: socket.socket, port: int) -> bool:
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    with _by_its_family(sock) as known:
        return known.family in FAMILIES and known.getsockname()[1] == port


def _by_its_family(sock: socket.socket) -> socket.socket:
    """The same socket as one of its own family, which decides how its addresses are read."""
    return socket.socket(fileno=os.dup(sock.fileno()))


def _shut(sock: socket.socket, *, discard: bool) -> None:
    """End a connection: for the server it is as if the client had gone. With `discard`, unsent bytes are given up."""
    try:
        if discard:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DISCARD)
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("a connection had ended by itself")
