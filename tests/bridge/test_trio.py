"""What is special on Trio: calls across the threads, what ends them, and what is refused there."""

import asyncio
import gc
import json
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import pytest
import trio
from fastapi import FastAPI

from tests.conformance.wire import Seen, StartFailed, serving
from workhorse import Policy, Service, Work, batched, job, sync_unit, unit
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.bridge import in_trio
from workhorse.bridge.calls import Stopped, in_asyncio, on_asyncio
from workhorse.bridge.host import Loop, TrioHost
from workhorse.caching import Caches
from workhorse.errors import NoRequest, StartupError, UnitError
from workhorse.guard import Guard
from workhorse.settings import GuardSettings, Settings
from workhorse.units import Unit


def on_trio(body: Callable[[asyncio.AbstractEventLoop], Awaitable[None]]) -> None:
    """Run `body` on Trio, with a loop of asyncio beside it."""

    async def main() -> None:
        with trio.fail_after(20):
            async with Loop() as loop:
                await body(loop)

    trio.run(main)


def asked(app: ASGIApp, *requests: tuple[str, str]) -> list[Seen]:
    """What a service on Trio answers."""

    async def main() -> list[Seen]:
        async with serving(app) as server:
            return [await server.request(method, path) for method, path in requests]

    seen: list[Seen] = trio.run(main)
    return seen


def test_a_call_returns_and_raises_what_it_did_there() -> None:
    async def double(number: int) -> int:
        asyncio.get_running_loop()
        if number < 0:
            raise ValueError("less than nothing")
        return number * 2

    async def body(loop: asyncio.AbstractEventLoop) -> None:
        assert in_trio()
        assert await in_asyncio(loop, double, 21) == 42
        with pytest.raises(ValueError, match="less than nothing"):
            await in_asyncio(loop, double, -1)

    on_trio(body)


def test_a_call_that_is_cancelled_on_trio_is_cancelled_and_over_on_asyncio() -> None:
    seen: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            seen.append("ended")

    async def body(loop: asyncio.AbstractEventLoop) -> None:
        with trio.move_on_after(0.05):
            await in_asyncio(loop, long)
        assert seen == ["ended"]

    on_trio(body)


def test_a_call_that_ends_itself_by_a_cancellation_is_said_to_be_stopped() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def body(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(Stopped):
            await in_asyncio(loop, gives_up)

    on_trio(body)


def test_what_a_failed_call_held_is_free_at_once() -> None:
    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    async def fails() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise ValueError

    async def body(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(ValueError, match=r"^$"):
            await in_asyncio(loop, fails)

    gc.disable()
    try:
        on_trio(body)
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_deadline_ends_the_handler_and_is_answered(settings: Settings) -> None:
    seen: list[str] = []
    api = FastAPI()

    @api.get("/slow")
    async def slow() -> None:
        try:
            await trio.sleep(60)
        finally:
            seen.append("ended")

    service = Service(api, policies=[Policy("GET /slow", deadline=0.3)], settings=settings)
    (reply,) = asked(service, ("GET", "/slow"))
    assert reply.status == 504
    assert b"deadline" in reply.body
    assert seen == ["ended"]


def test_a_server_that_stops_ends_the_statement_and_nothing_is_written(settings: Settings) -> None:
    assert settings.database.url is not None
    url = settings.database.url.get_secret_value()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE notes (text text)")
    api = FastAPI()

    @api.post("/notes")
    async def note() -> None:
        work = await unit()
        await work.execute("INSERT INTO notes VALUES ('half')")
        await work.execute("SELECT pg_sleep(30)")

    async def main() -> float:
        async with serving(Service(api, settings=settings)) as server:
            began = trio.current_time()
            with trio.move_on_after(0.5):
                await server.request("POST", "/notes")
            return trio.current_time() - began

    assert trio.run(main) < 10
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
        running = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(30)'"
            " AND state = 'active' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert running == (0,)


def test_savepoints_events_and_replies_of_a_unit_work_as_on_asyncio(settings: Settings) -> None:
    assert settings.database.url is not None
    url = settings.database.url.get_secret_value()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE notes (text text)")
    api = FastAPI()

    async def undo() -> None:
        raise ValueError

    @api.post("/notes")
    async def note() -> list[str]:
        work = await unit()
        await work.execute("INSERT INTO notes VALUES ('kept')")
        try:
            async with work.savepoint():
                await work.execute("INSERT INTO notes VALUES ('undone')")
                await work.emit("note.undone", subject="1")
                await undo()
        except ValueError:
            pass
        await work.emit("note.kept", subject="1")
        rows = await work.execute("SELECT text FROM notes")
        assert rows.rowcount == 1
        return [text for (text,) in await rows.fetchall()]

    (reply,) = asked(Service(api, settings=settings), ("POST", "/notes"))
    assert (reply.status, json.loads(reply.body)) == (200, ["kept"])
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT type FROM workhorse.events").fetchall() == [("note.kept",)]


def test_a_cache_is_used_by_a_call_to_asyncio(settings: Settings) -> None:
    api, made = FastAPI(), list[str]()
    caches = Caches()
    rates = caches.open("rates", dict[str, int], ttl=60)

    async def make() -> dict[str, int]:
        made.append("made")
        return {"EUR": 1}

    @api.get("/rates")
    async def all_rates() -> dict[str, int]:
        return await on_asyncio(rates.once, "all", make)

    replies = asked(Service(api, caches=caches, settings=settings), ("GET", "/rates"), ("GET", "/rates"))
    assert [json.loads(reply.body) for reply in replies] == [{"EUR": 1}] * 2
    assert made == ["made"]


def test_jobs_are_enqueued_with_the_unit_and_batched_commands_are_done(settings: Settings) -> None:
    assert settings.database.url is not None
    url = settings.database.url.get_secret_value()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE readings (number int)")
    api = FastAPI()

    @job
    async def advise(number: int) -> None: ...

    @batched
    async def read(work: Work, numbers: Sequence[int]) -> list[int]:
        asyncio.get_running_loop()
        for number in numbers:
            await work.execute("INSERT INTO readings VALUES (%s)", (number,))
        return [number * 2 for number in numbers]

    @api.post("/advice")
    async def advice() -> None:
        await advise.enqueue(7)

    @api.post("/readings")
    async def reading() -> int:
        return await read(21)

    policies = [Policy("POST /readings", batched=True, idempotent=True)]
    quiet = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"in_process": "off"})})
    service = Service(api, jobs=[advise], policies=policies, settings=quiet)
    replies = asked(service, ("POST", "/advice"), ("POST", "/readings"))
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"null"), (200, b"42")]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM workhorse.jobs").fetchone() == (1,)
        assert connection.execute("SELECT number FROM readings").fetchall() == [(21,)]


