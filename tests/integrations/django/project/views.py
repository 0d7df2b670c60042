"""Views of every kind, and what views do that they should not."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import IntegrityError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views import View

from tests.integrations.django.project.models import Author, Book, Note
from workhorse import Problem, job, sync_unit, unit

DB = cast("Any", connection)
DBS = cast("Any", connections)
seen: list[str] = []
"""What callbacks and repeated views have told."""


class NoteRefused(Problem):
    status = 409
    type = "urn:project:refused"
    title = "The note is refused"


@job
async def tell(text: str) -> None:
    seen.append(f"told {text}")


def text_of(request: HttpRequest) -> str:
    return str(json.loads(request.body)["text"])


def answer(note: Any, status: int = 201) -> Any:
    return JsonResponse({"id": note.pk, "text": note.text}, status=status)


def add(request: HttpRequest) -> HttpResponse:
    note = Note.objects.create(text=text_of(request))
    work = sync_unit()
    work.emit("note.added", subject=str(note.pk))
    tell.enqueue_sync(note.text)
    return answer(note)


async def add_async(request: HttpRequest) -> HttpResponse:
    note = await Note.objects.acreate(text=text_of(request))
    work = await unit()
    await work.emit("note.added", subject=str(note.pk))
    await tell.enqueue(note.text)
    return answer(note)


async def add_in_thread(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(add)(request)


class Notes(View):  # type: ignore[misc]
    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"notes": list(Note.objects.values_list("text", flat=True))})

    def post(self, request: HttpRequest) -> HttpResponse:
        return add(request)


class AsyncNotes(View):  # type: ignore[misc]
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await add_async(request)


def plain(request: HttpRequest) -> HttpResponse:
    """Knows nothing of units."""
    return answer(Note.objects.create(text=text_of(request)))


def with_status(request: HttpRequest, status: int, keep: str = "") -> HttpResponse:
    note = Note.objects.create(text=text_of(request))
    if keep:
        sync_unit().keep()
    return answer(note, status)


def refuses(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=text_of(request))
    raise NoteRefused("It is refused.")


def raises(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=text_of(request))
    raise RuntimeError("a secret")


def own_block(request: HttpRequest) -> HttpResponse:
    """Two blocks of its own: one is undone, the other stands with the unit."""
    Note.objects.create(text="before")
    work = sync_unit()
    try:
        with transaction.atomic():
            Note.objects.create(text="undone")
            work.emit("note.undone", subject="1")
            raise RuntimeError  # noqa: TRY301
    except RuntimeError:
        pass
    with transaction.atomic():
        Note.objects.create(text="inside")
        work.emit("note.added", subject="1")
    return answer(Note.objects.create(text=text_of(request)))


def block_that_raises(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Note.objects.create(text=text_of(request))
        raise RuntimeError("out of the block")


def swallows(request: HttpRequest) -> HttpResponse:
    """Swallows the error of a statement, outside of any block of its own."""
    Note.objects.create(text="once")
    try:
        with DB.cursor() as cursor:
            cursor.execute("INSERT INTO project_note (text) VALUES ('once')")
    except IntegrityError:
        pass
    return HttpResponse(status=201)


def catches(request: HttpRequest) -> HttpResponse:
    """Catches the error of a statement around a block of its own, as Django's manual says."""
    Note.objects.create(text="once")
    try:
        with transaction.atomic():
            Note.objects.create(text="once")
    except IntegrityError:
        pass
    return HttpResponse(status=201)


def marks(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text="marked")
    transaction.set_rollback(True)
    return HttpResponse(status=201)


def closes(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text="closed")
    DB.close()
    return HttpResponse(status=201)


def commits(request: HttpRequest) -> HttpResponse:
    """Sends COMMIT as text."""
    Note.objects.create(text="torn")
    with DB.cursor() as cursor:
        cursor.execute("COMMIT")
    return HttpResponse(status=201)


def callbacks(request: HttpRequest) -> HttpResponse:
    note = Note.objects.create(text=text_of(request))

    def tell_count() -> None:
        seen.append(f"sees {Note.objects.count()}")

    transaction.on_commit(tell_count)
    return answer(note)


def failing_callback(request: HttpRequest) -> HttpResponse:
    def fail() -> None:
        seen.append("called")
        raise RuntimeError("the callback")

    transaction.on_commit(fail)
    return answer(Note.objects.create(text=text_of(request)))


def callback_of_what_is_undone(request: HttpRequest) -> HttpResponse:
    transaction.on_commit(lambda: seen.append("called"))
    return HttpResponse(status=400)


def streams(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=text_of(request))

    def parts() -> Iterator[str]:
        yield f"{Note.objects.create(text='b').text} "
        yield f"{Note.objects.count() - 1} "
        yield "end"

    return StreamingHttpResponse(parts())


