"""What operators do with jobs: look, try again, cancel, forget. Arguments are not shown: they may be personal data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.contracts import Database, Query
from workhorse.jobs.box import queries
from workhorse.jobs.upkeep import History, keep_history

__all__ = ["STATES", "JobDesk", "JobLine", "JobPage", "StepLine", "WorkerLine"]

STATES: Final = ("ready", "running", "delayed", "waiting", "dead")
MAX_LINES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One job that is not finished."""

    id: UUID
    name: str
    queue: str
    key: str | None
    state: str
    attempt: int
    attempts_left: int
    priority: int
    enqueued_at: datetime
    run_at: datetime
    started_at: datetime | None
    progress: object


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """One step that stands."""

    name: str
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """All that there is to know of one job, finished or not."""

    id: UUID
    name: str
    queue: str
    key: str | None
    state: str
    """One of `STATES`, or of the history: done, cancelled, dead."""
    attempt: int
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_at: datetime | None
    worker: str | None
    progress: object
    origin: dict[str, Any]
    failures: list[dict[str, Any]]
    """The latest failed attempts, oldest first."""
    steps: list[StepLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """One worker."""

    name: str
    queues: list[str]
    concurrency: int
    running: int
    sleeping: bool
    started_at: datetime
    heard_of_seconds_ago: float


class JobDesk:
    """Operates on the jobs of one database.

    Raises, in every method:
        DatabaseUnavailable: the database could not be reached, or did not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, *, state: str | None = None, queue: str | None = None, name: str | None = None, limit: int = 50
    ) -> list[JobLine]:
        """Jobs that are not finished, the newest first.

        Raises:
            ValueError: there is no such state, or the limit is not 1 to 1,000.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"there is no state {state!r}; there are {', '.join(STATES)}")
        if not 1 <= limit <= MAX_LINES:
            raise ValueError(f"limit is {limit}; it must be 1 to {MAX_LINES}")
        rows = await self._run("list_live", state, state, queue, queue, name, name, limit)
        return [
            JobLine(
                id=row[0],
                name=row[1],
                queue=row[2],
                key=row[3],
                state=row[4],
                attempt=row[5],
                attempts_left=row[6],
                priority=row[7],
                enqueued_at=row[8],
                run_at=row[9],
                started_at=row[10],
                progress=_json(row[11], None),
            )
            for row in rows
        ]

    async def show(self, job: UUID) -> JobPage | None:
        """One job, finished or not; None where there is none such, or it is forgotten."""
        rows = await self._run("show_live", job)
        if rows:
            row = rows[0]
            steps = [StepLine(name=step, made_at=at) for step, at in await self._run("list_steps", job)]
            return JobPage(
                id=row[0],
                name=row[1],
                queue=row[2],
                key=row[3],
                state=row[4],
                attempt=row[5],
                enqueued_at=row[8],
                run_at=row[9],
                started_at=row[10],
                finished_at=None,
                progress=_json(row[11], None),
                origin=_json(row[12], {}),
                failures=_json(row[13], []),
                worker=row[14],
                steps=steps,
            )
        rows = await self._run("show_finished", job, repr(_made_at(job)))
        if not rows:
            return None
        row = rows[0]
        return JobPage(
            id=row[0],
            name=row[1],
            queue=row[2],
            key=row[3],
            state=row[4],
            attempt=row[5],
            enqueued_at=row[6],
            started_at=row[7],
            finished_at=row[8],
            run_at=None,
            progress=None,
            origin=_json(row[9], {}),
            failures=_json(row[10], []),
            worker=None,
            steps=[],
        )

    async def retry(self, job: UUID, *, attempts: int = 1) -> bool:
        """Try a dead job again, with so many attempts more; or a delayed one now.

        False where it is neither, or where another job with its unique key has come meanwhile.

        Raises:
            ValueError: attempts is not 1 to 1,000.
        """
        if not 1 <= attempts <= 1_000:
            raise ValueError(f"attempts is {attempts}; it must be 1 to 1000")
        rows = await self._run("retry", job, attempts)
        return bool(rows and rows[0][0])

    async def cancel(self, job: UUID) -> str | None:
        """End a job. `cancelled`: it is over; `asked`: it runs, and its worker ends it; None: there is none such.

        A job that runs may still be done before it hears of it.
        """
        rows = await self._run("cancel", job)
        return str(rows[0][0]) if rows else None

    async def purge(self, history: History) -> None:
        """Forget what is older than `history` says. Workers do so by themselves, each hour."""
        await keep_history(self._database, history)

    async def workers(self) -> list[WorkerLine]:
        """The workers that there are."""
        return [
            WorkerLine(
                name=row[0],
                queues=list(row[1]),
                concurrency=row[2],
                running=row[3],
                sleeping=row[4],
                started_at=row[5],
                heard_of_seconds_ago=row[6],
            )
            for row in await self._run("workers")
        ]

    async def _run(self, name: str, *params: object) -> Sequence[Sequence[Any]]:
        return await self._database.run(Query(queries()[name], params), repeatable=True)


def _json(text: str | None, otherwise: Any) -> Any:
    return otherwise if text is None else msgspec.json.decode(text)


def _made_at(job: UUID) -> float:
    """Seconds since 1970 of when a UUID of version 7 was made, less an hour for clocks that differ; else 0."""
    return max(0.0, (job.int >> 80) / 1000 - 3_600) if job.version == 7 else 0.0
