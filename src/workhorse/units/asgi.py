"""The layer that gives each request of an ASGI app its unit.

A request is run; if its transaction loses to another (a serialization failure, a deadlock) or the database's
connection breaks before the commit, nothing has been sent and nothing written, so it is run again, a bounded number
of times with a growing pause. The request's body is remembered for that, up to a bound: past it, the client is asked
to try again instead.

A request with an Idempotency-Key on a route that takes one begins its transaction before the app is called: the
claim of the key rides in the round trip of BEGIN, and an app whose reply is kept is not called at all.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workhorse.asgi import ASGIApp, Message, Receive, Reply, Scope, Send, route_path, send_reply
from workhorse.contracts import Database, Query
from workhorse.errors import Conflict, DatabaseTimeout, DatabaseUnavailable, OutcomeUnknown, Problem
from workhorse.policy import Policy, PolicyTable
from workhorse.problems import render_problem, request_instance
from workhorse.sql import load_queries
from workhorse.telemetry.metrics import Registry
from workhorse.units.exchange import Exchange, Stage
from workhorse.units.idempotency import (
    Caller,
    Claim,
    KeyInFlight,
    KeyMissing,
    answer,
    caller_of,
    make_claim,
    parse_key,
)
from workhorse.units.turns import Turns
from workhorse.units.work import OPENER

__all__ = ["UnitLayer", "UnitOptions"]

# A longer body is not remembered, and its request not repeated by itself.
REPEATABLE_BYTES: Final = 1024 * 1024
# The first pause before a repetition; each further one doubles, and chance spreads those who collided.
PAUSE_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitOptions:
    """How requests are repeated and their replies kept."""

    attempts: int = 5
    """How often a request is run at most."""
    keep_seconds: int = 86_400
    max_reply_bytes: int = 2 * 1024 * 1024
    wait_seconds: float = 30
    """Longest wait for the first request with the same key."""


class Body:
    """The request's messages as the app reads them, remembered so that they can be read again."""

    __slots__ = ("_bytes", "_next", "_receive", "_taken", "broken", "repeatable")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._taken: list[Message] = []
        self._bytes = 0
        self._next = 0
        self.repeatable = True
        self.broken: Exception | None = None
        """What ended the reading, such as the guard's refusal of a body that is too large."""

    async def receive(self) -> Message:
        """Give the next message: a remembered one, else the server's."""
        if self._next < len(self._taken):
            self._next += 1
            return self._taken[self._next - 1]
        try:
            message = await self._receive()
        except Exception as error:
            self.broken = error
            raise
        if self.repeatable and message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > REPEATABLE_BYTES:
                self.repeatable = False
                self._taken.clear()
                self._next = 0
            else:
                self._taken.append(message)
                self._next += 1
        return message

    def rewind(self) -> None:
        """Begin again with the first message."""
        self._next = 0

    async def read(self) -> bytes:
        """Read the whole body, which the guard has bounded, and keep it for the app."""
        chunks: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        body = b"".join(chunks)
        self._taken = [{"type": "http.request", "body": body, "more_body": False}]
        return body


class ClientGone(Exception):
    """The client went away before its request was complete. There is nobody to answer."""