async def streams_async(request: HttpRequest) -> HttpResponse:
    await Note.objects.acreate(text=text_of(request))

    async def parts() -> AsyncIterator[str]:
        yield f"{await Note.objects.acount()} "
        yield "end"

    return StreamingHttpResponse(parts())


def two_databases(request: HttpRequest) -> HttpResponse:
    Note.objects.using("other").create(text="on the other")
    Note.objects.create(text=text_of(request))
    return HttpResponse(status=int(json.loads(request.body)["status"]))


def deferred(request: HttpRequest) -> HttpResponse:
    """The foreign key is looked at by COMMIT."""
    Author.objects.create(pk=7, name="there")
    Book.objects.create(author_id=int(json.loads(request.body)["author"]))
    return HttpResponse(status=201)


def conflicts(request: HttpRequest) -> HttpResponse:
    """Loses to another transaction as often as it is told to."""
    runs = sum(one == "run" for one in seen)
    seen.append("run")
    note = Note.objects.create(text=text_of(request))
    if runs < int(json.loads(request.body)["times"]):
        with DB.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
    return answer(note)


def loses_connection(request: HttpRequest) -> HttpResponse:
    """Its server process is ended, once."""
    note = Note.objects.create(text=text_of(request))
    if "lost" not in seen:
        seen.append("lost")
        end_backend()
        Note.objects.count()
    return answer(note)


def end_backend() -> None:
    other = DBS.create_connection("default")
    with DB.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    finally:
        other.close()


async def slow(request: HttpRequest) -> HttpResponse:
    await Note.objects.acreate(text=text_of(request))
    await asyncio.sleep(30)
    return HttpResponse()


def slow_in_database(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=text_of(request))
    try:
        with DB.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")
    except Exception as error:  # noqa: BLE001
        seen.append(type(error).__name__)
    try:
        Note.objects.create(text="by a zombie")
    except Exception as error:  # noqa: BLE001
        seen.append(type(error).__name__)
    return HttpResponse()


def writes_later(request: HttpRequest) -> HttpResponse:
    """Writes before and after its client has gone."""
    Note.objects.create(text="before")
    seen.append("begun")
    time.sleep(1.5)
    try:
        Note.objects.create(text="by a zombie")
    except Exception as error:  # noqa: BLE001
        seen.append(type(error).__name__)
    return HttpResponse()


def late_unit(request: HttpRequest) -> HttpResponse:
    """A safe request whose view asks for the unit."""
    work = sync_unit()
    Note.objects.create(text="late")
    work.emit("note.added", subject="1")
    return HttpResponse(status=int(request.GET["status"]))


async def late_unit_async(request: HttpRequest) -> HttpResponse:
    work = await unit()
    await Note.objects.acreate(text="late")
    await work.emit("note.added", subject="1")
    return HttpResponse(status=int(request.GET["status"]))


def unit_inside_block(request: HttpRequest) -> HttpResponse:
    """A safe request that asks for the unit inside of a block of its own."""
    with transaction.atomic():
        sync_unit()
    return HttpResponse()


def savepoints(request: HttpRequest) -> HttpResponse:
    work = sync_unit()
    try:
        with work.savepoint():
            Note.objects.create(text="undone")
            raise RuntimeError  # noqa: TRY301
    except RuntimeError:
        pass
    with work.savepoint():
        Note.objects.create(text="kept")
    rows = work.execute("SELECT text FROM project_note WHERE text = %s", ("kept",))
    return HttpResponse(str(rows.fetchone()))


async def savepoints_async(request: HttpRequest) -> HttpResponse:
    work = await unit()
    try:
        async with work.savepoint():
            await Note.objects.acreate(text="undone")
            raise RuntimeError  # noqa: TRY301
    except RuntimeError:
        pass
    async with work.savepoint():
        await Note.objects.acreate(text="kept")
    rows = await work.execute("SELECT text FROM project_note WHERE text = %s", ("kept",))
    return HttpResponse(str(await rows.fetchone()))


CACHE = cast("Any", cache)


def counts(request: HttpRequest) -> HttpResponse:
    CACHE.add("visits", 0)
    return HttpResponse(str(CACHE.incr("visits")))


async def counts_async(request: HttpRequest) -> HttpResponse:
    await CACHE.aadd("visits", 0)
    return HttpResponse(str(await CACHE.aincr("visits")))


def enqueues(request: HttpRequest) -> HttpResponse:
    """Enqueues a task of Django's."""
    task("write").enqueue(text_of(request))
    return HttpResponse(status=int(json.loads(request.body)["status"]))


async def enqueues_async(request: HttpRequest) -> HttpResponse:
    await task("write").aenqueue(text_of(request))
    return HttpResponse(status=int(json.loads(request.body)["status"]))


def task(name: str) -> Any:
    return getattr(import_module("tests.integrations.django.project.tasks"), name)


def opted_out(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=text_of(request))
    return HttpResponse(status=400)


Opted = cast("Callable[[Any], Any]", transaction.non_atomic_requests(opted_out))
