"""Django's Tasks (6.0 and later) as jobs: enqueued in the transaction that the caller is in, run by workers.

    TASKS = {"default": {"BACKEND": "workhorse.integrations.django.tasks.WorkhorseTasks"}}

    @task
    def send_receipt(number: int) -> None: ...

    send_receipt.enqueue(7)

In a unit a task travels with the unit's COMMIT. Elsewhere its row is written on Django's own connection, so it is in
whatever `atomic()` block is open, and else commits at once: `transaction.on_commit` is not needed, and loses nothing.

The tasks of one queue are one kind of job, whose arguments say which function is meant. A service with this backend in
its settings has these jobs among its own: `manage.py workhorse_worker` runs them, and in development the service does.
A task runs in its job's unit: what it does with the ORM commits with its end, once, however often it had to be tried.
Where tasks wait for others (mail, other services), `"OPTIONS": {"atomic": False}` gives them Django's usual
connections, and they may run again after a crash.

What a task returns is not kept, so results cannot be asked for: what is worth keeping belongs into a table.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async
from django.db import connections
from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus, task_backends
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import json, module_loading, timezone

from workhorse.errors import SettingsError
from workhorse.integrations.django.conf import units_alias
from workhorse.integrations.django.place import PLACE, Place
from workhorse.jobs import Job, Retries, current_job, job
from workhorse.jobs.box import JobBox, JobRow, enqueue_statement
from workhorse.jobs.declared import check_queue
from workhorse.units import sync_unit, unit

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["WorkhorseTasks", "task_jobs"]

# Django has no types.
BACKENDS: Final[Any] = task_backends
TASK: Final = cast("type[Any]", Task)
DJANGO_CONNECTIONS: Final[Any] = connections
CONTEXT: Final[Any] = TaskContext
RESULT: Final[Any] = TaskResult
STATUS: Final[Any] = TaskResultStatus
INVALID: Final = cast("type[Exception]", InvalidTask)
UNKNOWN: Final = cast("type[Exception]", InvalidTaskBackend)
ENQUEUED: Final[Any] = task_enqueued
STARTED: Final[Any] = task_started
FINISHED: Final[Any] = task_finished
TIMEZONE: Final[Any] = timezone
JSON: Final[Any] = json
LOADING: Final[Any] = module_loading

OPTIONS: Final = {"atomic": True, "attempts": Retries().attempts}
MAX_ATTEMPTS: Final = 1_000


class WorkhorseTasks(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """A backend for TASKS.

    Its OPTIONS are `atomic`, whether a task runs in its job's unit (it does), and `attempts`, how often it is tried at
    most when it fails (as often as any job).

    Raises:
        InvalidTask: an option is unknown or malformed, or a queue cannot be named so.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = False
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.alias: str = alias
        self.queues: set[str]
        options: Mapping[str, Any] = {**OPTIONS, **params.get("OPTIONS", {})}
        unknown = sorted(options.keys() - OPTIONS.keys())
        if unknown:
            raise INVALID(f"TASKS[{alias!r}]['OPTIONS'] has {', '.join(unknown)}; it may have {', '.join(OPTIONS)}")
        self.atomic: Final = bool(options["atomic"])
        self.attempts: Final = int(options["attempts"])
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise INVALID(f"TASKS[{alias!r}]['OPTIONS']['attempts'] is {self.attempts}; it must be 1 to {MAX_ATTEMPTS}")
        for queue in self.queues:
            _check_queue(queue)

    def validate_task(self, task: Any) -> None:
        """See that the task can be run, and its queue be one of the engine's.

        Raises:
            InvalidTask: it cannot.
        """
        cast("Any", super()).validate_task(task)
        _check_queue(task.queue_name)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Have the task run if, and only if, the transaction that is open here commits; else at once.

        Raises:
            InvalidTask: the backend cannot run it.
            TypeError, ValueError: an argument is nothing that JSON can say, or they are too large.
        """
        row = self._row(task, args, kwargs)
        place = PLACE.get()
        if place is not None and place.taken:
            sync_unit().put(JobBox, row)
        else:
            statement = enqueue_statement([row])
            with DJANGO_CONNECTIONS[units_alias()].cursor() as cursor:
                cursor.execute(statement.sql, statement.params)
        return self._enqueued(row, task, args, kwargs)

    async def aenqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """As `enqueue`, in async code.

        Raises:
            InvalidTask: the backend cannot run it.
            TypeError, ValueError: an argument is nothing that JSON can say, or they are too large.
        """
        place = PLACE.get()
        if place is None or not place.taken:
            return await sync_to_async(self.enqueue, thread_sensitive=True)(task, args, kwargs)
        row = self._row(task, args, kwargs)
        await (await unit()).put(JobBox, row)
        return self._enqueued(row, task, args, kwargs)

    def _row(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobRow:
        self.validate_task(task)
        at: datetime | None = task.run_after
        if at is not None and at.tzinfo is None:  # without USE_TZ
            at = TIMEZONE.make_aware(at)
        enqueuer = _job_of(task.queue_name).options(priority=task.priority, at=at)
        row = enqueuer.row(
            task.module_path, self.alias, JSON.normalize_json(list(args)), JSON.normalize_json(dict(kwargs))
        )
        return msgspec.structs.replace(row, attempts=self.attempts)

    def _enqueued(self, row: JobRow, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = _result(row.id, task, args, kwargs, backend=self.alias, status=STATUS.READY)
        ENQUEUED.send(type(self), task_result=result)
        return result


def task_jobs() -> "tuple[Job[Any, Any], ...]":
    """The jobs that run tasks: one for each queue that TASKS gives to `WorkhorseTasks`.

    Raises:
        SettingsError: an entry of TASKS cannot be read.
    """
    try:
        backends = [BACKENDS[alias] for alias in BACKENDS.settings]
    except (INVALID, UNKNOWN) as error:
        raise SettingsError(f"TASKS: {error}") from error
    queues: set[str] = {queue for one in backends if isinstance(one, WorkhorseTasks) for queue in one.queues}
    return tuple(_job_of(queue) for queue in sorted(queues))


@cache
def _job_of(queue: str) -> "Job[Any, Any]":
    return job(name=f"django.task:{queue}", queue=queue)(run_task)


async def run_task(task: str, backend: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Run one task of Django's."""
    meant = LOADING.import_string(task)
    if not isinstance(meant, TASK):
        raise INVALID(f"{task!r} is no task; whoever wrote that into the database meant something else")
    if meant.backend != backend:
        meant = meant.using(backend=backend)
    known = meant.get_backend()
    running = current_job()
    result = _result(running.id, meant, args, kwargs, backend=backend, status=STATUS.RUNNING)
    began = TIMEZONE.now()
    _set(result, started_at=began, last_attempted_at=began)
    result.worker_ids.extend(["workhorse"] * running.attempt)
    given = [CONTEXT(task_result=result), *args] if meant.takes_context else args
    # The thread in which the ORM works: the unit's, or one that is closed with the task.
    place = None
    if getattr(known, "atomic", True):
        await unit()
    else:
        place = Place(units_alias())
        place.enter()
    try:
        await _tell(STARTED, known, result)
        try:
            await meant.acall(*given, **kwargs)
        except Exception:
            _set(result, finished_at=TIMEZONE.now(), status=STATUS.FAILED)
            await _tell(FINISHED, known, result)
            raise
        _set(result, finished_at=TIMEZONE.now(), status=STATUS.SUCCESSFUL)
        await _tell(FINISHED, known, result)
    finally:
        if place is not None:
            place.leave()


async def _tell(signal: Any, backend: Any, result: Any) -> None:
    """Send one of Django's signals, in the thread of the ORM: what hears it may write."""
    await sync_to_async(signal.send, thread_sensitive=True)(sender=type(backend), task_result=result)


def _result(
    job_id: UUID, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, backend: str, status: Any
) -> Any:
    return RESULT(
        task=task,
        id=str(job_id),
        status=status,
        enqueued_at=TIMEZONE.now() if status == STATUS.READY else None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def _set(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)  # so Django's own backends do with it


def _check_queue(name: str) -> None:
    try:
        check_queue(name)
    except ValueError as error:
        raise INVALID(str(error)) from None
