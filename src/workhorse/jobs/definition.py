"""What a job is: a function, and how it is to be run.

    @job(retries=Retries(attempts=5), deadline_seconds=30)
    async def send_advice(receipt: int) -> None:
        work = await unit()
        ...

    await send_advice.enqueue(receipt.id)                          # committed with the unit that is served here
    await send_advice.options(key=f"account:{number}").enqueue(1)  # in order with the others of that key

`enqueue` writes nothing by itself: the row waits in the unit and travels with its COMMIT, in the same round trip. Where
there is no unit it refuses. A job that is enqueued beside a transaction is either lost with the process between the two
or runs for what was rolled back; who wants that says so, with `enqueue_alone`.
"""

import inspect
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import update_wrapper
from hashlib import blake2b
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

import msgspec

from workhorse.contracts import Database
from workhorse.errors import NoUnit
from workhorse.jobs.arguments import Signature
from workhorse.jobs.box import JobBox, JobRow, enqueue_statement
from workhorse.jobs.declared import SMALLINT, Definition, EnqueueOptions, Upgrade
from workhorse.jobs.origin import current_origin
from workhorse.jobs.retries import Retries
from workhorse.journal.events import time_ordered_id
from workhorse.units import unit
from workhorse.units.threads import sync_unit

__all__ = ["Call", "Enqueuer", "Job", "job"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,99}")
MAX_MANY: Final = 100_000
ALONE_AT_ONCE: Final = 1_000
DEFAULT_RETRIES: Final = Retries()


@dataclass(frozen=True, slots=True)
class Call(Generic[P]):
    """Checked arguments of one job, for `enqueue_many`."""

    name: str
    arguments: bytes


