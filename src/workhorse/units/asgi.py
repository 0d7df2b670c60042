"""The layer that gives each request of an ASGI app its unit.

A request is run; if its transaction loses to another (a serialization failure, a deadlock) or the database's
connection breaks before the commit, nothing has been sent and nothing written, so it is run again, a bounded number
of times with a growing pause. The request's body is remembered for that, up to a bound: past it, the client is asked
to try again instead.

A request with an Idempotency-Key on a route that takes one begins its transaction before the app is called: the
claim of the key rides in the round trip of BEGIN, and an app whose reply is kept is not called at all.

A route's policy says on what terms its transactions are begun: isolation, read only, and then on a replica if there is
one. The request's deadline goes with them.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from workhorse.asgi import ASGIApp, Receive, Reply, Scope, Send, route_path, send_reply
from workhorse.context import CURRENT
from workhorse.contracts import Database, Query, Terms, Transaction
from workhorse.errors import Conflict, DatabaseTimeout, DatabaseUnavailable, OutcomeUnknown, Problem, SettingsError
from workhorse.journal import EventTypes, record_rules
from workhorse.policy import Policy, PolicyTable
from workhorse.problems import render_problem, request_instance
from workhorse.sql import load_queries
from workhorse.state.postgres.faults import overwhelmed
from workhorse.telemetry.metrics import Registry
from workhorse.units.body import Body, ClientGone
from workhorse.units.call import Call, Rules
from workhorse.units.exchange import Exchange, RunAgain, Stage, note_outcome
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
from workhorse.units.sealing import Seal
from workhorse.units.turns import Turns
from workhorse.units.unit import pause
from workhorse.units.work import NO_KINDS, OPENER

__all__ = ["UnitLayer", "UnitOptions"]

logger = logging.getLogger(__name__)

# Tasks in tasks are looked through so far.
MAX_GROUPS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitOptions:
    """How requests are repeated and their replies kept."""

    attempts: int = 5
    """How often a request is run at most."""
    keep_seconds: int = 86_400
    max_reply_bytes: int = 2 * 1024 * 1024
    wait_seconds: float = 30
    """Longest wait for the first request with the same key."""
    reply_key: bytes | None = field(default=None, repr=False)
    """32 random bytes that kept replies are encrypted with; None: they are kept as they are."""
    former_reply_keys: Sequence[bytes] = field(default=(), repr=False)
    """Keys that replies were encrypted with before, until the last of these replies is forgotten."""


class UnitLayer:
    """Wraps an app so that `unit()` works in it.

    Args:
        app: the app.
        database: where transactions come from.
        replica: where those of routes with `read_only=True` come from; by default the same database. It is not
            fallen back from: what its absence would do to the primary is worse than the 503.
        policies: which routes take an Idempotency-Key, and on what terms their transactions are begun.
        caller: names the sender of a request; by default its principal, else its Authorization header.
        options: bounds.
        events: the kinds of events that the app emits; by default any.
        metrics: where outcomes are counted; nowhere by default.

    Raises:
        SettingsError: a key for kept replies is malformed.
    """

    def __init__(
        self,
        app: ASGIApp,
        database: Database,
        *,
        replica: Database | None = None,
        policies: PolicyTable | None = None,
        caller: Caller = caller_of,
        options: UnitOptions | None = None,
        events: EventTypes = NO_KINDS,
        metrics: Registry | None = None,
    ) -> None:
        self._app = app
        self._database = database
        self._replica = replica if replica is not None else database
        self._policies = policies if policies is not None else PolicyTable()
        self._audits = record_rules(self._policies)
        declared = [pattern for pattern, rule in self._audits.items() if rule.models]
        if declared and not getattr(database, "records_models", False):
            raise SettingsError(
                f"the policies {', '.join(map(repr, declared))} record models before and after, for which units have to"
                f" run on SQLAlchemy; these run on {type(database).__name__}. Take the models out, and call"
                " work.changed() instead"
            )
        self._caller = caller
        self._options = options if options is not None else UnitOptions()
        key = self._options.reply_key
        registry = metrics if metrics is not None else Registry(None)
        self._rules = Rules(
            queries=load_queries("workhorse.units", "sql/queries.sql"),
            seal=None if key is None else Seal([key, *self._options.former_reply_keys]),
            max_reply_bytes=self._options.max_reply_bytes,
            keep_seconds=self._options.keep_seconds,
            wait_seconds=self._options.wait_seconds,
            metrics=registry,
            kinds=events,
        )
        self._told_at = -1.0
        self._turns = Turns(wait_seconds=self._options.wait_seconds)
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
        path = route_path(scope) if scope.get("root_path") else scope["path"]
        policy = self._policies.find(scope["method"], path)
        call = Call(scope, Body(receive), send, self._database, terms_of(policy))
        if call.terms.read_only:
            call.database = self._replica
        elif policy is not None and policy.audit:
            call.audit, call.path = self._audits[policy.pattern], path
        if policy is None or not policy.idempotent:
            await self._run(call)
            return
        try:
            key = _key_of(scope, policy)
        except Problem as problem:
            await self._answer(problem, scope, send)
            return
        if key is None:
            await self._run(call)
            return
        try:
            content = await call.body.read()
        except ClientGone:
            return
        call.batched = policy.batched
        call.claim = make_claim(scope, caller=self._caller(scope), key=key, body=content)
        try:
            turn = await self._turns.take(call.claim.scope)
        except KeyInFlight as problem:
            await self._answer(problem, scope, send)
            return
        call.settled = turn.end
        try:
            await self._run(call)
        finally:
            turn.end()

    async def _run(self, call: Call) -> None:  # noqa: PLR0912 - one fate after the other
        """Run the request until it is answered."""
        for attempt in range(1, self._options.attempts + 1):
            exchange = Exchange(self._rules, call) if call.claim is None or call.batched else await self._begin(call)
            if exchange is None:
                return
            try:
                failure = await self._attempt(exchange, call)
            except BaseException:
                # Cancelled: the server stops. A word to the database could wait; its absence is a rollback too.
                if exchange.transaction is not None:
                    await exchange.transaction.abandon()
                raise
            if failure is None and exchange.transaction is None and exchange.stage is Stage.PASSING:
                return  # as most requests do that read nothing and write nothing
            if exchange.answered:
                self._outcomes.labels("replayed").add(1)
                return
            if failure is None or exchange.stage is Stage.PASSING:
                await self._conclude(exchange)
                if failure is None:
                    return
                try:
                    raise failure
                finally:
                    del failure  # whose frames hold it, and what the app held: a circle
            reason = self._reason_to_repeat(exchange, failure)
            if exchange.transaction is not None:
                with suppress(RunAgain):  # a share of a batch that was undone meanwhile: rolled back is rolled back
                    await exchange.transaction.rollback()
            if reason is None:
                if await self._answer_failure(exchange, failure, call.scope, call.send):
                    return
                try:
                    raise failure
                finally:
                    del failure  # as above
            if attempt == self._options.attempts or not call.body.repeatable:
                gave_up = DatabaseUnavailable() if reason == "connection" else Conflict(attempt)
                await self._answer(gave_up, call.scope, call.send)
                return
            self._repeats.labels(reason).add(1)
            call.rewind()
            if reason != "batch":
                await pause(attempt)

    async def _attempt(self, exchange: Exchange, call: Call) -> Exception | None:
        """Call the app once. Returns what went wrong, if anything did."""
        token = OPENER.set(exchange)
        try:
            await self._app(call.scope, call.body.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - judged by the caller: repeated, answered or raised again
            if exchange.stage is not Stage.NEW or not isinstance(_sole(error), Problem):
                return exchange.failure or _sole(error)
            # The framework did not answer it. Said through the exchange, it commits or rolls back like any reply.
            if failure := await self._speak(_sole(error), call.scope, exchange):
                return failure
        finally:
            OPENER.reset(token)
            exchange.closed = True
        if exchange.failure is None and exchange.body is not None:
            try:
                await exchange.settle(exchange.body.get("body", b""))
            except Exception as error:  # noqa: BLE001 - as above
                return error
        return exchange.failure

    async def _begin(self, call: Call) -> Exchange | None:
        """Begin the transaction of a request with a claim. None if the request was answered already."""
        assert call.claim is not None
        try:
            transaction, row = await self._claim(call, call.claim)
        except (DatabaseUnavailable, KeyInFlight) as problem:
            await self._answer(problem, call.scope, call.send)
            return None
        except Exception as error:
            if not call.database.timed_out(error):
                raise
            await self._answer(KeyInFlight(), call.scope, call.send)
            return None
        if row is None:
            return Exchange(self._rules, call, transaction)
        if not await self._replicated(transaction, call):
            return None
        kept = answer(call.claim, row, self._rules.seal)
        if isinstance(kept, Reply):
            self._outcomes.labels("replayed").add(1)
            note_outcome("repeated")
            await send_reply(kept, call.send, head=call.scope["method"] == "HEAD")
        else:
            self._outcomes.labels("refused").add(1)
            await self._answer(kept, call.scope, call.send)
        return None

    async def _replicated(self, transaction: Transaction, call: Call) -> bool:
        """End the transaction that found a kept reply. False if that may be lost yet, and the client was told so."""
        try:
            await transaction.commit([Query(self._rules.queries["await_standby"])])
        except OutcomeUnknown as problem:
            await transaction.rollback()  # of no effect, but for what goes with the transaction
            self._outcomes.labels("unknown").add(1)
            await self._answer(problem, call.scope, call.send)
            return False
        except Exception as error:
            lost = transaction.lost or call.database.disconnected(error)
            await transaction.rollback()
            if not lost:
                raise
            await self._answer(DatabaseUnavailable(), call.scope, call.send)
            return False
        except BaseException:
            await transaction.abandon()
            raise
        return True

    async def _claim(self, call: Call, claim: Claim) -> tuple[Transaction, Sequence[Any] | None]:
        """Begin a transaction that holds the key, together with the reply that was kept for it, if there is one.

        A transaction with one snapshot for all its statements cannot wait for a key: it would not see the reply that
        it waited for. It is told that the key is taken, waits in a transaction of read committed, and begins anew.

        Raises:
            KeyInFlight: others with the same key kept coming in between.
        """
        query = Query(self._rules.queries["claim_reply"], (claim.scope, claim.lock_key, self._options.keep_seconds))
        for attempt in range(1, self._options.attempts + 1):
            transaction, row = await call.database.begin(query, terms=call.terms)
            if row is None or row[0] is not None:
                return transaction, row
            await transaction.rollback()
            waited = call.terms._replace(isolation="read committed")
            transaction, row = await call.database.begin(query, terms=waited)
            if row is not None:
                return transaction, row
            await transaction.rollback()
            await pause(attempt)
        raise KeyInFlight

    def _reason_to_repeat(self, exchange: Exchange, failure: Exception) -> str | None:
        """Why this run may be repeated; None if it may not. Nothing of it has been sent or written."""
        if isinstance(failure, OutcomeUnknown):
            return None
        if isinstance(failure, RunAgain):
            return "batch"
        if self._database.conflicted(failure):
            return "conflict"
        if exchange.transaction is None or self._database.timed_out(failure):
            return None
        if exchange.transaction.lost or self._database.disconnected(failure):
            return "connection"
        return None

    async def _conclude(self, exchange: Exchange) -> None:
        """End a run that was answered, or that ended without a word."""
        transaction, work = exchange.transaction, exchange.work
        if exchange.stage is Stage.HELD and exchange.body is not None:
            await exchange.release(exchange.body)
        elif transaction is not None:
            await transaction.rollback()  # of no effect after a commit
        await exchange.take_leave()
        if transaction is not None and exchange.start is not None and work is not None:
            committed = exchange.start["status"] < 400 or work.keeps
            self._outcomes.labels("committed" if committed else "rolled_back").add(1)

    async def _answer_failure(self, exchange: Exchange, failure: Exception, scope: Scope, send: Send) -> bool:
        """Answer for a run that raised and will not be repeated. False: it is to be raised, whether answered or not."""
        self._outcomes.labels("unknown" if isinstance(failure, OutcomeUnknown) else "failed").add(1)
        if isinstance(failure, OutcomeUnknown):
            note_outcome("unknown")
            await self._answer(failure, scope, send)
            return True
        if exchange.transaction is not None and overwhelmed(failure):
            self._tell_overwhelmed(failure)
            await self._answer(DatabaseUnavailable(), scope, send)
            return True
        if exchange.transaction is not None and self._database.timed_out(failure):
            await self._answer(DatabaseTimeout(), scope, send)
        elif exchange.stage is Stage.HELD and exchange.body is not None:
            await exchange.release(exchange.body)
        return False

    def _tell_overwhelmed(self, failure: Exception) -> None:
        """Say in the log what the server lacks: once a second, since all requests meet it."""
        now = monotonic()
        if now - self._told_at >= 1:
            self._told_at = now
            logger.error("the database has no room for what requests write: %s", str(failure).partition("\n")[0])

    async def _speak(self, problem: Exception, scope: Scope, exchange: Exchange) -> Exception | None:
        """Reply with `problem` in the app's stead, and return what made the commit fail, if it did."""
        assert isinstance(problem, Problem)
        try:
            await self._answer(problem, scope, exchange.send)
        except Exception as error:  # noqa: BLE001 - judged by the caller
            return exchange.failure or error
        return exchange.failure

    async def _answer(self, problem: Problem, scope: Scope, send: Send) -> None:
        reply = render_problem(problem, instance=request_instance())
        await send_reply(reply, send, head=scope["method"] == "HEAD")


def _sole(error: Exception) -> Exception:
    """What an app raised, without the groups of one that its framework's tasks have wrapped it in."""
    sole = error
    for _ in range(MAX_GROUPS):
        among: tuple[Exception, ...] = getattr(sole, "exceptions", ())
        if not issubclass(type(sole), ExceptionGroup) or len(among) != 1:
            break
        sole = among[0]
    return sole


def _key_of(scope: Scope, policy: Policy) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            return parse_key(value)
    if policy.idempotent == "required":
        raise KeyMissing
    return None


def terms_of(policy: Policy | None) -> Terms:
    """On what terms the transactions of the request that is being served are begun."""
    request = CURRENT.get(None)
    deadline = 0.0 if request is None else request.deadline
    if policy is None:
        return Terms(None, False, deadline)  # noqa: FBT003 - by place: each request has them
    return Terms(policy.isolation, policy.read_only, deadline)
