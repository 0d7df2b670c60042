"""What a worker says to the database, one method a statement. The rules are in the functions of `0005_jobs.sql`."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from workhorse.contracts import Database, Query
from workhorse.jobs.arguments import encode_json
from workhorse.jobs.box import queries

__all__ = ["Beat", "Claimed", "Engine", "Fence", "View", "array"]


class Fence(NamedTuple):
    """One attempt of one job by one worker. Whoever is taken for dead loses it, and can end nothing by it."""

    job: UUID
    worker: UUID
    attempt: int


class Claimed(NamedTuple):
    """A job that this worker has, in the order of the columns."""

    id: UUID
    attempt: int
    version: int
    seq: int
    priority: int
    attempts_left: int
    has_run: bool
    """Whether an earlier attempt may have left steps."""
    name: str
    queue: str
    key: str | None
    arguments: str
    origin: str | None
    waited: float
    """Seconds since it could have begun."""


class View(NamedTuple):
    """What a worker knows before it waits."""

    oldest: int
    """The oldest transaction that still writes."""
    newest: int
    """The next transaction to come."""
    due_in: float | None
    """Seconds to the next delayed job."""


class Beat(NamedTuple):
    """The answer to a worker's sign of life."""

    alive: bool
    """False: it was taken for dead, and its jobs were given to others."""
    cancelled: Sequence[UUID]
    """Its jobs that somebody wants to stop."""
    lost: int
    """How many jobs of dead workers were taken back."""


def array(values: Sequence[object]) -> str:
    """An array as Postgres reads it. Only for values without commas, quotes and braces: numbers, UUIDs, queue names."""
    return "{" + ",".join(map(str, values)) + "}"


class Engine:
    """Says it for one worker.

    Args:
        database: not one whose connections the jobs could use up.
        worker: the worker's present id.
        queues: what it serves.
    """

    def __init__(self, database: Database, worker: UUID, queues: Sequence[str]) -> None:
        self._database = database
        self._queues = array(queues)
        self._sql = queries()
        self.worker = worker

    async def register(self, name: str, concurrency: int) -> None:
        """Tell of the worker."""
        await self._run("register", self.worker, name, self._queues, concurrency)

    async def leave(self) -> None:
        """Forget the worker."""
        await self._run("leave", self.worker, repeatable=True)

    async def turn(self, done: Sequence[Fence], most: int, *, stepped: bool) -> list[Claimed]:
        """End what is done, take up to `most` of what is ready. In the order in which they are to begin.

        It is not repeated by itself: who knows what was claimed when no answer came? The lease does.
        """
        rows = await self._run(
            "turn",
            self.worker,
            array([fence.job for fence in done]),
            array([fence.attempt for fence in done]),
            str(stepped).lower(),
            self._queues,
            most,
        )
        claimed = [Claimed._make(row) for row in rows]
        claimed.sort(key=lambda one: (-one.priority, one.seq))
        return claimed

    def completion(self, fence: Fence, *, stepped: bool) -> Query:
        """The statement that ends a job as the last of its own transaction, or fails the transaction."""
        return Query(self._sql["complete"], (fence.job, fence.worker, fence.attempt, str(stepped).lower()))

    def step_kept(self, fence: Fence, step: str, result: bytes) -> Query:
        """The statement that keeps a step's result as the last of its transaction, or fails the transaction."""
        return Query(self._sql["keep_step"], (fence.job, fence.worker, fence.attempt, step, result.decode()))

    async def steps(self, job: UUID) -> dict[str, str]:
        """The results of the steps that are done, as JSON."""
        rows = await self._run("steps", job, repeatable=True)
        return {str(row[0]): str(row[1]) for row in rows}

    async def fail(self, fence: Fence, failure: dict[str, object], retry_in: float | None) -> str:
        """End a failed attempt.

        Returns `retried`, `dead`, `cancelled` where somebody had asked for that, or `lost` where the job is not this
        worker's any more.
        """
        rows = await self._run(
            "fail",
            fence.job,
            fence.worker,
            fence.attempt,
            encode_json(failure).decode(),
            None if retry_in is None else str(retry_in),
            repeatable=True,
        )
        return str(rows[0][0]) if rows else "lost"

    async def release(self, fences: Sequence[Fence], *, retry_in: float = 0.0) -> int:
        """Give jobs back that were not begun after all. Returns how many still were this worker's."""
        rows = await self._run(
            "release",
            self.worker,
            array([fence.job for fence in fences]),
            array([fence.attempt for fence in fences]),
            str(retry_in),
            repeatable=True,
        )
        return int(rows[0][0])

    async def forget(self, known: Sequence[UUID]) -> int:
        """Give back what is this worker's in the database, but for `known`. Returns how many it were."""
        rows = await self._run("forget", self.worker, array(known), repeatable=True)
        return int(rows[0][0])

    async def end_cancelled(self, fence: Fence) -> bool:
        """End a job that was stopped because somebody asked for it."""
        rows = await self._run("end_cancelled", fence.job, fence.worker, fence.attempt, repeatable=True)
        return bool(rows[0][0])

    async def sleep(self, *, sleeping: bool) -> None:
        """Say whether whoever enqueues has to wake this worker."""
        await self._run("sleep", str(sleeping).lower(), self.worker, repeatable=True)

    async def look(self) -> View:
        """What there is to know before waiting."""
        rows = await self._run("look", self._queues, repeatable=True)
        return View._make(rows[0])

    async def line_up(self, most: int) -> int:
        """Make ready what has become due. Returns how many."""
        rows = await self._run("line_up", self._queues, most, repeatable=True)
        return int(rows[0][0])

    async def beat(self, lease_seconds: float, running: Sequence[UUID]) -> Beat:
        """Say that the worker lives."""
        rows = await self._run("beat", self.worker, str(lease_seconds), array(running), repeatable=True)
        return Beat._make(rows[0])

    async def progress(self, fence: Fence, said: bytes) -> None:
        """Keep what a running job says of itself."""
        await self._run("progress", said.decode(), fence.job, fence.worker, fence.attempt, repeatable=True)

    async def _run(self, name: str, *params: object, repeatable: bool = False) -> Sequence[Sequence[Any]]:
        return await self._database.run(Query(self._sql[name], params), repeatable=repeatable)
