"""One run of a request through the app: its transaction, and its reply held until the commit.

    NEW ──reply starts, no unit──────────────▶ PASSING    messages go straight out
    NEW ──unit(), reply starts───────────────▶ HELD       the start is kept back
    HELD ──last body message, status < 500───▶ PASSING    commit, then start and body go out
    HELD ──first of several body messages────▶ PASSING    commit, then the stream goes out; but with a claim, a reply
                                                          of declared length is put together first, and kept
    HELD ──last body message, status >= 500──▶ HELD       the app may still raise, and the run be repeated
    HELD ──the commit fails──────────────────▶ SPENT      whatever the app says now is dropped

Commit happens inside the app's own `send` of its last message. So whatever a framework does after the reply
(background tasks, the exit of dependencies) comes after the commit too.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from workhorse.asgi import Message, Send
from workhorse.context import CURRENT
from workhorse.contracts import Database, Query, Transaction
from workhorse.errors import OutcomeUnknown, UnitClosed
from workhorse.sql import Queries
from workhorse.units.idempotency import Claim, pack_headers
from workhorse.units.work import Work

__all__ = ["Exchange", "Stage"]


class Stage(Enum):
    """How far the reply is."""

    NEW = auto()
    """Nothing was said."""
    HELD = auto()
    """The reply is kept back until the transaction has ended."""
    PASSING = auto()
    """The client has begun to read: the run can be neither repeated nor undone."""
    SPENT = auto()
    """The commit failed: the app's reply is void."""


class Exchange:
    """One run. A run that lost to another transaction is followed by a new exchange.

    Args:
        database: where the transaction comes from.
        queries: the room's SQL.
        send: the server's.
        transaction: begun already, for a request with a claim.
        claim: the request's key.
        max_reply_bytes: the largest body that is kept.
        broken: what went wrong while the request's body was read, if anything did.
        settled: called once the transaction has ended.
    """

    __slots__ = (
        "_broken",
        "_claim",
        "_database",
        "_lock",
        "_max_reply",
        "_pieces",
        "_queries",
        "_send",
        "_settled",
        "body",
        "closed",
        "failure",
        "stage",
        "start",
        "transaction",
        "work",
    )

    def __init__(
        self,
        database: Database,
        queries: Queries,
        send: Send,
        *,
        transaction: Transaction | None = None,
        claim: Claim | None = None,
        max_reply_bytes: int = 0,
        broken: Callable[[], Exception | None] = lambda: None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._queries = queries
        self._send = send
        self._claim = claim
        self._broken = broken
        self._settled = settled
        self._max_reply = max_reply_bytes
        self._lock: asyncio.Lock | None = None
        self._pieces: list[bytes] = []
        self.stage = Stage.NEW
        self.closed = False
        self.start: Message | None = None
        self.body: Message | None = None
        self.failure: Exception | None = None
        self.transaction = transaction
        self.work = None if transaction is None else Work(transaction)

    async def open(self) -> Work:
        """Return the unit, and begin its transaction if this is the first call. Calls at once share one."""
        if self.work is None:
            if self._lock is None:
                self._lock = asyncio.Lock()
            async with self._lock:
                if self.work is None:
                    if self._left():
                        raise UnitClosed(
                            "the reply has left, so no unit can commit with it: call unit() before the reply starts,"
                            " not in a streaming body or a background task"
                        )
                    transaction, _ = await self._database.begin()
                    if self._left():  # while this call waited for a connection
                        await transaction.rollback()
                        raise UnitClosed("the reply left before the unit was open: await unit() before replying")
                    self.transaction, self.work = transaction, Work(transaction)
        if self._left():
            raise UnitClosed("this request's unit has ended with its reply")
        return self.work

    def _left(self) -> bool:
        """Whether the reply has started, so that nothing can join the unit any more."""
        return self.closed or self.stage is not Stage.NEW

    async def send(self, message: Message) -> None:
        """Take a message of the app's reply: pass it on, or hold it until the commit."""
        if self.stage is Stage.PASSING:
            await self._send(message)
        elif self.stage is Stage.NEW:
            if message["type"] != "http.response.start":
                await self._send(message)  # an informational reply (103), which promises nothing
            elif self.transaction is None:
                self.stage = Stage.PASSING
                await self._send(message)
            else:
                self.stage = Stage.HELD
                self.start = message
        elif self.stage is Stage.HELD:
            await self._continue(message)

    async def _continue(self, message: Message) -> None:
        assert self.start is not None
        if self._claim is not None:
            gathered = self._gather(message)
            if gathered is None:
                return
            message = gathered
        whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        if whole and self.start["status"] >= 500:
            self.body = message
            return
        await self.settle(message.get("body", b"") if whole else None)
        await self.release(message)

    def _gather(self, message: Message) -> Message | None:
        """Put together a reply that comes in pieces although its length was declared; None while pieces are missing.

        Middleware in the app (Starlette's BaseHTTPMiddleware) passes every reply on in pieces. One that says how long
        it is, within what is kept, is no stream: it is kept like any other.
        """
        assert self.start is not None
        if message["type"] != "http.response.body" or not (self._pieces or message.get("more_body", False)):
            return message
        if not self._pieces and not 0 <= declared_length(self.start) <= self._max_reply:
            return message
        self._pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
        if more and sum(map(len, self._pieces)) <= self._max_reply:
            return None
        body = b"".join(self._pieces)
        self._pieces.clear()
        return {**message, "body": body, "more_body": more}

    async def release(self, message: Message) -> None:
        """Let the held start and `message` go out."""
        assert self.start is not None
        self.stage = Stage.PASSING
        await self._send(self.start)
        await self._send(message)

    async def settle(self, body: bytes | None) -> None:
        """Commit or roll back, as the held status and the handler decide. `body` is None for a streamed reply.

        Raises:
            Exception: the commit failed; noted in `failure` too, because frameworks may swallow it on its way out.
        """
        assert self.start is not None
        assert self.transaction is not None
        assert self.work is not None
        self.failure = self._broken()
        if self.failure is not None:
            # The request was not read whole: whatever the app made of it does not count.
            self.stage = Stage.SPENT
            raise self.failure
        try:
            if self.start["status"] >= 400 and not self.work.keeps:
                await self.transaction.rollback()
            else:
                # From here on the guard lets the request be: ended now, nobody would know whether it took effect.
                request = CURRENT.get(None)
                if request is not None:
                    request.settling = True
                await self.transaction.commit(self._kept(body))
        except Exception as error:
            self.stage = Stage.SPENT
            self.failure = error
            raise
        except BaseException:
            # Cancelled on its way, perhaps by a time-out inside the app: the server may have heard it or not.
            self.stage = Stage.SPENT
            self.failure = OutcomeUnknown()
            await self.transaction.abandon()
            raise
        self._settled()

    def _kept(self, body: bytes | None) -> Query | None:
        """The statement that keeps the reply for a retry, if the request has a key."""
        if self._claim is None:
            return None
        assert self.start is not None
        if body is not None and len(body) > self._max_reply:
            body = None
        headers = pack_headers(list(self.start.get("headers", ())))
        return Query(
            self._queries["keep_reply"],
            (
                self._claim.scope,
                self._claim.digest,
                self.start["status"],
                headers,
                None if body is None else bytes(body),
            ),
        )


def declared_length(start: Message) -> int:
    """The Content-Length of a reply in bytes; -1 where it declares none."""
    for name, value in start.get("headers", ()):
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return -1
