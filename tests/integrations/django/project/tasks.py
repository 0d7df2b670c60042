"""Tasks of Django's framework. They can be defined only in a project whose TASKS has the backends."""

import time
from typing import Any, cast

from django.db import connection
from django.tasks import task

from tests.integrations.django.project.models import Note
from tests.integrations.django.project.views import seen

TASK = cast("Any", task)
DB = cast("Any", connection)


def number_of_transaction() -> int:
    with DB.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        return int(cursor.fetchone()[0])


@TASK  # type: ignore[untyped-decorator]
def write(text: str, times: int = 1) -> None:
    first = number_of_transaction()
    for number in range(times):
        Note.objects.create(text=f"{text} {number}")
    seen.append(f"one transaction: {first == number_of_transaction()}")


@TASK  # type: ignore[untyped-decorator]
async def write_async(text: str) -> None:
    await Note.objects.acreate(text=text)


@TASK(takes_context=True, queue_name="mail")  # type: ignore[untyped-decorator]
def fails_once(context: Any, text: str) -> None:
    Note.objects.create(text=text)
    seen.append(f"attempt {context.attempt} of {context.task_result.id}")
    if context.attempt == 1:
        raise RuntimeError("not yet")


@TASK(backend="loose")  # type: ignore[untyped-decorator]
def write_and_fail(text: str) -> None:
    Note.objects.create(text=text)
    raise RuntimeError("after the write")


@TASK(backend="loose")  # type: ignore[untyped-decorator]
async def write_async_and_fail(text: str) -> None:
    await Note.objects.acreate(text=text)
    raise RuntimeError("after the write")


@TASK  # type: ignore[untyped-decorator]
def sleeps(text: str, seconds: float) -> None:
    """Writes, and then takes its time."""
    Note.objects.create(text=text)
    time.sleep(seconds)
