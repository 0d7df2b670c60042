"""A request's body on its way to the app: counted, looked into, and timed.

It is apart from the exchange for two reasons. Most requests have no body, and pay for none of this. And it waits: the
modules that only decide are compiled, and a coroutine is not, because a compiled one passes a cancellation on in a way
that Python has deprecated.
"""

from collections.abc import Sequence
from time import monotonic
from typing import NoReturn, Protocol

from workhorse.asgi import Message, Receive
from workhorse.errors import Problem
from workhorse.guard.checks.body import PaceRules, check_pace, refuse_body
from workhorse.guard.exchange import Exchange, Refused
from workhorse.guard.problems import Overloaded
from workhorse.guard.shedding import SHED, Limiter
from workhorse.guard.verdict import Refusal

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
    """How many bytes of bodies a process holds for requests whose reply has not begun."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0


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
        limiter: where it takes a place among the requests under way, once all has come: a client that sends slowly
            must not hold one.
    """

    __slots__ = (
        "_budget",
        "_exchange",
        "_held",
        "_inspectors",
        "_limit",
        "_limiter",
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
        exchange.expect(self)

    async def receive(self) -> Message:
        """Give the app the next message."""
        exchange = self._exchange
        if exchange.complete:
            return await self._receive()
        exchange.step_aside()
        self._paused_at = began = monotonic()
        message = await self._receive()
        self._waited += monotonic() - began
        self._paused_at = 0.0
        if message["type"] != "http.request":
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
        self._hold(len(body))
        if last:
            exchange.body_came(self._waited)
            if not exchange.started and not exchange.enter(self._limiter):
                self._refuse(SHED)
        return message

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
        pause = now - self._paused_at
        return check_pace(self._pace, received=self._received, waited_seconds=self._waited + pause, pause_seconds=pause)

    def release(self) -> None:
        """Give back what it held of the budget: the reply has begun, or the request has ended."""
        self._budget.used -= self._held
        self._held = 0

    def _hold(self, count: int) -> None:
        budget = self._budget
        if budget.used + count > budget.most:
            self._refuse(Refusal("body.budget", Overloaded()))
        budget.used += count
        self._held += count

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._exchange.refusal = refusal
        raise Refused
