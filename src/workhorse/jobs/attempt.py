"""One attempt of one job: run the function, then see that what follows stands in the database.

What a job does in its unit and its own end commit together, fenced by worker and attempt: either both stand, or
neither. A job that opens no unit leaves nothing in the database but its end, and its worker writes those of many jobs
at once; such a job may run again when the worker dies before that.

    the function returns  ── with a unit ──▶ COMMIT with the job's end       exactly once
                          ── without ──────▶ the worker's next turn          at least once
    it raises, or is late ────────────────▶ rolled back; tried again later, or dead
    others' commits won   ────────────────▶ rolled back; run again at once, a few times
    somebody cancels it   ────────────────▶ rolled back; ended as cancelled
    the worker stops      ────────────────▶ rolled back; given back, as if never begun

From when its end is told to the database, an attempt is not ended from outside any more (`settling`): an end that was
told by half would leave a job that is nobody's, and that nobody takes back while this worker lives.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from workhorse.context import CURRENT
from workhorse.contracts import Database, Query, Terms, Transaction
from workhorse.errors import UnitClosed
from workhorse.jobs.current import RUNNING, RunningJob
from workhorse.jobs.definition import Job
from workhorse.jobs.engine import Claimed, Engine, Fence
from workhorse.jobs.errors import JobLate, JobUnknown
from workhorse.jobs.origin import context_of
from workhorse.journal.kinds import EventTypes
from workhorse.telemetry.lines import render_exception
from workhorse.telemetry.redaction import redact_text
from workhorse.units.aftermath import call_after_commit
from workhorse.units.unit import pause
from workhorse.units.work import NO_KINDS, OPENER, Work

__all__ = ["Attempt", "Ended", "JobUnit", "Stop", "Tools", "failure_of"]

# How often a job is run again at once because others' commits won.
CONFLICTS: Final = 5
# A job that nobody here knows is left to newer code: for so long at first, and for longer each time.
UNKNOWN_SECONDS: Final = 10.0
LONGEST_UNKNOWN_SECONDS: Final = 60.0
# Then, after weeks, it is dead: its number of attempts has an end (a smallint), which would stop all of its queue.
MOST_BEGINNINGS: Final = 32_000
MAX_MESSAGE: Final = 500


class Ended(Enum):
    """How an attempt ended."""

    DONE = "done"
    """Its end is to be written with the worker's next turn."""
    COMMITTED = "committed"
    """Its end stands."""
    RETRIED = "retried"
    DEAD = "dead"
    CANCELLED = "cancelled"
    RELEASED = "released"
    """Given back as if never begun."""
    LOST = "lost"
    """It was not this worker's any more: nothing of this attempt stands."""


class Stop(Enum):
    """Why a running job is ended from outside."""

    CANCELLED = "cancelled"
    """Somebody asked for it."""
    DRAINED = "drained"
    """The worker stops."""
    LOST = "lost"
    """The worker was taken for dead; the job is another's."""


class JobUnit:
    """The unit of a job (see `units.work.Opener`): begun by the first `unit()`, ended with the job."""

    __slots__ = ("_database", "_ended", "_events", "_lock", "_terms", "_transaction", "_work", "loop")

    def __init__(self, database: Database, *, deadline: float, events: EventTypes = NO_KINDS) -> None:
        self._database = database
        self._events = events
        self._terms = Terms(deadline=deadline)
        self._lock = asyncio.Lock()
        self._transaction: Transaction | None = None
        self._work: Work | None = None
        self._ended = False
        self.loop = asyncio.get_running_loop()

    @property
    def opened(self) -> bool:
        """Whether there is anything to commit."""
        return self._work is not None

    def _over(self) -> bool:
        return self._ended

    async def open(self) -> Work:
        """Return the work, and begin its transaction at the first call."""
        if self._over():
            raise UnitClosed("the job's unit has ended with the job; what outlives it needs a unit of its own")
        async with self._lock:
            if self._work is None:
                transaction, _ = await self._database.begin(terms=self._terms)
                if self._over():  # while a thread or a task of the job waited for a connection
                    await transaction.rollback()
                    raise UnitClosed("the job ended before its unit was open: await unit() before it returns")
                self._transaction, self._work = transaction, Work(transaction, self._events)
            return self._work

    async def commit(self, last: Sequence[Query]) -> None:
        """Commit all that was done, and `last` with it."""
        assert self._work is not None
        self._ended = True
        await self._work.transaction.commit([*self._work.drain(), *last])
        await call_after_commit(self._work.callbacks())

    async def undo(self, *, cancelled: bool) -> None:
        """Roll back, if there is anything to."""
        self._ended = True
        if self._transaction is not None:
            if cancelled:
                await self._transaction.abandon()
            else:
                await self._transaction.rollback()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all attempts of a worker share."""

    database: Database
    engine: Engine
    threads: Executor
    worker_name: str
    events: EventTypes
    """The kinds of events that jobs may emit."""
    settle: Callable[[Callable[[], Any]], Any]
    """Says something to the database until it has been heard."""
    mask: Callable[[str], str] = redact_text
    """Masks what is secret or personal in an error's text, which is kept."""


