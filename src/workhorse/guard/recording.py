"""Sees how an audited request ends, and records what its unit has not.

It stands between the guard and the server, so that it sees every reply: the app's, one that the unit layer gave in its
stead, and the guard's own refusals. A record that was committed with a unit is not written again. With `fail_closed`
the reply is held until its record is stored, and replaced by a 503 where it cannot be.
"""

from collections.abc import Awaitable
from typing import Final

from workhorse.asgi import Message, Reply, Send, send_reply
from workhorse.guard.exchange import Exchange
from workhorse.journal import Event, RecordNotStored, RecordRule, Trail
from workhorse.problems import render_problem, request_instance

__all__ = ["Recording"]

CLIENT_ERROR: Final = 400
# Of a reply that is replaced, only what the guard adds to every reply stays.
_OF_THE_REPLY: Final = (b"content-", b"set-cookie", b"etag", b"last-modified", b"location", b"cache-control", b"retry-")


class Recording:
    """One audited request.

    Args:
        rule: what is recorded of it.
        trail: what stores records beside units.
        exchange: the request.
        method: its method.
        path: as its policy was found by.
    """

    __slots__ = ("_exchange", "_method", "_path", "_replaced", "_rule", "_send", "_told", "_trail", "control")

    def __init__(self, rule: RecordRule, trail: Trail, exchange: Exchange, method: str, path: str) -> None:
        self._rule = rule
        self._trail = trail
        self._exchange = exchange
        self._method = method
        self._path = path
        self._send: Send = exchange.send
        self._told = False
        self._replaced = False
        self.control = ""
        """The check that has refused the request."""

    def pass_to(self, send: Send) -> None:
        """Where the reply goes from here."""
        self._send = send

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on a message of the reply, and record the request when it begins."""
        if self._replaced:
            return _nothing()
        if self._told or message["type"] != "http.response.start" or message["status"] < 200:
            return self._send(message)
        self._told = True
        event = self._event(message["status"])
        if event is None:
            return self._send(message)
        if self._rule.fail_closed or (self._trail.fail_closed and message["status"] >= CLIENT_ERROR):
            return self._send_once_stored(message, event)
        self._trail.note(event)
        return self._send(message)

    def end(self) -> None:
        """The request has ended. Without a reply, it is recorded now."""
        if not self._told:
            self._told = True
            event = self._event(0)
            if event is not None:
                self._trail.note(event)

    def _event(self, status: int) -> Event | None:
        """The record of this reply; None where it was committed with the unit."""
        outcome = self._exchange.audit_outcome
        if outcome == "committed":
            return None
        if outcome == "repeated":
            return self._rule.repeated(self._path, status)
        if not self.control and 0 < status < CLIENT_ERROR:
            return self._rule.done(self._method, self._path, status)
        return self._rule.not_done(self._path, status, control=self.control, outcome=outcome)

    async def _send_once_stored(self, message: Message, event: Event) -> None:
        try:
            await self._trail.store(event)
        except RecordNotStored as problem:
            self._replaced = True
            self._exchange.status = problem.status
            instead: Reply = render_problem(problem, instance=request_instance())
            kept = [
                (name, value)
                for name, value in message.get("headers", ())
                if not name.lower().startswith(_OF_THE_REPLY)
            ]
            reply = Reply(status=instead.status, headers=(*instead.headers, *kept), body=instead.body)
            await send_reply(reply, self._send, head=self._method == "HEAD")
            return
        await self._send(message)


async def _nothing() -> None:
    """For a message of a reply that was replaced."""
