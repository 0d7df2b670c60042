"""What other rooms write travels with the commit; what is called after it, comes after it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from psycopg.waiting import wait_async

from tests.asgi_client import call, http_scope
from tests.units.databases import Sql, layered, on
from workhorse import unit
from workhorse.asgi import Message
from workhorse.contracts import Query
from workhorse.errors import Conflict, NoUnit, UnitClosed, UnitError
from workhorse.state.postgres import roundtrip
from workhorse.units import Unit, Work
from workhorse.units import aftermath as aftermath_room

ADD = "INSERT INTO notes (text) VALUES (%s)"
CONFLICT = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"


class NoteBox:
    """Notes, as one statement."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    @property
    def full(self) -> bool:
        return len(self.rows) >= 3

    def add(self, row: str, /) -> None:
        self.rows.append(row)

    def drain(self) -> Query | None:
        rows, self.rows = self.rows, []
        if not rows:
            return None
        return Query("INSERT INTO notes (text) SELECT unnest(string_to_array(%s, ','))", (",".join(rows),))


class TwinBox(NoteBox):
    """Another kind."""


def run(database_url: str, script: Any, **options: Any) -> Any:
    return asyncio.run(on("pool", database_url, script, **options))


async def notes(work: Work) -> list[str]:
    return [text for (text,) in await (await work.execute("SELECT text FROM notes ORDER BY id")).fetchall()]