class Attempt:
    """One attempt."""

    __slots__ = ("_abandoned", "claimed", "error", "fence", "job", "progress", "settling", "stop", "task", "tools")

    def __init__(self, claimed: Claimed, job: Job[Any, Any] | None, tools: Tools) -> None:
        self.claimed = claimed
        self.job = job
        self.tools = tools
        self.fence = Fence(claimed.id, tools.engine.worker, claimed.attempt)
        self.stop: Stop | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.progress = RunningJob(claimed, self.fence, tools.engine, tools.database)
        self.settling = False
        self._abandoned = False

    def __repr__(self) -> str:
        return f"<Attempt {self.claimed.attempt} of {self.claimed.name} {self.claimed.id}>"

    def end(self, why: Stop) -> None:
        """End it from outside, unless its end is being written. The first reason stands."""
        if self.stop is None and self.task is not None and not self.settling:
            self.stop = why
            self.task.cancel()

    async def run(self) -> Ended:
        """Run the function, and see to what follows."""
        job = self.job
        if job is None or self.claimed.version > job.declared.version:
            return await self._left_to_others()
        try:
            for conflicts in range(1, CONFLICTS):
                try:
                    return await self._try(job)
                except Exception as error:
                    if not self.tools.database.conflicted(error):
                        raise
                await pause(conflicts)
            return await self._try(job)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # whatever a job raises, its worker goes on
            if self.stop is not None:
                return await self._stopped(self.stop)
            if isinstance(error, asyncio.CancelledError) and not self._cancelled_itself():
                raise
            self.error = error
            return await self._failed(job, error)

    def abandon(self) -> None:
        """Leave it as it stands: the worker ends."""
        self._abandoned = True
        if self.task is not None:
            self.task.cancel()

    def _cancelled_itself(self) -> bool:
        """Whether a cancellation is the job's own doing, and so an error of the job like others.

        It may have cancelled its own task, or let pass the error of something that it awaited. (Where all of the loop's
        tasks are cancelled, the worker's own comes to an end too, and abandons its attempts.)
        """
        if self.task is None or self._abandoned:
            return False
        while self.task.cancelling():
            self.task.uncancel()  # else what follows would be taken for cancelled as well
        return True

    async def _left_to_others(self) -> Ended:
        """Give back what this worker does not know; what nobody has known for weeks is dead."""
        self.settling = True
        claimed, tools = self.claimed, self.tools
        if claimed.attempt >= MOST_BEGINNINGS:
            self.error = JobUnknown(claimed.name, claimed.version)
            failure = failure_of(self.error, attempt=claimed.attempt, worker=tools.worker_name, mask=tools.mask)
            return Ended(await tools.settle(partial(tools.engine.fail, self.fence, failure, None)))
        pause_seconds = min(LONGEST_UNKNOWN_SECONDS, UNKNOWN_SECONDS * claimed.attempt)
        await tools.settle(partial(tools.engine.release, [self.fence], retry_in=pause_seconds))
        return Ended.RELEASED

    async def _try(self, job: Job[Any, Any]) -> Ended:
        claimed, tools = self.claimed, self.tools
        arguments = job.read(claimed.version, claimed.arguments)
        deadline = time.monotonic() + job.declared.deadline_seconds
        unit = JobUnit(tools.database, deadline=deadline, events=tools.events)
        OPENER.set(unit)
        RUNNING.set(self.progress)
        self.progress.taken_steps.clear()
        CURRENT.set(context_of(claimed.id, claimed.origin, deadline=deadline))
        try:
            late = asyncio.timeout(job.declared.deadline_seconds)
            try:
                async with late:
                    if job.is_async:
                        await job.function(**arguments)
                    else:
                        call = partial(copy_context().run, job.function, **arguments)
                        await asyncio.get_running_loop().run_in_executor(tools.threads, call)
                    if self.task is not None and self.task.cancelling():
                        await asyncio.sleep(0)  # here, and not in the midst of the COMMIT
            except TimeoutError as error:
                if late.expired():
                    raise JobLate(
                        f"the job {job.name!r} took longer than its {job.declared.deadline_seconds:g} s"
                    ) from error
                raise
            if not unit.opened:
                return Ended.DONE
            self.settling = True
            stepped = self.progress.stepped or claimed.has_run
            await unit.commit([tools.engine.completion(self.fence, stepped=stepped)])
        except Exception:
            self.settling = False
            await unit.undo(cancelled=False)
            raise
        except BaseException:
            await unit.undo(cancelled=True)
            raise
        return Ended.COMMITTED

    async def _failed(self, job: Job[Any, Any], error: BaseException) -> Ended:
        self.settling = True
        declared, claimed = job.declared, self.claimed
        retry_in: float | None = None
        if claimed.attempts_left > 0:
            failures = max(1, declared.retries.attempts - claimed.attempts_left)
            retry_in = declared.retries.pause_seconds(failures, random.random())  # noqa: S311 - spreads, hides nothing
        failure = failure_of(error, attempt=claimed.attempt, worker=self.tools.worker_name, mask=self.tools.mask)
        said = await self.tools.settle(partial(self.tools.engine.fail, self.fence, failure, retry_in))
        return Ended(said)

    async def _stopped(self, why: Stop) -> Ended:
        if why is Stop.LOST:
            return Ended.LOST
        if why is Stop.DRAINED:
            released = await self.tools.settle(partial(self.tools.engine.release, [self.fence]))
            return Ended.RELEASED if released else Ended.LOST
        ended = await self.tools.settle(partial(self.tools.engine.end_cancelled, self.fence))
        return Ended.CANCELLED if ended else Ended.LOST


def failure_of(
    error: BaseException, *, attempt: int, worker: str, mask: Callable[[str], str] = redact_text
) -> dict[str, object]:
    """What is kept of a failed attempt. Secrets are masked; arguments are in it only if the error's text has them."""
    kind = type(error)
    return {
        "attempt": attempt,
        "worker": worker,
        "error": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        "message": _storable(mask(str(error)))[:MAX_MESSAGE],
        "traceback": _storable(mask(render_exception(error))),
    }


def _storable(text: str) -> str:
    """Without what JSON in Postgres cannot hold: U+0000 and lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode()
