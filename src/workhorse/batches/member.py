"""One caller's part in a batch: its command, what became of it, and its reply on the way to the commit.

    put ──▶ outcome ──▶ the handler goes on, the framework renders ──▶ settled ──▶ verdict ──▶ the reply leaves

Two futures go to the caller (`outcome`, `verdict`), one comes back (`settled`). Whichever of the two sides goes away,
the other learns of it by a cancelled future.

To the exchange that holds the caller's reply, its part of the batch's transaction is a transaction like any other
(`Share`): it commits, or takes itself back, and is told once the whole batch has ended.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, NamedTuple, TypeVar

from workhorse.context import RequestContext
from workhorse.contracts import Query, Transaction
from workhorse.errors import PROBLEM_PREFIX, Problem, UnitClosed, UnitError
from workhorse.units.idempotency import Claim
from workhorse.units.work import Outbox, Work

__all__ = ["Answered", "BatchFull", "Kept", "Member", "Settled", "Share", "ShareOfWork", "SlowFunction", "SlowHandler"]

C = TypeVar("C")
O = TypeVar("O")  # noqa: E741 - an outcome
R = TypeVar("R")

# Events and jobs of one member that wait for its reply; more are written ahead.
FULL_ROWS: Final = 500


class BatchFull(Problem):
    """503: more commands wait than could be done in time."""

    status = 503
    type = PROBLEM_PREFIX + "overloaded"
    title = "Too many requests are waiting"

    def __init__(self) -> None:
        super().__init__("Nothing was done. Send it again later.", headers=((b"retry-after", b"1"),))


class Answered(Problem):
    """The request took effect before and was answered with its first reply; whatever the app says now is dropped."""

    status = 409
    type = PROBLEM_PREFIX + "answered"
    title = "The request was answered with its first reply"

    def __init__(self, row: Sequence[Any]) -> None:
        super().__init__()
        self.row = row
        """What was kept, as `units.idempotency.answer` reads it."""


class SlowHandler(UnitError):
    """A handler had its outcome and did not reply in time. Nothing of its batch stands."""


class SlowFunction(UnitError):
    """A batched function did not come to an end. Nothing of its batch stands."""


class Kept(NamedTuple):
    """An outcome that refuses, for good: a retried key gets the same refusal, whatever has changed in between."""

    problem: Problem


class Settled(NamedTuple):
    """How a member's request ended."""

    commits: bool
    """Whether its effects are to stand."""
    last: Sequence[Query] = ()
    """What is to be committed with them: the reply that is kept for its key."""


class Member(Generic[C, O]):
    """One caller's part.

    Args:
        command: what it wants.
        claim: its Idempotency-Key, if it has one.
        request: who it is, for what is written on its behalf.
        alone: whether it has to be a batch of its own, because one that it was in before came to nothing.
    """

    __slots__ = (
        "alone",
        "batch",
        "claim",
        "command",
        "outcome",
        "refused",
        "request",
        "settled",
        "since",
        "verdict",
        "work",
        "wrote",
    )

    def __init__(
        self, command: C, *, claim: Claim | None = None, request: RequestContext | None = None, alone: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.claim = claim
        self.request = request
        self.alone = alone
        self.since = loop.time()
        self.batch: object = None
        """The batch that has it; None while it waits for one."""
        self.refused = False
        """Whether the outcome was a refusal, for which the function has written nothing."""
        self.wrote = False
        """Whether its handler may have written something since."""
        self.work: ShareOfWork | None = None
        """Its part of the batch's unit, once there is an outcome."""
        self.outcome: asyncio.Future[O] = loop.create_future()
        self.settled: asyncio.Future[Settled] = loop.create_future()
        self.verdict: asyncio.Future[None] = loop.create_future()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the outcome any more."""
        return self.outcome.cancelled()

    def leave(self) -> None:
        """Nothing more will come from the caller. Of no effect after it has settled."""
        self.outcome.cancel()
        self.settled.cancel()

    def fail(self, error: Exception) -> None:
        """Tell the caller what went wrong, at whichever point it is."""
        for future in (self.outcome, self.verdict):
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: the caller may have gone


class Share:
    """A member's part of the batch's transaction (see `contracts.Transaction`)."""

    __slots__ = ("_batch", "_member")

    def __init__(self, batch: Transaction, member: Member[Any, Any]) -> None:
        self._batch = batch
        self._member = member

    def __repr__(self) -> str:
        return f"<Share of {self._batch!r}>"

    @property
    def connection(self) -> Any:
        """Refused: it is that of the whole batch.

        Raises:
            UnitError: always.
        """
        raise UnitError(
            "this unit is a part of a batch, whose connection is everybody's: use the batched function's own unit"
        )

    @property
    def lost(self) -> bool:
        """Whether the connection broke."""
        return self._batch.lost

    @property
    def in_block(self) -> bool:
        """There are no blocks here."""
        return False

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement in the batch's transaction, which waits for it. If it fails, the batch is undone.

        It is, too, where the member takes its effects back after this.
        """
        self._member.wrote = True
        return await self._batch.execute(sql, params)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """Refused, as `connection` is.

        Raises:
            UnitError: always.
        """
        raise UnitError("this unit is a part of a batch: a savepoint would be everybody's, so there is none")

    async def commit(self, last: Sequence[Query] = ()) -> None:
        """Have `last` committed with the batch, and wait for that.

        Raises:
            RunAgain: the batch was undone for another's sake.
            OutcomeUnknown: the connection broke before the server confirmed.
            Exception: the batch was undone because of this.
        """
        await self._settle(Settled(commits=True, last=last))

    async def rollback(self) -> None:
        """Take the member's effects back, which undoes the batch, unless there are none. Waits for its end."""
        if not self._member.verdict.done():
            await self._settle(Settled(commits=False))

    async def abandon(self) -> None:
        """Leave."""
        self._member.leave()

    async def _settle(self, settled: Settled) -> None:
        if not self._member.settled.done():
            self._member.settled.set_result(settled)
        # The lane decides for all: that one caller is cancelled must not reach its future.
        await asyncio.shield(self._member.verdict)


class ShareOfWork(Work):
    """A member's part of the batch's unit.

    Its events and jobs wait here until its reply has decided that they stand; then they go into the boxes of the batch.
    """

    __slots__ = ("_batch", "_member", "_rows")

    def __init__(self, batch: Work, member: Member[Any, Any]) -> None:
        super().__init__(Share(batch.transaction, member), batch.kinds)
        self._batch = batch
        self._member = member
        self._rows: list[tuple[Callable[[], Outbox[Any]], Any]] = []

    async def put(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """Have `row` committed with the batch, if this member's reply stands (see `Work.put`)."""
        if self._drained:
            raise UnitClosed("the unit is being committed: what it writes has to be put before the reply")
        self._rows.append((kind, row))
        if len(self._rows) >= FULL_ROWS:
            await self._pass_on()

    async def put_last(self, kind: Callable[[], Outbox[R]], row: R) -> None:
        """The same as `put`: what the member's reply decides, the batch writes."""
        await self.put(kind, row)

    async def flush(self) -> None:
        """Write what waits now, that of the batch and of this member."""
        await self._pass_on()
        await self._batch.flush()

    def drain(self) -> list[Query]:
        """Nothing: what waits goes along with what the batch drains, for all."""
        self._drained = True
        for kind, row in self._rows:
            self._batch.outbox(kind).add(row)
        self._rows.clear()
        return []

    async def _pass_on(self) -> None:
        self._member.wrote = True
        rows, self._rows = self._rows, []
        for kind, row in rows:
            await self._batch.put(kind, row)