def test_rows_wait_for_the_commit_and_flush_writes_them_before(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.put(NoteBox, "a")
            await work.put(TwinBox, "b")
            assert await notes(work) == []
            await work.flush()
            assert await notes(work) == ["a", "b"]
            await work.put(NoteBox, "c")
            assert work.outbox(NoteBox).rows == ["c"]
        assert sql("SELECT text FROM notes ORDER BY id") == [("a",), ("b",), ("c",)]

    run(database_url, script)


def test_a_full_box_is_written_ahead_of_the_commit(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            for text in "abcd":
                await work.put(NoteBox, text)
            assert await notes(work) == ["a", "b", "c"]

    run(database_url, script)


def test_rows_of_a_block_are_undone_with_it_and_those_from_before_are_not(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.put(NoteBox, "before")
            with contextlib.suppress(ZeroDivisionError):
                async with work.savepoint():
                    await work.put(NoteBox, "inside")
                    assert await notes(work) == ["inside"], "it has to be written in the block"
                    with pytest.raises(UnitError, match="before it"):
                        await work.flush()
                    raise ZeroDivisionError
            async with work.connection.transaction():  # psycopg's own block
                await work.put(NoteBox, "own")
        assert sql("SELECT text FROM notes ORDER BY id") == [("own",), ("before",)]

    run(database_url, script)


def test_the_end_of_a_unit_is_one_round_trip_however_much_travels_with_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            sent.append(name)
            return original(*arguments, **options)

        return call

    async def script(database: Any, sql: Sql) -> None:
        transaction, _ = await database.begin()
        work = Work(transaction)
        for kind in (NoteBox, TwinBox):
            await work.put(kind, kind.__name__)
        await work.emit("note.added", subject="1")
        transaction._connection.wait = counting("by psycopg", transaction._connection.wait)
        monkeypatch.setattr(roundtrip, "wait_async", counting("round trip", wait_async))
        await transaction.commit([*work.drain(), Query(ADD, ("last",))])
        assert sent == ["round trip"]
        assert [text for (text,) in sql("SELECT text FROM notes ORDER BY id")] == ["NoteBox", "TwinBox", "last"]
        assert sql("SELECT count(*) FROM workhorse.events") == [(1,)]

    run(database_url, script)


def test_what_comes_while_the_unit_is_committed_is_refused_and_not_lost(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            work.drain()
            with pytest.raises(UnitClosed, match="being committed"):
                await work.put(NoteBox, "late")

    run(database_url, script)


def test_a_unit_is_the_blocks_and_no_longer(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        one = Unit(database)
        async with one as work:
            assert await unit() is work
            async with Unit(database) as inner:  # a transaction of its own
                assert await unit() is inner
                await inner.execute(ADD, ("inner",))
            assert await unit() is work
            await work.execute(ADD, ("outer",))
            straggler = asyncio.create_task(later())
        with pytest.raises(NoUnit):
            await unit()
        with pytest.raises(UnitClosed):
            await straggler
        with pytest.raises(UnitClosed):
            await work.execute("SELECT 1")
        with pytest.raises(UnitError, match="used once"):
            await one.__aenter__()
        assert sql("SELECT text FROM notes ORDER BY id") == [("inner",), ("outer",)]

    async def later() -> None:
        await asyncio.sleep(0.05)
        await unit()

    run(database_url, script)


def test_a_cancelled_unit_rolls_back(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def work_long() -> None:
            async with Unit(database) as work:
                await work.execute(ADD, ("cancelled",))
                await asyncio.sleep(60)

        task = asyncio.create_task(work_long())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait({task})
        async with Unit(database) as work:
            assert await notes(work) == []

    run(database_url, script, size=1)


def test_a_function_is_run_again_when_it_loses_and_finishes_once(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        tried: list[int] = []

        async def attempt(work: Work) -> str:
            tried.append(1)
            await work.execute(ADD, (f"try {len(tried)}",))
            if len(tried) == 1:
                await work.execute(CONFLICT)
            if len(tried) == 2:
                await work.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return "done"

        result = await Unit.run(database, attempt, finish=lambda result: [Query(ADD, (result,))])
        assert result == "done"
        assert sql("SELECT text FROM notes ORDER BY id") == [("try 3",), ("done",)]

        async def never(work: Work) -> None:
            tried.append(1)
            await work.execute(CONFLICT)

        tried.clear()
        with pytest.raises(Conflict):
            await Unit.run(database, never, attempts=2)
        assert len(tried) == 2

        async def wrong(work: Work) -> None:
            tried.append(1)
            await work.execute("SELECT 1 / 0")

        tried.clear()
        with pytest.raises(psycopg.errors.DivisionByZero):
            await Unit.run(database, wrong)
        assert tried == [1], "only what lost to others is run again"

    run(database_url, script)


def test_a_finish_that_finds_nothing_to_do_undoes_the_unit(database_url: str) -> None:
    """The fence of a job's acknowledgement: its statement raises where the job is not the worker's any more."""
    fence = Query("SELECT 1 / (SELECT count(*) FROM notes WHERE text = %s)::int", ("mine",))

    async def script(database: Any, sql: Sql) -> None:
        async def zombie(work: Work) -> None:
            await work.execute(ADD, ("effect",))

        with pytest.raises(psycopg.errors.DivisionByZero):
            await Unit.run(database, zombie, finish=lambda _: [fence])
        assert sql("SELECT * FROM notes") == []

    run(database_url, script)


def test_callbacks_come_after_the_commit_and_the_reply_and_before_background_tasks(database_url: str) -> None:
    app = FastAPI()
    order: list[str] = []

    @app.post("/notes")
    async def add(tasks: BackgroundTasks) -> str:
        work = await unit()
        await work.execute(ADD, ("x",))

        async def later() -> None:
            order.append("async")

        def plain() -> None:
            time.sleep(0.01)
            order.append("sync")

        def broken() -> None:
            raise RuntimeError("logged, not raised")

        for callback in (later, broken, plain):
            work.after_commit(callback)
        tasks.add_task(lambda: order.append("task"))
        return "ok"

    async def script(database: Any, sql: Sql) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            order.append(message["type"].rpartition(".")[2])
            order.append(f"{len(sql('TABLE notes'))} note")

        await layered(app, database)(http_scope("POST", "/notes"), receive, send)

    run(database_url, script)
    assert order == ["start", "1 note", "body", "1 note", "async", "sync", "task"]


def test_callbacks_of_a_stream_come_after_its_end(database_url: str) -> None:
    app = FastAPI()
    order: list[str] = []

    @app.post("/notes")
    async def add() -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for number in range(2):
                order.append(f"chunk {number}")
                yield str(number)

        (await unit()).after_commit(lambda: order.append("called"))
        return StreamingResponse(chunks())

    async def script(database: Any, sql: Sql) -> None:
        assert (await call(layered(app, database), "POST", "/notes", body=b"")).body == b"01"

    run(database_url, script)
    assert order == ["chunk 0", "chunk 1", "called"]


@pytest.mark.parametrize("ending", ["refused", "raised", "failed at the commit", "run again"])
def test_callbacks_are_not_called_without_a_commit(ending: str, database_url: str) -> None:
    app = FastAPI()
    called: list[int] = []
    runs: list[int] = []

    @app.post("/notes")
    async def add() -> Any:
        runs.append(1)
        run_number = len(runs)
        work = await unit()
        work.after_commit(lambda: called.append(run_number))
        if ending == "refused":
            return StreamingResponse(iter(()), status_code=409)
        if ending == "raised":
            raise RuntimeError
        if ending == "failed at the commit":
            await work.put(NoteBox, "twice,twice")
        elif run_number == 1:
            await work.execute(CONFLICT)
        return "ok"

    async def script(database: Any, sql: Sql) -> None:
        seen = await call(layered(app, database), "POST", "/notes", body=b"")
        assert seen.status == {"refused": 409, "run again": 200}.get(ending, 500)

    run(database_url, script)
    assert called == ([2] if ending == "run again" else [])


def test_a_callback_that_does_not_end_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aftermath_room, "SECONDS", 0.05)
    called: list[str] = []

    async def script(database: Any, sql: Sql) -> float:
        began = time.monotonic()
        async with Unit(database) as work:
            work.after_commit(lambda: asyncio.sleep(60))
            work.after_commit(lambda: called.append("never"))
        return time.monotonic() - began

    assert run(database_url, script) < 5
    assert called == []
    assert "it and 1 more are given up" in caplog.text


def test_a_unit_takes_a_bounded_number_of_callbacks(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            for _ in range(1000):
                work.after_commit(lambda: None)
            with pytest.raises(UnitError, match="1000 callbacks"):
                work.after_commit(lambda: None)
            work.callbacks()

    run(database_url, script)
