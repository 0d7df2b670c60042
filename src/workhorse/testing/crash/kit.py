"""Kills a program at each of its dealings with the database in turn, and holds what it leaves behind against a promise.

A first run, in which nothing is killed, finds the crash points: the moments of its round trips, seen by a proxy
between the program and its database. Then, for each point, on a fresh copy of the database:

    start the app -> send the request -> the point: SIGKILL -> look -> start the app -> send it again, twice -> look

The process is killed while the proxy holds back the bytes that the point is about, and a moment later than need be:
an app that answers too early gets the time to do so. What was found is judged in `history`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from workhorse.errors import StartupError
from workhorse.testing.crash.effects import Invariant, await_rest, read_effects
from workhorse.testing.crash.history import CrashTestFailed, Report, judge
from workhorse.testing.crash.plan import Plan
from workhorse.testing.crash.process import serve_command
from workhorse.testing.crash.request import Request
from workhorse.testing.crash.trial import Lived, live, ready, stopping

__all__ = ["CrashTest"]

MAX_POINTS: Final = 200
# Each takes two processes and a copy of the database.
AT_ONCE: Final = 2


class CrashTest:
    """Runs crash tests on copies of one database. The fixture `crash_test` makes one.

    Args:
        database_url: the original, which nothing is done to but what `prepare` and the app's first start do.
        folder: where the program runs.
        scratch: a folder for logs.
        environment: further variables for the program.
    """

    def __init__(
        self, database_url: str, *, folder: Path, scratch: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._database_url = database_url
        self._folder = folder
        self._scratch = scratch
        self._environment = dict(environment or {})

    def run(
        self,
        target: str,
        *,
        request: Request,
        invariant: Invariant | Sequence[Invariant] = (),
        outcome: Sequence[str] = (),
        prepare: Callable[[psycopg.Connection[Any]], object] | None = None,
        atomic: bool = True,
        thorough: bool = False,
        ignore: Sequence[str] = (),
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Report:
        """Crash an app at each point of one request.

        Args:
            target: `module:attribute` of the `Service`, or of another ASGI app.
            request: what is sent.
            invariant: asked at rest, after each crash and in the end.
            outcome: queries whose rows must in the end be what they are without a crash.
            prepare: fills the database, after the app's first start has migrated it.
            atomic: whether the effect must, after a crash, be there wholly or not at all.
            thorough: kill also at points that leave no more behind than their neighbours: twice as many.
            ignore: tables whose number of rows says nothing, as `schema.table`.
            command: what serves the app instead of `workhorse run`; `{host}` and `{port}` are filled in.
            environment: further variables for it.

        Raises:
            CrashTestFailed: a promise was broken.
            StartupError: the app does not start, or does not answer even without a crash.
        """
        served = tuple(command) or tuple(serve_command(target))
        plan = Plan(
            subject=f"{target}, {request}",
            command=served,
            request=request,
            invariants=_several(invariant),
            outcome=tuple(outcome),
            ignore=tuple(ignore),
            atomic=atomic,
            thorough=thorough,
            environment={**self._environment, **(environment or {})},
            folder=self._folder,
            scratch=self._scratch,
        )
        return asyncio.run(self._run(plan, prepare))

    def run_command(
        self,
        command: Sequence[str],
        *,
        invariant: Invariant | Sequence[Invariant] = (),
        outcome: Sequence[str] = (),
        prepare: Callable[[psycopg.Connection[Any]], object] | None = None,
        atomic: bool = False,
        thorough: bool = False,
        ignore: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Report:
        """Crash a program that ends by itself, such as a nightly run or a worker that empties its queue.

        After the crash it is run again, once, and must end with the exit code that it has without a crash.

        Args:
            command: what to run; it finds the database in DATABASE_URL.
            invariant: asked at rest, after each crash and in the end.
            outcome: queries whose rows must in the end be what they are without a crash.
            prepare: fills the database.
            atomic: whether all that it does is one transaction.
            thorough: kill also at points that leave no more behind than their neighbours: twice as many.
            ignore: tables whose number of rows says nothing, as `schema.table`.
            environment: further variables for it.

        Raises:
            CrashTestFailed: a promise was broken.
            StartupError: the program does not start, or does not end.
        """
        plan = Plan(
            subject=" ".join(command),
            command=tuple(command),
            request=None,
            invariants=_several(invariant),
            outcome=tuple(outcome),
            ignore=tuple(ignore),
            atomic=atomic,
            thorough=thorough,
            environment={**self._environment, **(environment or {})},
            folder=self._folder,
            scratch=self._scratch,
        )
        return asyncio.run(self._run(plan, prepare))

    async def _run(self, plan: Plan, prepare: Callable[[psycopg.Connection[Any]], object] | None) -> Report:
        began = time.monotonic()
        url = self._database_url
        if plan.request is not None:
            # Its first start migrates, once and for all copies.
            async with stopping(plan, url, plan.scratch / "first.log") as running:
                await ready(running)
        if prepare is not None:
            await asyncio.to_thread(_prepare, url, prepare)
        await asyncio.to_thread(await_rest, url)
        before = await asyncio.to_thread(read_effects, url, outcome=plan.outcome, ignore=plan.ignore)
        plain, points = await live(plan, url, None)
        if not 0 < len(points) <= MAX_POINTS:
            raise StartupError(
                f"{plan.subject} has {len(points)} crash points, not 1 to {MAX_POINTS}: does it use DATABASE_URL?"
                " A crash test is of one short request or program"
            )
        gate = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_one_of(gate, live(plan, url, point))) for point in points]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        histories = [plain, *(task.result().history for task in tasks)]
        assert plain.final is not None
        judged = [(history, judge(history, before=before, plain=plain, atomic=plan.atomic)) for history in histories]
        report = Report(
            subject=plan.subject,
            before=before,
            after=plain.final,
            histories=histories,
            faults=[(history, sentences) for history, sentences in judged if sentences],
            seconds=time.monotonic() - began,
        )
        if not report.passed:
            raise CrashTestFailed(report)
        return report


async def _one_of(gate: asyncio.Semaphore, living: Coroutine[Any, Any, Lived]) -> Lived:
    async with gate:
        return await living


def _several(invariant: Invariant | Sequence[Invariant]) -> tuple[Invariant, ...]:
    return (invariant,) if callable(invariant) else tuple(invariant)


def _prepare(url: str, prepare: Callable[[psycopg.Connection[Any]], object]) -> None:
    with psycopg.connect(url) as connection:
        prepare(connection)
