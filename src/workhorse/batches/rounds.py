"""Does one batch: claims, the app's function, every member's reply, and one commit for all.

    BEGIN, claim all keys ──▶ function(work, commands) ──▶ outcomes to the handlers ──▶ their replies ──▶ COMMIT
                                                                              with all replies, events and jobs

What one member does wrong must not be its neighbours' loss:

- Whoever's key took effect before gets its first reply, and whoever's key somebody else holds is tried again later: no
  batch waits for a lock.
- A function that raises is called again with half of the commands each, down to the one that makes it raise.
- After the outcomes are out, nothing can be split any more: handlers have answered on what is about to be undone. So a
  member whose handler fails, or answers 400 or above to a command that took effect, undoes the batch, and the others'
  requests run again, each in a batch of its own (`RunAgain`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from workhorse.batches.lanes import Lanes
from workhorse.batches.member import Answered, BatchFull, Kept, Member, ShareOfWork, SlowFunction, SlowHandler
from workhorse.batches.meters import BatchMeters
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import Database, Query, Transaction
from workhorse.errors import Conflict, DatabaseTimeout, DatabaseUnavailable, OutcomeUnknown, Problem, UnitError
from workhorse.sql import load_queries
from workhorse.state.postgres.faults import overwhelmed
from workhorse.units.aftermath import call_after_commit
from workhorse.units.exchange import RunAgain
from workhorse.units.idempotency import KeyInFlight
from workhorse.units.work import OPENER, Work

__all__ = ["Function", "RoundOptions", "Rounds", "on_behalf_of"]

C = TypeVar("C")
O = TypeVar("O")  # noqa: E741 - an outcome

Function: TypeAlias = Callable[[Work, Sequence[C]], Awaitable[Sequence[O | Problem | Kept]]]

TRIES: Final = 5
"""How often a batch that loses to others is begun anew, before its members go on alone."""
PAUSE_SECONDS: Final = 0.005
CALL_SECONDS: Final = 60.0
"""How long the function may take with a batch. It is for one that would keep its lane for ever; the database ends
statements and idle transactions before."""
BUSY_SECONDS: Final = 0.02
"""The pause before a key that somebody else holds is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOptions:
    """Bounds of the batches."""

    lanes: int = 2
    at_most: int = 256
    max_waiting: int = 4_096
    reply_seconds: float = 2.0
    """How long a handler may take from its outcome to its reply: for so long it holds up all the others."""
    keep_seconds: int = 86_400
    wait_seconds: float = 30.0
    """Longest wait for a key that another process holds."""


