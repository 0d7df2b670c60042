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
from collections.abc import Awaitable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, cast

from workhorse.asgi import Message, send_reply
from workhorse.context import CURRENT
from workhorse.contracts import Database, Query, RecordsModels, Transaction
from workhorse.errors import OutcomeUnknown, Problem, UnitClosed, UnitError, WorkhorseError
from workhorse.journal import EventBox, RecordRule
from workhorse.journal.changes import changes_query
from workhorse.problems import render_problem, request_instance
from workhorse.units.aftermath import call_after_commit
from workhorse.units.call import Call, Rules
from workhorse.units.idempotency import Claim, answer, kept_columns
from workhorse.units.work import Callback, Work

__all__ = ["Exchange", "RunAgain", "Stage", "note_outcome"]


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


class RunAgain(WorkhorseError):
    """Nothing of this run stands, by no fault of its own: the request is to be run again."""


class Exchange:
    """One run. A run that lost to another transaction is followed by a new exchange.

    Args:
        rules: what holds for all requests.
        call: the request.
        transaction: begun already, for a request with a claim.
    """

    __slots__ = (
        "_call",
        "_callbacks",
        "_lock",
        "_pieces",
        "_rules",
        "_send",
        "answered",
        "batched",
        "body",
        "closed",
        "failure",
        "loop",
        "stage",
        "start",
        "transaction",
        "work",
    )

    def __init__(self, rules: Rules, call: Call, transaction: Transaction | None = None) -> None:
        self._rules = rules
        self._call = call
        self._send = call.send
        self._callbacks: list[Callback] | None = None
        self._lock: asyncio.Lock | None = None
        self._pieces: list[bytes] | None = None
        self.loop = asyncio.get_running_loop()
        self.batched = call.batched
        """Whether the claim is left to the batch that the handler joins."""
        self.answered = False
        """Whether the request was answered with what was kept for its key."""
        self.stage = Stage.NEW
        self.closed = False
        self.start: Message | None = None
        self.body: Message | None = None
        self.failure: Exception | None = None
        self.transaction = transaction
        self.work = None if transaction is None else self._work_on(transaction)

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
                    if self.batched and self._call.claim is not None:
                        raise UnitError(
                            "the policy of this route is batched, so its Idempotency-Key is claimed by its batch: call"
                            " the batched function before unit(), or take `batched` out of the policy"
                        )
                    transaction, _ = await self._call.database.begin(terms=self._call.terms)
                    if self._left():  # while this call waited for a connection
                        await transaction.rollback()
                        raise UnitClosed("the reply left before the unit was open: await unit() before replying")
                    self.transaction, self.work = transaction, self._work_on(transaction)
        if self._left():
            raise UnitClosed("this request's unit has ended with its reply")
        return self.work

    def _work_on(self, transaction: Transaction) -> Work:
        audit = self._call.audit
        if audit is not None and audit.models:
            cast("RecordsModels", transaction).record_models(
                audit.models, partial(changes_query, sealing=self._rules.kinds.sealing)
            )
        return Work(transaction, self._rules.kinds)

    @property
    def database(self) -> Database:
        """Where the transaction comes from."""
        return self._call.database

    @property
    def claim(self) -> Claim | None:
        """The request's key."""
        return self._call.claim

    @property
    def rules(self) -> Rules:
        """What holds for all requests."""
        return self._rules

    @property
    def repeated(self) -> bool:
        """Whether the request has been run before."""
        return self._call.runs > 0

    def check_joins(self, name: str) -> None:
        """See that the request can be done in a batch.

        Raises:
            UnitClosed: the reply has left.
            UnitError: the request has a transaction of its own.
        """
        if self._left():
            raise UnitClosed(f"the reply has left, so nothing can commit with it: call {name}() before replying")
        if self.transaction is not None:
            why = (
                "a request does one batched command, and this one has done it"
                if self.batched
                else "its policy has to say batched=True, and the handler must not call unit() first"
            )
            raise UnitError(f"this request has a transaction already, so {name}() cannot do it in a batch: {why}")

    def join(self, transaction: Transaction, work: Work) -> None:
        """Hold the reply until `transaction`, which is a part of a batch's, has been committed."""
        self.transaction, self.work = transaction, work
        self.batched = True

    async def answer(self, row: Sequence[Any]) -> None:
        """Reply in the app's stead with what was kept for the request's key; what the app says is dropped."""
        assert self._call.claim is not None
        kept = answer(self._call.claim, row, self._rules.seal)
        if isinstance(kept, Problem):
            kept = render_problem(kept, instance=request_instance())
        else:
            note_outcome("repeated")
        self.answered, self.stage = True, Stage.SPENT
        await send_reply(kept, self._send)

    def _left(self) -> bool:
        """Whether the reply has started, so that nothing can join the unit any more."""
        return self.closed or self.stage is not Stage.NEW

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the app's reply: pass it on, or hold it until the commit.

        Without a unit it is the server's own awaitable that is returned: nothing is to be waited for here.
        """
        if self.stage is Stage.PASSING:
            return self._send(message) if self._callbacks is None else self._pass(message)
        if self.stage is Stage.NEW:
            if message["type"] != "http.response.start":
                return self._send(message)  # an informational reply (103), which promises nothing
            if self.transaction is None:
                self.stage = Stage.PASSING
                return self._send(message)
            self.stage = Stage.HELD
            self.start = message
            return _nothing()
        return self._continue(message) if self.stage is Stage.HELD else _nothing()

    async def _pass(self, message: Message) -> None:
        """Pass on what follows a commit; after the last of it the app's callbacks are called."""
        await self._send(message)
        if is_last(message):
            await self.take_leave()

    async def _continue(self, message: Message) -> None:
        assert self.start is not None
        if self._call.claim is not None:
            gathered = self._gather(message)
            if gathered is None:
                return
            message = gathered
        whole = is_last(message)
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
        if not self._pieces:
            if not 0 <= declared_length(self.start) <= self._rules.max_reply_bytes:
                return message
            self._pieces = []
        self._pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
        if more and sum(map(len, self._pieces)) <= self._rules.max_reply_bytes:
            return None
        body = b"".join(self._pieces)
        self._pieces = None
        return {**message, "body": body, "more_body": more}

    async def release(self, message: Message) -> None:
        """Let the held start and `message` go out."""
        assert self.start is not None
        self.stage = Stage.PASSING
        await self._send(self.start)
        await self._send(message)
        if self._callbacks is not None and is_last(message):
            await self.take_leave()

    async def take_leave(self) -> None:
        """Call what the app wants to be called after the commit, if there was one, and was not called yet."""
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            await call_after_commit(callbacks)

    async def settle(self, body: bytes | None) -> None:
        """Commit or roll back, as the held status and the handler decide. `body` is None for a streamed reply.

        Raises:
            Exception: the commit failed; noted in `failure` too, because frameworks may swallow it on its way out.
        """
        assert self.start is not None
        assert self.transaction is not None
        assert self.work is not None
        self.failure = self._call.body.broken
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
                if self._call.audit is not None:
                    await self._record(self._call.audit, body)
                await self.transaction.commit([*self.work.drain(), *self._kept(body)])
                if self._call.audit is not None:
                    note_outcome("committed")
                self._callbacks = self.work.callbacks() or None
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
        if self._call.settled is not None:
            self._call.settled()

    async def _record(self, rule: RecordRule, reply: bytes | None) -> None:
        """Put the record of this request into its unit."""
        assert self.start is not None
        assert self.work is not None
        call = self._call
        said = call.body.taken if rule.wants_body else None
        event = rule.done(
            call.scope["method"],
            call.path,
            self.start["status"],
            body=said,
            reply=None if reply is None else bytes(reply),
        )
        await self.work.put_last(EventBox, event)

    def _kept(self, body: bytes | None) -> list[Query]:
        """The statement that keeps the reply for a retry, if the request has a key."""
        claim = self._call.claim
        if claim is None:
            return []
        assert self.start is not None
        if body is not None and len(body) > self._rules.max_reply_bytes:
            body = None
        body = None if body is None else bytes(body)
        params = kept_columns(claim, self.start["status"], self.start.get("headers", ()), body, self._rules.seal)
        return [Query(self._rules.queries["keep_reply"], params)]


def note_outcome(outcome: str) -> None:
    """Tell the guard what became of the unit (see `RequestContext.audit_outcome`)."""
    request = CURRENT.get(None)
    if request is not None:
        request.audit_outcome = outcome


async def _nothing() -> None:
    """For a message that is kept, or dropped."""


def is_last(message: Message) -> bool:
    """Whether the reply ends with this message."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def declared_length(start: Message) -> int:
    """The Content-Length of a reply in bytes; -1 where it declares none."""
    for name, value in start.get("headers", ()):
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return -1
