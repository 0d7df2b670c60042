"""The reply leaves after the commit, or not at all."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from starlette.responses import PlainTextResponse

from tests.asgi_client import Seen, call, http_scope
from tests.units.conftest import Serving, Sql
from workhorse import Problem, unit
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.errors import NoUnit, UnitClosed
from workhorse.units.work import Work


class Teapot(Problem):
    status = 418
    type = "urn:test:problem:teapot"
    title = "I am a teapot"


def notes_app() -> FastAPI:
    app = FastAPI()

    @app.post("/notes", status_code=201)
    async def add(text: str = "one") -> dict[str, str]:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES (%s)", (text,))
        return {"text": text}

    @app.get("/nothing")
    async def nothing() -> str:
        return "no unit"

    @app.post("/refuse")
    async def refuse(keep: bool = False) -> None:  # noqa: FBT001, FBT002
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('refused')")
        if keep:
            work.keep()
        raise Teapot("short and stout")

    @app.post("/crash")
    async def crash() -> None:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('crashed')")
        raise RuntimeError("secret detail")

    @app.post("/error-500")
    async def error_500() -> PlainTextResponse:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('500')")
        return PlainTextResponse("own words", status_code=500)

    @app.post("/swallow")
    async def swallow() -> str:
        work = await unit()
        try:
            await work.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            return "all is well"
        return "unreachable"

    @app.post("/ends-it-itself")
    async def ends_it_itself() -> str:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('mine')")
        await work.connection.commit()
        return "done"

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('streamed')")

        async def chunks() -> AsyncIterator[str]:
            for number in range(3):
                yield str(number)

        return StreamingResponse(chunks())

    @app.post("/late")
    async def late() -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "begun "
            try:
                await unit()
            except UnitClosed:
                yield "too late"

        return StreamingResponse(chunks())

    @app.post("/twice-at-once")
    async def twice_at_once() -> bool:
        one, two = await asyncio.gather(unit(), unit())
        return one is two

    return app


def test_a_successful_reply_commits(serving: Serving, sql: Sql) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/notes")

    seen = asyncio.run(main())
    assert (seen.status, seen.json()) == (201, {"text": "one"})
    assert sql("SELECT text FROM notes") == [("one",)]


def test_the_row_is_committed_before_the_first_byte_leaves(serving: Serving, sql: Sql) -> None:
    """Looks from another connection at the very moment that the start of the reply reaches the server."""
    seen_at_start: list[int] = []

    async def main() -> None:
        async with serving(notes_app()) as service:

            async def receive() -> Message:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen_at_start.append(sql("SELECT count(*) FROM notes")[0][0])

            await service(http_scope("POST", "/notes"), receive, send)

    asyncio.run(main())
    assert seen_at_start == [1]


def test_a_background_task_runs_after_the_commit(serving: Serving, sql: Sql) -> None:
    found: list[int] = []
    app = FastAPI()

    @app.post("/notes")
    async def add(tasks: BackgroundTasks) -> str:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('x')")
        tasks.add_task(lambda: found.append(sql("SELECT count(*) FROM notes")[0][0]))
        return "ok"

    async def main() -> None:
        async with serving(app) as service:
            await call(service, "POST", "/notes")

    asyncio.run(main())
    assert found == [1]


def test_a_request_that_asks_for_no_unit_takes_no_connection(serving: Serving, sql: Sql) -> None:
    async def main() -> int:
        async with serving(notes_app(), database={"pool_min": 0}) as service:
            assert (await call(service, "GET", "/nothing")).status == 200
            rows: int = sql(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'workhorse'"
                " AND datname = current_database()"
            )[0][0]
            return rows

    assert asyncio.run(main()) == 0


def test_a_refusal_rolls_back_unless_the_handler_keeps_it(serving: Serving, sql: Sql) -> None:
    async def main() -> None:
        async with serving(notes_app()) as service:
            seen = await call(service, "POST", "/refuse")
            assert seen.status == 418
            assert seen.header("content-type") == "application/problem+json"
            assert seen.json()["type"] == "urn:test:problem:teapot"
            assert seen.json()["detail"] == "short and stout"
            assert sql("SELECT * FROM notes") == []
            assert (await call(service, "POST", "/refuse?keep=true")).status == 418
            assert sql("SELECT text FROM notes") == [("refused",)]

    asyncio.run(main())


def test_an_exception_rolls_back_and_tells_the_client_nothing_of_it(serving: Serving, sql: Sql) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/crash")

    seen = asyncio.run(main())
    assert seen.status == 500
    assert seen.header("content-type") == "application/problem+json"
    assert b"secret" not in seen.body
    assert b"RuntimeError" not in seen.body
    assert seen.json()["instance"].startswith("urn:workhorse:request:")
    assert sql("SELECT * FROM notes") == []


def test_a_reply_of_500_rolls_back_and_is_sent_as_the_app_wrote_it(serving: Serving, sql: Sql) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/error-500")

    seen = asyncio.run(main())
    assert (seen.status, seen.body) == (500, b"own words")
    assert sql("SELECT * FROM notes") == []


def test_a_swallowed_failure_of_the_transaction_is_no_success(serving: Serving) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/swallow")

    assert asyncio.run(main()).status == 500


def test_a_handler_that_ends_the_transaction_itself_is_not_answered_for(serving: Serving, sql: Sql) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/ends-it-itself")

    assert asyncio.run(main()).status == 500


def test_a_streaming_reply_commits_before_its_first_byte(serving: Serving, sql: Sql) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/stream")

    seen = asyncio.run(main())
    assert (seen.status, seen.body) == (200, b"012")
    assert sql("SELECT text FROM notes") == [("streamed",)]


def test_a_unit_cannot_be_opened_once_the_reply_has_left(serving: Serving) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/late")

    assert asyncio.run(main()).body == b"begun too late"


def test_calls_at_once_share_one_unit(serving: Serving) -> None:
    async def main() -> Seen:
        async with serving(notes_app()) as service:
            return await call(service, "POST", "/twice-at-once")

    assert asyncio.run(main()).json() is True


def test_outside_a_request_there_is_no_unit() -> None:
    async def main() -> str:
        try:
            await unit()
        except NoUnit as error:
            return str(error)
        return ""

    assert "from a handler" in asyncio.run(main())


def test_work_that_outlives_its_request_is_refused(serving: Serving) -> None:
    kept: list[Work] = []
    app = FastAPI()

    @app.post("/notes")
    async def add() -> str:
        kept.append(await unit())
        await kept[0].execute("SELECT 1")
        return "ok"

    async def main() -> str:
        async with serving(app) as service:
            await call(service, "POST", "/notes")
            try:
                await kept[0].execute("SELECT 1")
            except UnitClosed as error:
                return str(error)
        return ""

    assert "ended" in asyncio.run(main())


def test_a_bare_asgi_app_may_raise_a_problem(serving: Serving, sql: Sql) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            work = await unit()
            await work.execute("INSERT INTO notes (text) VALUES ('kept')")
            work.keep()
            raise Teapot

    async def main() -> Seen:
        async with serving(app) as service:
            return await call(service, "POST", "/notes")

    seen = asyncio.run(main())
    assert (seen.status, seen.json()["type"]) == (418, "urn:test:problem:teapot")
    assert sql("SELECT text FROM notes") == [("kept",)]


def test_a_bare_asgi_app_may_raise_a_problem_of_the_servers(serving: Serving, sql: Sql) -> None:
    class Sorry(Problem):
        status = 503
        type = "urn:test:problem:sorry"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            work = await unit()
            await work.execute("INSERT INTO notes (text) VALUES ('sorry') ON CONFLICT DO NOTHING")
            if scope["path"] == "/keep":
                work.keep()
            raise Sorry

    async def main() -> list[Seen]:
        async with serving(app, database={"pool_max": 1, "acquire_timeout_seconds": 1}) as service:
            return [await call(service, "POST", path) for path in ("/", "/", "/keep", "/")]

    seen = asyncio.run(main())
    assert {(one.status, one.json()["type"]) for one in seen} == {(503, "urn:test:problem:sorry")}
    assert sql("SELECT text FROM notes") == [("sorry",)]


def test_a_cancelled_request_rolls_back_and_frees_its_connection(serving: Serving, sql: Sql) -> None:
    app = FastAPI()
    inside = asyncio.Event()

    @app.post("/slow")
    async def slow() -> None:
        work = await unit()
        await work.execute("INSERT INTO notes (text) VALUES ('slow')")
        inside.set()
        await asyncio.sleep(60)

    @app.post("/quick")
    async def quick() -> str:
        work = await unit()
        await work.execute("SELECT 1")
        return "ok"

    async def main() -> int:
        async with serving(app, database={"pool_max": 1}) as service:
            task = asyncio.create_task(call(service, "POST", "/slow"))
            await inside.wait()
            task.cancel()
            await asyncio.wait({task})
            return (await call(service, "POST", "/quick")).status

    assert asyncio.run(main()) == 200
    assert sql("SELECT * FROM notes") == []