@pytest.mark.parametrize("what", ["connection", "sync_unit", "Unit"])
def test_what_waits_on_asyncio_is_refused_with_what_to_do(what: str, settings: Settings) -> None:
    api, said = FastAPI(), list[str]()

    @api.get("/")
    async def index() -> None:
        work = await unit()
        try:
            match what:
                case "connection":
                    _ = work.connection
                case "sync_unit":
                    sync_unit()
                case _:
                    database: Any = None
                    Unit(database)
        except UnitError as error:
            said.append(str(error))

    (reply,) = asked(Service(api, settings=settings), ("GET", "/"))
    assert reply.status == 200
    assert "asyncio" in said[0] or "await unit()" in said[0]


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_guard_alone_is_refused_at_the_start_with_the_line_to_write() -> None:
    async def main() -> None:
        async with serving(Guard(plain, settings=GuardSettings())):
            pass

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(StartupError, match=r"TrioHost\(app, around=")


def test_a_fast_route_is_refused_at_the_start(settings: Settings) -> None:
    api = FastAPI()

    @api.get("/fast")
    async def fast() -> int:
        return 1

    with pytest.raises(StartFailed, match="on Trio take `fast` out"):
        asked(Service(api, policies=[Policy("GET /fast", fast=True)], settings=settings))


def test_a_host_serves_nothing_before_its_lifespan() -> None:
    host = TrioHost(plain, around=lambda app: app)
    scope: Scope = {"type": "http"}

    async def main() -> None:
        async def nothing(*_: object) -> Any: ...

        with pytest.raises(StartupError, match="lifespan events"):
            await host(scope, nothing, nothing)

    trio.run(main)


def test_the_same_service_is_served_on_asyncio_after_trio(settings: Settings) -> None:
    service = Service(plain, settings=settings)
    (reply,) = asked(service, ("GET", "/"))

    async def main() -> int:
        async with serving(service) as server:
            return (await server.request("GET", "/")).status

    assert (reply.status, asyncio.run(main())) == (204, 204)


def test_outside_of_a_request_there_is_nothing_to_call() -> None:
    async def nothing() -> None: ...

    async def main() -> None:
        with pytest.raises(NoRequest):
            await on_asyncio(nothing)

    trio.run(main)
