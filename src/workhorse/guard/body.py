"""A request's body on its way to the app: counted, looked into, and timed.

It is apart from the exchange for two reasons. Most requests have no body, and pay for none of this. And it waits: the
modules that only decide are compiled, and a coroutine is not, because a compiled one passes a cancellation on in a way
that Python has deprecated.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Final, NoReturn, Protocol

from workhorse.asgi import Message, Receive
from workhorse.errors import Problem
from workhorse.guard.checks.body import PaceRules, check_pace, refuse_body
from workhorse.guard.exchange import Exchange, Refused
from workhorse.guard.problems import BodyIncomplete, Overloaded
from workhorse.guard.shedding import SHED, Limiter
from workhorse.guard.verdict import Refusal
from workhorse.networks import network_of

__all__ = ["Body", "Budget", "Inspector"]


class Inspector(Protocol):
    """Looks into a body as it streams."""

    control: str
    """Names it in a refusal."""

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next bytes, and return those that the app gets.

        Raises:
            Problem: the body is refused.
        """
        ...


class Budget:
    """How many bytes of bodies a process holds for requests whose reply has not begun.

    Threat: one sender who keeps the memory full with bodies that never end, so that nobody else's come in (CWE-770).
    Method: when it is full, the sender with most bytes in unfinished bodies pays: the largest of these end. If it is
        that sender who asks for more, the asking one is refused. So a sender is bounded only where others want room.
    Assumes: addresses are dear; an IPv6 network counts as one sender.
    """

    __slots__ = ("_most", "_unfinished", "used")

    def __init__(self, most: int) -> None:
        self._most = most
        self._unfinished: set[Body] = set()
        """Bodies that hold something and have not come to their end."""
        self.used = 0

    def take(self, count: int, body: "Body", *, last: bool) -> bool:
        """Take room for `count` bytes more of a body. False: there is none."""
        if self.used + count > self._most and not self._make_room(count, body):
            return False
        self.used += count
        if not last:
            self._unfinished.add(body)
        elif body in self._unfinished:
            self._unfinished.discard(body)
        return True

    def give_back(self, count: int, body: "Body") -> None:
        """Give back all that a body held."""
        self.used -= count
        self._unfinished.discard(body)

    def _make_room(self, count: int, body: "Body") -> bool:
        held: dict[str, int] = {}
        for other in self._unfinished:
            held[other.sender] = held.get(other.sender, 0) + other.held_bytes
        if not held:
            return False
        greediest = max(held, key=held.__getitem__)
        if greediest == body.sender or held[greediest] < count:
            return False
        theirs = [other for other in self._unfinished if other.sender == greediest]
        for other in sorted(theirs, key=lambda one: one.held_bytes, reverse=True):
            other.crowd_out()
            if self.used + count <= self._most:
                return True
        return False


BUDGET: Final = Refusal("body.budget", Overloaded())


class Body:
    """The body of one request.

    Args:
        receive: the server's.
        exchange: the request. A refusal is noted there, because frameworks turn a failed read into a reply of their
            own.
        limit: most bytes, as they come.
        pace: how fast they must come.
        inspectors: what looks into them, in this order.
        budget: what all bodies of the process may hold together.
        limiter: where it takes a place among the requests under way again, once all has come.
    """

    __slots__ = (
        "_budget",
        "_exchange",
        "_held",
        "_inspectors",
        "_limit",
        "_limiter",
        "_marked_bytes",
        "_marked_seconds",
        "_pace",
        "_paused_at",
        "_receive",
        "_received",
        "_waited",
    )

    def __init__(
        self,
        receive: Receive,
        exchange: Exchange,
        *,
        limit: int,
        pace: PaceRules,
        inspectors: Sequence[Inspector],
        budget: Budget,
        limiter: Limiter,
    ) -> None:
        self._budget = budget
        self._limiter = limiter
        self._held = 0
        self._receive = receive
        self._exchange = exchange
        self._limit = limit
        self._pace = pace
        self._inspectors = inspectors
        self._received = 0
        self._waited = 0.0
        self._paused_at = 0.0
        # Where the pace is measured from.
        self._marked_bytes = 0
        self._marked_seconds = 0.0
        exchange.expect(self)

    async def receive(self) -> Message:
        """Give the app the next message."""
        exchange = self._exchange
        if exchange.complete:
            return await self._receive()
        self._paused_at = began = monotonic()
        exchange.begin_wait()
        try:
            message = await self._receive()
        except BaseException:
            # Given up by the app, as when it looks whether its client is still there: it works on.
            if exchange.waits is self:
                exchange.come_back(self._limiter)
            raise
        finally:
            self._waited += monotonic() - began
            self._paused_at = 0.0
            exchange.end_wait()
        if message["type"] != "http.request":
            if not exchange.started:
                exchange.refusal = Refusal("body.broken_off", BodyIncomplete())
            return message
        given: bytes = message.get("body", b"")
        last = not message.get("more_body", False)
        self._received += len(given)
        if self._received > self._limit:
            self._refuse(refuse_body(self._limit))
        body = given
        for inspector in self._inspectors:
            try:
                body = inspector.feed(body, last=last)
            except Problem as problem:
                self._refuse(Refusal(inspector.control, problem))
        if body is not given:
            message = {**message, "body": body}
        if not self._budget.take(len(body), self, last=last):
            self._refuse(BUDGET)
        self._held += len(body)
        if last:
            self._complete()
        return message

    def _complete(self) -> None:
        """All has come: from here on it is a request among those under way."""
        exchange = self._exchange
        exchange.body_came()
        if not exchange.started and not exchange.enter(self._limiter):
            self._refuse(SHED)

    @property
    def waiting(self) -> bool:
        """Whether the app waits for the client."""
        return self._paused_at > 0

    @property
    def waited_seconds(self) -> float:
        """How long the app has waited for the client so far."""
        return self._waited

    def pause(self, now: float) -> Refusal | None:
        """Refuse a body that comes too slowly; asked from outside while the app waits for it."""
        if not self._paused_at:
            return None
        self._exchange.stand_aside()
        pause = now - self._paused_at
        waited = self._waited + pause - self._marked_seconds
        received = self._received - self._marked_bytes
        refusal = check_pace(self._pace, received=received, waited_seconds=waited, pause_seconds=pause)
        if refusal is None and waited > self._pace.pause_seconds:
            # From here anew: who sent much at the beginning has no credit to be slow for ever.
            self._marked_bytes, self._marked_seconds = self._received, self._waited + pause
        return refusal

    @property
    def sender(self) -> str:
        """The network that it comes from."""
        return network_of(self._exchange.client)

    @property
    def held_bytes(self) -> int:
        """What it holds of the budget."""
        return self._held

    def crowd_out(self) -> None:
        """End its request, because others want the room."""
        self.release()
        self._exchange.crowd_out(BUDGET)

    def release(self) -> None:
        """Give back what it held of the budget: the reply has begun, or the request has ended."""
        self._budget.give_back(self._held, self)
        self._held = 0

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._exchange.refusal = refusal
        raise Refused