class UnitLayer:
    """Wraps an app so that `unit()` works in it.

    Args:
        app: the app.
        database: where transactions come from.
        policies: which routes take an Idempotency-Key.
        caller: names the sender of a request; by default its principal, else its Authorization header.
        options: bounds.
        metrics: where outcomes are counted; nowhere by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        database: Database,
        *,
        policies: PolicyTable | None = None,
        caller: Caller = caller_of,
        options: UnitOptions | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._app = app
        self._database = database
        self._policies = policies if policies is not None else PolicyTable()
        self._caller = caller
        self._options = options if options is not None else UnitOptions()
        self._queries = load_queries("workhorse.units", "sql/queries.sql")
        self._turns = Turns(wait_seconds=self._options.wait_seconds)
        registry = metrics if metrics is not None else Registry(None)
        self._outcomes = registry.counter(
            "workhorse_units_total", "Requests with a unit, by how it ended.", labels=("outcome",)
        )
        self._repeats = registry.counter(
            "workhorse_unit_repeats_total", "Runs of a request that were followed by another.", labels=("reason",)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; whatever is not HTTP passes untouched, and has no unit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = self._policies.find(scope["method"], route_path(scope))
        if policy is None or not policy.idempotent:
            await self._run(scope, Body(receive), send, claim=None)
            return
        try:
            key = _key_of(scope, policy)
        except Problem as problem:
            await self._answer(problem, scope, send)
            return
        body = Body(receive)
        if key is None:
            await self._run(scope, body, send, claim=None)
            return
        try:
            content = await body.read()
        except ClientGone:
            return
        claim = make_claim(scope, caller=self._caller(scope), key=key, body=content)
        try:
            turn = await self._turns.take(claim.scope)
        except KeyInFlight as problem:
            await self._answer(problem, scope, send)
            return
        try:
            await self._run(scope, body, send, claim=claim, settled=turn.end)
        finally:
            turn.end()

    async def _run(
        self,
        scope: Scope,
        body: Body,
        send: Send,
        *,
        claim: Claim | None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        """Run the request until it is answered. `settled` is called once its transaction has ended."""
        for attempt in range(1, self._options.attempts + 1):
            exchange = await self._begin(scope, body, send, claim, settled)
            if exchange is None:
                return
            try:
                failure = await self._attempt(exchange, scope, body)
            except BaseException:
                # Cancelled: the server stops. A word to the database could wait; its absence is a rollback too.
                if exchange.transaction is not None:
                    await exchange.transaction.abandon()
                raise
            if failure is None or exchange.stage is Stage.PASSING:
                await self._conclude(exchange, failure)
                return
            reason = self._reason_to_repeat(exchange, failure)
            if exchange.transaction is not None:
                await exchange.transaction.rollback()
            if reason is None:
                await self._fail(exchange, failure, scope, send)
                return
            if attempt == self._options.attempts or not body.repeatable:
                gave_up = Conflict(attempt) if reason == "conflict" else DatabaseUnavailable()
                await self._answer(gave_up, scope, send)
                return
            self._repeats.labels(reason).add(1)
            body.rewind()
            await asyncio.sleep(random.random() * PAUSE_SECONDS * 2**attempt)  # noqa: S311 - spreads load, hides nothing

    async def _attempt(self, exchange: Exchange, scope: Scope, body: Body) -> Exception | None:
        """Call the app once. Returns what went wrong, if anything did."""
        token = OPENER.set(exchange.open)
        try:
            await self._app(scope, body.receive, exchange.send)
        except Problem as problem:
            if exchange.stage is not Stage.NEW:
                return exchange.failure or problem
            # The framework did not answer it. Said through the exchange, it commits or rolls back like any reply.
            if failure := await self._speak(problem, scope, exchange):
                return failure
        except Exception as error:  # noqa: BLE001 - judged by the caller: repeated, answered or raised again
            return exchange.failure or error
        finally:
            OPENER.reset(token)
            exchange.closed = True
        if exchange.failure is None and exchange.body is not None:
            try:
                await exchange.settle(exchange.body.get("body", b""))
            except Exception as error:  # noqa: BLE001 - as above
                return error
        return exchange.failure

    async def _begin(
        self, scope: Scope, body: Body, send: Send, claim: Claim | None, settled: Callable[[], None]
    ) -> Exchange | None:
        """Prepare a run; with a claim, begin its transaction. None if the request was answered already."""
        if claim is None:
            return Exchange(self._database, self._queries, send, broken=lambda: body.broken)
        query = Query(self._queries["claim_reply"], (claim.scope, claim.lock_key, self._options.keep_seconds))
        try:
            transaction, row = await self._database.begin(query)
        except DatabaseUnavailable as problem:
            await self._answer(problem, scope, send)
            return None
        except Exception as error:
            if not self._database.timed_out(error):
                raise
            await self._answer(KeyInFlight(), scope, send)
            return None
        if row is None:
            return Exchange(
                self._database,
                self._queries,
                send,
                transaction=transaction,
                claim=claim,
                max_reply_bytes=self._options.max_reply_bytes,
                broken=lambda: body.broken,
                settled=settled,
            )
        await transaction.rollback()
        kept = answer(claim, row)
        if isinstance(kept, Reply):
            self._outcomes.labels("replayed").add(1)
            await send_reply(kept, send, head=scope["method"] == "HEAD")
        else:
            self._outcomes.labels("refused").add(1)
            await self._answer(kept, scope, send)
        return None

    def _reason_to_repeat(self, exchange: Exchange, failure: Exception) -> str | None:
        """Why this run may be repeated; None if it may not. Nothing of it has been sent or written."""
        if isinstance(failure, OutcomeUnknown):
            return None
        if self._database.conflicted(failure):
            return "conflict"
        if exchange.transaction is None or self._database.timed_out(failure):
            return None
        if exchange.transaction.lost or self._database.disconnected(failure):
            return "connection"
        return None

    async def _conclude(self, exchange: Exchange, failure: Exception | None) -> None:
        """End a run that was answered, or that ended without a word."""
        transaction, work = exchange.transaction, exchange.work
        if exchange.stage is Stage.HELD and exchange.body is not None:
            await exchange.release(exchange.body)
        elif transaction is not None:
            await transaction.rollback()  # of no effect after a commit
        if transaction is not None and exchange.start is not None and work is not None:
            committed = exchange.start["status"] < 400 or work.keeps
            self._outcomes.labels("committed" if committed else "rolled_back").add(1)
        if failure is not None:
            raise failure

    async def _fail(self, exchange: Exchange, failure: Exception, scope: Scope, send: Send) -> None:
        """Answer for a run that raised and will not be repeated."""
        self._outcomes.labels("unknown" if isinstance(failure, OutcomeUnknown) else "failed").add(1)
        if isinstance(failure, OutcomeUnknown):
            await self._answer(failure, scope, send)
            return
        if exchange.transaction is not None and self._database.timed_out(failure):
            await self._answer(DatabaseTimeout(), scope, send)
        elif exchange.stage is Stage.HELD and exchange.body is not None:
            await exchange.release(exchange.body)
        raise failure

    async def _speak(self, problem: Problem, scope: Scope, exchange: Exchange) -> Exception | None:
        """Reply with `problem` in the app's stead, and return what made the commit fail, if it did."""
        try:
            await self._answer(problem, scope, exchange.send)
        except Exception as error:  # noqa: BLE001 - judged by the caller
            return exchange.failure or error
        return exchange.failure

    async def _answer(self, problem: Problem, scope: Scope, send: Send) -> None:
        reply = render_problem(problem, instance=request_instance())
        await send_reply(reply, send, head=scope["method"] == "HEAD")


def _key_of(scope: Scope, policy: Policy) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            return parse_key(value)
    if policy.idempotent == "required":
        raise KeyMissing
    return None