class Rounds(Generic[C, O]):
    """Does batches of one function on one database.

    Args:
        function: the app's.
        database: where the transactions come from.
        options: bounds.
        meters: what is counted of them.
    """

    def __init__(
        self, function: Function[C, O], database: Database, options: RoundOptions, meters: BatchMeters
    ) -> None:
        self._function = function
        self._meters = meters
        self._database = database
        self._options = options
        self._queries = load_queries("workhorse.batches", "sql/queries.sql")
        of_units = load_queries("workhorse.units", "sql/queries.sql")
        self._keep_one, self._await_standby = of_units["keep_reply"], of_units["await_standby"]
        self._lanes: Lanes[Member[C, O]] = Lanes(
            self._run, lanes=options.lanes, at_most=options.at_most, max_waiting=options.max_waiting
        )

    def put(self, member: Member[C, O]) -> bool:
        """Let a member wait for a batch. False if too many wait already."""
        return self._lanes.put(member)

    async def _run(self, members: Sequence[Member[C, O]]) -> None:
        """Do a batch. Raises nothing: what goes wrong is told to the members."""
        groups, tries, batch = [list(members)], 0, object()
        for member in members:
            member.batch = batch
        now = asyncio.get_running_loop().time()
        self._meters.began([now - member.since for member in members])
        try:
            while groups:
                group = untold(groups.pop(), batch)
                if not group:
                    continue
                try:
                    await self._round(group)
                except Vanished:
                    self._meters.ended("repeated")
                    groups.append(group)
                except (DatabaseUnavailable, SlowFunction) as error:  # halves would fare no better
                    self._meters.ended("failed")
                    fail_all(untold(group, batch), error)
                except Exception as error:  # noqa: BLE001 - told to those whose fault it may be
                    group = untold(group, batch)
                    if self._may_repeat(error) and tries < TRIES:
                        tries += 1
                        self._meters.ended("repeated")
                        await asyncio.sleep(random.random() * PAUSE_SECONDS * 2**tries)  # noqa: S311 - spreads load
                        groups.append(group)
                    elif len(group) > 1:
                        self._meters.ended("split")
                        half = len(group) // 2
                        groups += [group[half:], group[:half]]
                    else:
                        self._meters.ended("failed")
                        fail_all(group, self._said(error, tries))
        finally:
            # All have been told, unless the loop ends: then nobody knows.
            fail_all([member for member in members if member.batch is batch], OutcomeUnknown())

    def _may_repeat(self, error: Exception) -> bool:
        return isinstance(error, Broken) or self._database.conflicted(error) or self._database.disconnected(error)

    def _said(self, error: Exception, tries: int) -> Exception:
        """What a single member is told of an error."""
        if self._database.conflicted(error):
            return Conflict(tries)
        if self._database.timed_out(error):
            return DatabaseTimeout()
        return DatabaseUnavailable() if self._may_repeat(error) or overwhelmed(error) else error

    async def _round(self, group: Sequence[Member[C, O]]) -> None:
        transaction, row = await self._database.begin(self._claim(group))
        try:
            members = await self._sort_out(transaction, row, group)
            if members:
                await self._serve(transaction, members)
            await transaction.rollback()  # of no effect after a commit
        except Exception as error:
            broken = transaction.lost
            await transaction.rollback()
            if broken:  # a server that was killed has no last word, by which its error would be known
                raise Broken from error
            raise
        except BaseException:
            await transaction.abandon()
            raise

    def _claim(self, group: Sequence[Member[C, O]]) -> Query | None:
        claims = [member.claim for member in group if member.claim is not None]
        if not claims:
            return None
        params = (array(claim.scope for claim in claims), array(claim.lock_key for claim in claims))
        return Query(self._queries["claim_replies"], params)

    async def _sort_out(
        self, transaction: Transaction, row: Sequence[Any] | None, group: Sequence[Member[C, O]]
    ) -> list[Member[C, O]]:
        """Answer those whose key took effect before, put off those whose key is held, and return the rest."""
        if row is None or not (row[0] or row[1]):
            return list(group)
        busy, claimed = set(row[0]), list(row[1])
        kept: dict[Any, Sequence[Any]] = {}
        lost: Problem | None = None
        if claimed:
            params = (self._options.keep_seconds, array(claimed))
            rows = await (await transaction.execute(self._queries["kept_replies"], params)).fetchall()
            kept = {scope: reply for scope, _, *reply in rows}
            if any(awaited for _, awaited, *_ in rows):
                lost = await self._lost()
        fresh: list[Member[C, O]] = []
        for member in group:
            if member.claim is not None and member.claim.scope in busy:
                self._put_off(member)
            elif member.claim is not None and member.claim.scope in kept:
                member.fail(lost or Answered(kept[member.claim.scope]))
            else:
                fresh.append(member)
        return fresh

    async def _lost(self) -> Problem | None:
        """What is told instead of kept replies that no standby has yet; None once it has them.

        On a connection of its own: the batch's COMMIT comes when its members have been told.
        """
        try:
            await self._database.run(Query(self._await_standby))
        except DatabaseUnavailable:
            return OutcomeUnknown()
        return None

    def _put_off(self, member: Member[C, O]) -> None:
        """Try a key again that somebody else holds."""
        loop = asyncio.get_running_loop()
        if loop.time() - member.since > self._options.wait_seconds:
            member.fail(KeyInFlight())
            return

        def again() -> None:
            if not member.gone and not self.put(member):
                member.fail(BatchFull())

        member.batch = None  # whatever becomes of this batch is nothing to it any more
        loop.call_later(BUSY_SECONDS, again)

    async def _serve(self, transaction: Transaction, members: Sequence[Member[C, O]]) -> None:
        work = Work(transaction)
        outcomes = await self._call(work, members)
        if any(member.gone for member in members):
            raise Vanished  # its command took effect in here, and no reply will be kept for it
        for member, outcome in zip(members, outcomes, strict=True):
            tell(member, outcome, ShareOfWork(work, member))
        await asyncio.wait([member.settled for member in members], timeout=self._options.reply_seconds)
        broken = [member for member in members if not stands(member)]
        if broken:
            await transaction.rollback()
            self._meters.ended("undone")
            for member in broken:
                let_down(member)
            fail_all(members, RunAgain())
            return
        try:
            await transaction.commit([*self._last(members), *work.drain()])
        except OutcomeUnknown as error:
            self._meters.ended("failed")
            fail_all(members, error)
        except Exception as error:  # noqa: BLE001 - told to the members
            self._meters.ended("undone")
            single = len(members) == 1 and not transaction.lost and not self._may_repeat(error)
            await transaction.rollback()
            fail_all(members, error if single else RunAgain())
        else:
            self._meters.ended("committed")
            for member in members:
                if not member.verdict.done():
                    member.verdict.set_result(None)
            await call_after_commit(work.callbacks())

    async def _call(self, work: Work, members: Sequence[Member[C, O]]) -> Sequence[O | Problem | Kept]:
        opener = OPENER.set(BatchOpener(work))
        callers = CALLERS.set([member.request for member in members])
        limit = asyncio.timeout(CALL_SECONDS)
        try:
            async with limit:
                outcomes = await self._function(work, [member.command for member in members])
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise UnitError(
                f"{self._function.__qualname__} let pass the cancellation of something it awaited"
            ) from error
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise SlowFunction(
                f"{self._function.__qualname__} had not done a batch of {len(members)} after {CALL_SECONDS:g} s"
            ) from error
        finally:
            CALLERS.reset(callers)
            OPENER.reset(opener)
        if len(outcomes) != len(members):
            raise UnitError(
                f"{self._function.__qualname__} got {len(members)} commands and returned {len(outcomes)} outcomes;"
                " it returns one for each, in their order"
            )
        return outcomes

    def _last(self, members: Sequence[Member[C, O]]) -> list[Query]:
        """What the members want committed with their effects: all replies that are kept, in one statement."""
        last = [query for member in members for query in member.settled.result().last]
        kept = [query.params for query in last if query.sql == self._keep_one]
        others = [query for query in last if query.sql != self._keep_one]
        if not kept:
            return others
        scopes, digests, statuses, headers, bodies, key_ids = zip(*kept, strict=True)
        columns = (
            array(scopes),
            array(map(hexadecimal, digests)),
            array(statuses),
            array(map(hexadecimal, headers)),
            array(map(hexadecimal, bodies)),
            array(map(hexadecimal, key_ids)),
        )
        return [*others, Query(self._queries["keep_replies"], columns)]