class Enqueuer(Generic[P]):
    """Enqueues one kind of job, with options."""

    __slots__ = ("_declared", "_options", "_signature")

    def __init__(self, declared: Definition, options: EnqueueOptions, signature: Signature) -> None:
        self._declared = declared
        self._options = options
        self._signature = signature

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[P]:
        """Check arguments, for `enqueue_many`.

        Raises:
            TypeError, ValueError: they are not what the job's function takes.
        """
        return Call(self._declared.name, self._signature.encode(args, kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Have the job done if, and only if, this unit commits.

        Returns:
            The job's id. With a unique key it says nothing of whether the job was new, which the commit decides.

        Raises:
            NoUnit: no unit is being served here.
            TypeError, ValueError: the arguments are not what the job's function takes.
        """
        row = self._row(self._signature.encode(args, kwargs))
        await self._put(row)
        return row.id

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """As `enqueue`, in a sync handler or job, which runs in a thread.

        Raises:
            NoUnit: no unit is being served here.
            TypeError, ValueError: the arguments are not what the job's function takes.
        """
        row = self._row(self._signature.encode(args, kwargs))
        sync_unit().put(JobBox, row)
        return row.id

    async def enqueue_many(self, calls: Iterable[Call[P]]) -> list[UUID]:
        """Have many jobs done, in order, if this unit commits: `enqueue_many(send.call(id) for id in ids)`.

        Raises:
            NoUnit: no unit is being served here.
            ValueError: a call is another job's, or there are more than 100,000.
        """
        ids: list[UUID] = []
        for one in calls:
            if one.name != self._declared.name:
                raise ValueError(f"a call of the job {one.name!r} was given to {self._declared.name!r}")
            if len(ids) >= MAX_MANY:
                raise ValueError(f"one unit enqueues at most {MAX_MANY} jobs at once; enqueue one that enqueues them")
            row = self._row(one.arguments)
            await self._put(row)
            ids.append(row.id)
        return ids

    async def enqueue_alone(self, database: Database, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Have the job done by itself, tied to no unit: it commits here and now, whatever else is rolled back.

        Raises:
            DatabaseUnavailable: it is not known whether the job was written.
            TypeError, ValueError: the arguments are not what the job's function takes.
        """
        row = self._row(self._signature.encode(args, kwargs))
        await database.run(enqueue_statement([row]))
        return row.id

    async def enqueue_many_alone(self, database: Database, calls: Iterable[Call[P]]) -> list[UUID]:
        """As `enqueue_many`, in transactions of a thousand jobs of their own.

        Raises:
            DatabaseUnavailable: it is not known how many jobs were written.
        """
        rows = [self._row(one.arguments) for one in calls]
        for start in range(0, len(rows), ALONE_AT_ONCE):
            await database.run(enqueue_statement(rows[start : start + ALONE_AT_ONCE]))
        return [row.id for row in rows]

    def row(self, *args: P.args, **kwargs: P.kwargs) -> JobRow:
        """The job as it is written, for rooms that write it themselves."""
        return self._row(self._signature.encode(args, kwargs))

    def _row(self, arguments: bytes) -> JobRow:
        declared, options = self._declared, self._options
        digest = None
        if options.unique is not None:
            digest = UUID(bytes=blake2b(f"{declared.name}\0{options.unique}".encode(), digest_size=16).digest())
        window = options.unique_window
        return JobRow(
            id=time_ordered_id(time.time_ns()),
            name=declared.name,
            queue=options.queue,
            version=declared.version,
            priority=options.priority,
            attempts=declared.retries.attempts,
            blocks=declared.blocks,
            arguments=msgspec.Raw(arguments),
            at=options.at,
            delay=None if options.delay is None else options.delay.total_seconds(),
            key=options.key,
            unique_digest=digest,
            unique_seconds=None if window is None else window.total_seconds(),
            origin=current_origin(),
        )

    async def _put(self, row: JobRow) -> None:
        try:
            work = await unit()
        except NoUnit:
            raise NoUnit(
                f"the job {row.name!r} is enqueued where there is no unit: do it in a handler, in another job or in"
                " `async with Unit(database)`, so that it commits with what it belongs to; or, if it belongs to"
                " nothing, use enqueue_alone(database, ...)"
            ) from None
        await work.put(JobBox, row)


class Job(Enqueuer[P], Generic[P, R]):
    """A function that can be run in the background. Made by `@job`; calling it calls the function, here and now."""

    def __init__(self, function: Callable[P, R], declared: Definition, options: EnqueueOptions) -> None:
        super().__init__(declared, options, Signature(function, declared.name))
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now; of an async one this is the coroutine."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Job {self.name} on queue {self.queue}>"

    @property
    def name(self) -> str:
        """Names the job in the database; it never changes, while functions are moved and renamed."""
        return self._declared.name

    @property
    def queue(self) -> str:
        """The queue that it is put in unless its options say otherwise."""
        return self._options.queue

    @property
    def declared(self) -> Definition:
        """How it is to be run."""
        return self._declared

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | None = None,
        at: datetime | None = None,
        key: str | None = None,
        unique: str | None = None,
        unique_window: timedelta | None = None,
    ) -> Enqueuer[P]:
        """Enqueue it otherwise.

        Args:
            queue: another queue, which some worker must serve.
            priority: higher goes first; by default the job's own.
            delay: run it so much later than the unit's begin.
            at: run it at this time, which has a time zone.
            key: jobs of one queue and key run one at a time, in the order in which their units committed.
            unique: while a job of the same name and unique key is not finished, this one is not written. The unit
                commits all the same.
            unique_window: the unique key holds for so long, whether the job is finished or not.

        Raises:
            ValueError: an option is malformed.
        """
        return Enqueuer(
            self._declared,
            replace(
                self._options,
                queue=queue or self._options.queue,
                priority=self._options.priority if priority is None else priority,
                delay=delay,
                at=at,
                key=key,
                unique=unique,
                unique_window=unique_window,
            ),
            self._signature,
        )

    def read(self, version: int, encoded: str) -> dict[str, Any]:
        """The arguments of a job that was enqueued with this version.

        Raises:
            msgspec.MsgspecError: they are not what the function takes.
            ValueError: the version is an older one, and there is no upgrade for it.
        """
        declared = self._declared
        if version == declared.version:
            return self._signature.decode(encoded)
        if declared.upgrade is None:
            raise ValueError(
                f"the job {declared.name!r} is of version {declared.version} here, and was enqueued with {version};"
                " give @job an upgrade= for its arguments"
            )
        upgraded = declared.upgrade(version, msgspec.json.decode(encoded))
        return self._signature.decode(self._signature.encode((), upgraded))


@overload
def job(function: Callable[P, R], /) -> Job[P, R]: ...


@overload
def job(
    *,
    name: str = "",
    queue: str = "default",
    priority: int = 0,
    retries: Retries = DEFAULT_RETRIES,
    deadline_seconds: float = 300.0,
    on_failed_key: Literal["block", "pass"] = "block",
    version: int = 1,
    upgrade: Upgrade | None = None,
) -> Callable[[Callable[P, R]], Job[P, R]]: ...


def job(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    queue: str = "default",
    priority: int = 0,
    retries: Retries = DEFAULT_RETRIES,
    deadline_seconds: float = 300.0,
    on_failed_key: Literal["block", "pass"] = "block",
    version: int = 1,
    upgrade: Upgrade | None = None,
) -> Any:
    """Make a job of a function, async or not: `@job`, or `@job(retries=...)`.

    A job that opens `unit()` has its effects and its own end committed together: exactly once. What it does outside the
    database may happen again after a crash, and should bear that.

    Args:
        function: the function.
        name: names it in the database; by default the function's name. Never change it while such jobs wait.
        queue: workers serve queues by name.
        priority: higher goes first.
        retries: how often it is tried, and when.
        deadline_seconds: an attempt that takes longer is ended, and has failed. The thread of a function that is not
            async cannot be ended; its transaction is.
        on_failed_key: when the last attempt of a job with an ordering key has failed: `block`, the later ones of its
            key wait until somebody retries or cancels it; `pass`, they go on.
        version: of the arguments. A worker leaves jobs of a later version than it knows to newer workers.
        upgrade: makes arguments of this version of earlier ones.

    Raises:
        TypeError: a parameter has no annotation, or is of a type that JSON cannot say.
        ValueError: an option is malformed.
    """

    def decorate(function: Callable[P, R]) -> Job[P, R]:
        called = name or function.__name__
        if not _NAME.fullmatch(called):
            raise ValueError(f"the job name {called[:120]!r} is not 1 to 100 of A-Z a-z 0-9 _ . : -, a letter first")
        if not 0 < deadline_seconds <= 86_400:
            raise ValueError(
                f"the deadline of {called!r} is {deadline_seconds:g} s; more than 0, at most a day is taken"
            )
        if not 1 <= version <= SMALLINT:
            raise ValueError(f"the version of {called!r} is {version}; it must be 1 to {SMALLINT}")
        return Job(
            function,
            Definition(
                name=called,
                version=version,
                retries=retries,
                deadline_seconds=deadline_seconds,
                blocks=on_failed_key == "block",
                upgrade=upgrade,
            ),
            EnqueueOptions(queue=queue, priority=priority),
        )

    return decorate if function is None else decorate(function)
