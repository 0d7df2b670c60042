"""Takes jobs and runs them, until it is told to stop.

    turns   end what is done and begin what is ready, in one transaction; the only loop that claims
    beats   say that the worker lives, take the jobs of those that do not, hear who is to be cancelled
    ear     hears notices, and sets the same flag as everything else that may have made work
    chores  schedules and upkeep

The flag `_wake` is cleared before a look at the database, and set by whatever may change what is there. So a call that
comes during the look makes the next one, and none is lost.

A worker that the others took for dead (it was frozen, or the network was) learns so at its next beat. Its jobs are
others' by then, and nothing that it still does for them can commit: it ends them and goes on under a new id.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import UUID

from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.jobs.attempt import Attempt, Ended, Stop, Tools
from workhorse.jobs.declared import check_queue
from workhorse.jobs.definition import Job
from workhorse.jobs.engine import Claimed, Engine, Fence
from workhorse.jobs.meters import Meters
from workhorse.jobs.options import Notices, WorkerOptions
from workhorse.jobs.rest import NET_SECONDS, POLL_SECONDS, Pace, Rest
from workhorse.jobs.schedules import Schedule, keep_schedules
from workhorse.jobs.upkeep import keep_house
from workhorse.jobs.waiting import LONGEST_PAUSE_SECONDS, ended_before, heard, is_set_within
from workhorse.journal.events import time_ordered_id
from workhorse.journal.kinds import EventTypes
from workhorse.telemetry.lines import Level
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.redaction import redact_text
from workhorse.units.work import NO_KINDS

__all__ = ["Worker"]

# Without notices there is no being called: then this often is looked.
DEAF_POLL_SECONDS: Final = 0.5
# Delayed jobs are made ready this often while the worker has no time to ask when the next one is due.
LINE_UP_SECONDS: Final = 0.5
LINED_UP_AT_ONCE: Final = 1_000
# As many ends as one turn writes at most.
ENDS_AT_ONCE: Final = 2_000
CANCEL: Final = "cancel:"
LEVELS: Final[dict[Ended, Level]] = {Ended.DEAD: "error", Ended.CANCELLED: "info", Ended.RELEASED: "info"}

logger = logging.getLogger(__name__)


class Worker:
    """Runs jobs of some queues.

    Args:
        database: for the jobs' units.
        jobs: all that it may run. A job of another name is left to other workers.
        control: for the worker's own statements, with two connections at least; by default `database`, which then must
            have more connections than jobs can use up.
        notices: calls it when there is work; without, it looks twice a second.
        queues: which to serve; by default those that `jobs` name.
        schedules: recurring jobs. Every worker may have all of them: a tick is enqueued once.
        options: how it works.
        events: the kinds of events that jobs may emit.
        log: told of jobs that fail and of what befalls the worker; never of arguments.
        metrics: counts and times.

    Raises:
        SettingsError: two jobs have one name, or there is no queue.
        ValueError: the name of a queue is malformed.
    """

    def __init__(
        self,
        database: Database,
        jobs: Sequence[Job[Any, Any]],
        *,
        control: Database | None = None,
        notices: Notices | None = None,
        queues: Sequence[str] | None = None,
        schedules: Sequence[Schedule] = (),
        options: WorkerOptions | None = None,
        events: EventTypes = NO_KINDS,
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._database = database
        self._control = control or database
        self._jobs = {one.name: one for one in jobs}
        if len(self._jobs) != len(jobs):
            twice = sorted({one.name for one in jobs if [other.name for other in jobs].count(one.name) > 1})
            raise SettingsError(f"two jobs have the name {twice[0]!r}; give one of them another, as @job(name=...)")
        self.queues = tuple(sorted(set(queues if queues is not None else (one.queue for one in jobs))))
        if not self.queues:
            raise SettingsError("a worker without jobs and queues has nothing to do; give it the jobs of the app")
        for queue in self.queues:
            check_queue(queue)
        self._notices = notices
        self._schedules = tuple(schedules)
        self._options = options or WorkerOptions()
        self._events = events
        self._log = log
        self._meters = Meters(metrics)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._engine = Engine(self._control, _new_id(), self.queues)
        self._attempts: dict[UUID, Attempt] = {}
        self._done: list[Fence] = []
        self._stepped = False
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._deaf = True
        self._confused = False
        self._rest = Rest()
        self._pace = Pace()
        self._tools: Tools | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.name} on {', '.join(self.queues)} with {len(self._attempts)} jobs>"

    def stop(self) -> None:
        """Take no more jobs, end those that run within `drain_seconds`, and return from `run`."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`. A database that is away is waited for, as long as it takes.

        Cancelled, it ends as if killed: what ran is taken back by others, as soon as they miss it.

        Raises:
            Exception: the driver's own, where the database refuses to know of the worker: it lacks the migrations.
        """
        async with AsyncExitStack() as stack:
            threads = ThreadPoolExecutor(self._options.threads, thread_name_prefix="workhorse-job")
            # A thread cannot be ended: one that hangs must not hold up the process's own end.
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            if not await ended_before(self._enrol(threads), self._stopping):
                return
            self._say("info", "worker.started", queues=list(self.queues), concurrency=self._options.concurrency)
            helpers = [
                asyncio.create_task(self._beat_on(), name="job worker: beats"),
                asyncio.create_task(keep_house(self._control, self.queues, self._options.history, self._meters)),
            ]
            if self._notices is not None:
                helpers.append(asyncio.create_task(self._listen(self._notices), name="job worker: ear"))
            if self._schedules:
                helpers.append(asyncio.create_task(keep_schedules(self._control, self._schedules, self._say)))
            try:
                await self._turn_on()
                await self._drain()
            finally:
                for helper in helpers:
                    helper.cancel()
                for attempt in self._attempts.values():
                    attempt.abandon()
                await asyncio.gather(
                    *helpers, *(one.task for one in self._attempts.values() if one.task), return_exceptions=True
                )
            self._say("info", "worker.stopped")

    # -- turns

    async def _turn_on(self) -> None:
        lined_up_at = 0.0
        while not self._stopping.is_set():
            self._wake.clear()
            room = self._options.concurrency - len(self._attempts)
            if not self._done and room <= 0:
                await self._wake.wait()
                continue
            now = time.monotonic()
            try:
                if not self._rest.sleeping and now >= lined_up_at:
                    await self._engine.line_up(LINED_UP_AT_ONCE)
                    lined_up_at = now + LINE_UP_SECONDS
                claimed = await self._turn(room)
                if room <= 0 or claimed:
                    if len(claimed) < room:
                        await asyncio.sleep(0)  # let them begin; the quick ones are done then, and end with this turn
                    continue
                await self._find_rest()
            except Exception as error:  # noqa: BLE001 - whatever befell the database, the worker waits for its return
                self._confused = True
                self._say("warning", "worker.turn_failed", exception=error)
                await is_set_within(self._stopping, LONGEST_PAUSE_SECONDS / 2)

    async def _turn(self, room: int) -> list[Claimed]:
        """End what is done and begin what is ready. Returns what began."""
        if self._confused:
            await self._recollect()
        waiting, stepped = self._done, self._stepped
        done = waiting[:ENDS_AT_ONCE]
        claimed = await self._engine.turn(done, max(0, room), stepped=stepped)
        del waiting[: len(done)]
        if not waiting:
            self._stepped = False
        if claimed:
            self._pace.add(len(claimed), time.monotonic())
        for one in claimed:
            self._begin(one)
        return claimed

    async def _recollect(self) -> None:
        """Give back what the database says is this worker's, and this worker knows nothing of.

        A turn whose answer was lost may have claimed jobs.
        """
        known = [fence.job for fence in self._done] + list(self._attempts)
        forgotten = await self._engine.forget(known)
        self._confused = False
        if forgotten:
            self._say("warning", "worker.jobs_given_back", count=forgotten)

    def _begin(self, claimed: Claimed) -> None:
        assert self._tools is not None
        attempt = Attempt(claimed, self._jobs.get(claimed.name), self._tools)
        self._attempts[claimed.id] = attempt
        self._meters.waited(claimed.queue, claimed.waited)
        attempt.task = asyncio.create_task(self._see_through(attempt), name=claimed.name)

    async def _see_through(self, attempt: Attempt) -> None:
        claimed, began = attempt.claimed, time.monotonic()
        try:
            ended = await attempt.run()
            if ended is Ended.DONE:
                self._stepped |= attempt.progress.stepped or claimed.has_run
                self._done.append(attempt.fence)
            self._meters.ended(claimed.name, ended.value, time.monotonic() - began)
            if ended not in {Ended.DONE, Ended.COMMITTED}:
                self._report(attempt, ended)
        except Exception as error:  # noqa: BLE001 - the database refuses to hear of its end
            self._confused = True
            self._say("error", "job.stuck", job=claimed.name, id=str(claimed.id), exception=error)
        finally:
            # Not somebody else's: the same job may have come back under this worker's new id.
            if self._attempts.get(claimed.id) is attempt:
                del self._attempts[claimed.id]
            self._wake.set()

    def _report(self, attempt: Attempt, ended: Ended) -> None:
        claimed = attempt.claimed
        level: Level = LEVELS.get(ended, "warning")
        more: dict[str, object] = {} if attempt.error is None else {"exception": attempt.error}
        if ended is Ended.RELEASED and attempt.stop is None:
            level = "warning"
            more["reason"] = f"this worker does not know its version {claimed.version}"
        self._say(level, f"job.{ended.value}", job=claimed.name, id=str(claimed.id), attempt=claimed.attempt, **more)

    # -- rest

    async def _find_rest(self) -> None:
        """Nothing was ready. Wait for a call, or for the time of the next look."""
        rest, busy = self._rest, not self._rest.should_sleep(self._pace.per_second(time.monotonic()))
        if busy:
            if rest.sleeping:
                await self._engine.sleep(sleeping=False)
                rest.get_up()
            await is_set_within(self._wake, POLL_SECONDS)
            return
        if not rest.sleeping:
            await self._engine.sleep(sleeping=True)
            rest.lay_down()
        view = await self._engine.look()
        if rest.see(view):
            self._wake.set()  # what was written before everybody saw it is visible by now: one more look for it
        if view.due_in is not None and view.due_in <= 0:
            await self._engine.line_up(LINED_UP_AT_ONCE)
            return
        await is_set_within(self._wake, min(rest.pause_seconds(view), DEAF_POLL_SECONDS if self._deaf else NET_SECONDS))

    # -- beats and calls

    async def _enrol(self, threads: ThreadPoolExecutor) -> None:
        """Tell the others of this worker, under its present id."""
        self._tools = Tools(
            database=self._database,
            engine=self._engine,
            threads=threads,
            worker_name=self.name,
            settle=self._settle,
            events=self._events,
            mask=redact_text if self._log is None else self._log.masking.text,
        )
        await self._settle(lambda: self._engine.register(self.name, self._options.concurrency))

    async def _beat_on(self) -> None:
        pause = self._options.beat_seconds
        while True:
            await asyncio.sleep(pause)
            pause = self._options.beat_seconds
            try:
                async with asyncio.timeout(self._options.lease_seconds):
                    beat = await self._engine.beat(self._options.lease_seconds, list(self._attempts))
                if not beat.alive:
                    await self._rise_again()
            except Exception as error:  # noqa: BLE001 - as in the turns
                self._say("warning", "worker.beat_failed", exception=error)
                pause = min(1.0, self._options.beat_seconds)
                continue
            if beat.lost:
                self._say("warning", "worker.jobs_taken_back", count=beat.lost)
                self._wake.set()
            for job in beat.cancelled:
                self._cancel(job)

    async def _rise_again(self) -> None:
        """The others took this worker for dead, and have its jobs."""
        self._say("warning", "worker.taken_for_dead", jobs=len(self._attempts))
        for attempt in list(self._attempts.values()):
            attempt.end(Stop.LOST)
        self._attempts.clear()
        self._done = []
        self._engine = Engine(self._control, _new_id(), self.queues)
        self._rest.get_up()
        assert self._tools is not None
        threads = self._tools.threads
        assert isinstance(threads, ThreadPoolExecutor)
        await self._enrol(threads)
        self._wake.set()

    async def _listen(self, notices: Notices) -> None:
        pause = 0.05
        while True:
            began = time.monotonic()
            try:
                await notices.follow(self._hear)
            except Exception as error:  # noqa: BLE001 - as in the turns; a worker that hears nothing looks more often
                self._say("warning", "worker.deaf", exception=error)
            self._deaf = True
            self._wake.set()
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = 0.05
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _hear(self, payload: str) -> None:
        self._deaf = False
        if payload.startswith(CANCEL):
            self._cancel(UUID(payload.removeprefix(CANCEL)))
        elif not payload or payload in self.queues:
            self._wake.set()

    def _cancel(self, job: UUID) -> None:
        attempt = self._attempts.get(job)
        if attempt is not None:
            attempt.end(Stop.CANCELLED)

    # -- the end

    async def _drain(self) -> None:
        """Let jobs end, give back what does not, and leave nothing behind that others would have to wait for."""
        self._say("info", "worker.draining", jobs=len(self._attempts))
        await self._end_all(self._options.drain_seconds)
        for attempt in list(self._attempts.values()):
            attempt.end(Stop.DRAINED)
        # What follows is quick where the database is there. Where it is not, the lease does the same.
        await self._end_all(LONGEST_PAUSE_SECONDS)
        try:
            async with asyncio.timeout(LONGEST_PAUSE_SECONDS):
                while self._done or self._confused:
                    await self._turn(0)
                if not self._attempts:
                    await self._engine.leave()
        except Exception as error:  # noqa: BLE001 - as in the turns
            self._say("warning", "worker.left_in_haste", exception=error)

    async def _end_all(self, seconds: float) -> None:
        """Wait until no job runs any more, but no longer than that; write the ends of those that are done."""
        give_up = time.monotonic() + seconds
        while self._attempts and (left := give_up - time.monotonic()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    if self._done:
                        await self._turn(0)
                    await self._wake.wait()
            except TimeoutError:
                return
            except Exception as error:  # noqa: BLE001 - as in the turns
                self._confused = True
                self._say("warning", "worker.turn_failed", exception=error)
                await asyncio.sleep(min(left, LONGEST_PAUSE_SECONDS / 2))

    async def _settle(self, call: Callable[[], Any]) -> Any:
        """Say something to the database until it has been heard, or is refused for good."""
        return await heard(call, lambda error: self._say("warning", "worker.not_heard", exception=error))

    def _say(self, level: Level, event: str, **fields: object) -> None:
        if self._log is not None:
            self._log.event(level, event, worker=self.name, **fields)
        else:
            logger.log(logging.getLevelNamesMapping()[level.upper()], "%s %s %s", event, self.name, fields)


def _new_id() -> UUID:
    return time_ordered_id(time.time_ns())