CALLERS: Final[ContextVar[Sequence[RequestContext | None]]] = ContextVar("workhorse_batch_callers")
"""The requests of the batch that is being done, in the order of its commands."""


@contextmanager
def on_behalf_of(position: int) -> Generator[None]:
    """Write events and jobs in the name of the caller whose command stands at `position` of the batch.

        for position, order in enumerate(orders):
            with on_behalf_of(position):
                await work.emit("transfer.posted", subject=..., data=...)

    In the block `current_request()` is that caller's request.

    Raises:
        UnitError: no batch is being done here.
    """
    callers = CALLERS.get(None)
    if callers is None:
        raise UnitError("on_behalf_of() is for a batched function, while it does its batch")
    request = callers[position]
    if request is None:  # called outside a request, as in a test
        yield
        return
    token = CURRENT.set(request)
    try:
        yield
    finally:
        CURRENT.reset(token)


class Broken(Exception):
    """The connection broke before the commit, so that nothing of the batch stands."""


class Vanished(Exception):
    """A member went away while its command was being done: the batch begins anew without it."""


class BatchOpener:
    """Gives the batch's unit to whatever the function calls."""

    __slots__ = ("_work", "loop")

    def __init__(self, work: Work) -> None:
        self._work = work
        self.loop = asyncio.get_running_loop()

    async def open(self) -> Work:
        """The batch's unit."""
        return self._work


def array(values: Iterable[object]) -> str:
    """An array as Postgres reads it, of values that need no quotes (manual, section 8.15.2)."""
    return "{" + ",".join(map(str, values)) + "}"


def hexadecimal(value: Any) -> str:
    """Bytes as an element of such an array; NULL for None."""
    return "NULL" if value is None else '"\\\\x' + value.hex() + '"'


def tell(member: Member[C, O], outcome: O | Problem | Kept, work: ShareOfWork) -> None:
    """Let the handler go on."""
    member.work = work
    if isinstance(outcome, Kept):
        work.keep()
        member.outcome.set_exception(outcome.problem)
    elif isinstance(outcome, Problem):
        member.refused = True
        member.outcome.set_exception(outcome)
    else:
        member.outcome.set_result(outcome)


def stands(member: Member[Any, Any]) -> bool:
    """Whether the batch may be committed, as far as this member goes."""
    if not member.settled.done() or member.settled.cancelled():
        return False
    return member.settled.result().commits or (member.refused and not member.wrote)


def let_down(member: Member[Any, Any]) -> None:
    """Tell a member for whose sake the batch was undone."""
    if not member.settled.done() or member.settled.cancelled():
        # Perhaps it was the process that stood still: it has a second try, by itself.
        member.fail(SlowHandler() if member.alone else RunAgain())
    elif member.settled.result().commits:
        member.fail(RunAgain())  # it was ready after all, while the batch was being undone: nothing of it stands
    elif not member.verdict.done():
        member.verdict.set_result(None)  # its own refusal leaves, and nothing of it stands


def untold(members: Sequence[Member[C, O]], batch: object) -> list[Member[C, O]]:
    """Those who still wait for this batch: they have no answer, and have neither gone nor been put off to another."""
    return [member for member in members if member.batch is batch and not member.outcome.done()]


def fail_all(members: Sequence[Member[Any, Any]], error: Exception) -> None:
    """Tell all that have not been told yet."""
    for member in members:
        member.fail(error)
