"""What the app knows of connections: for which clients it works right now, and for which it has just ended a request.

Written by the app's thread, read by the watch's. Every step of both is one operation of a dict or a deque, which the
interpreter does as a whole, so neither waits for the other.
"""

from collections import deque
from typing import Any

from workhorse.servers.connections import Peer

__all__ = ["Ledger", "peer_of"]


class Ledger:
    """Requests under way, by client."""

    __slots__ = ("ended", "multiplexed", "under_way")

    def __init__(self) -> None:
        self.under_way: dict[Peer, int] = {}
        """How many each client has. A client without any is not in it."""
        self.ended: deque[Peer] = deque()
        """The clients of requests that have ended since the watch last emptied it: it is kept only beside a watch."""
        self.multiplexed: deque[Peer] = deque()
        """The same for HTTP/2."""

    def begin(self, peer: Peer) -> None:
        """The app begins to work for `peer`."""
        self.under_way[peer] = self.under_way.get(peer, 0) + 1

    def end(self, peer: Peer, *, multiplexed: bool) -> None:
        """It has ended one request of `peer`, which may have others under way where they are multiplexed."""
        left = self.under_way[peer] - 1
        if left:
            self.under_way[peer] = left
        else:
            del self.under_way[peer]
        (self.multiplexed if multiplexed else self.ended).append(peer)

    def take_ended(self) -> tuple[set[Peer], set[Peer]]:
        """Empty both lists: the clients that ended a request, and those that did so over HTTP/2."""
        return _drain(self.ended), _drain(self.multiplexed)


def _drain(noted: deque[Peer]) -> set[Peer]:
    return {noted.popleft() for _ in range(len(noted))}


def peer_of(client: Any) -> Peer | None:
    """The client's address in one form: some servers tell the port as text, some a scope with a link-local address."""
    if not client or client[1] is None:
        return None
    return client[0].partition("%")[0], int(client[1])
