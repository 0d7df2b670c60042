"""Start and stop: rooms before the app, undone when half done, and said plainly when they fail."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI, Request

from tests.asgi_client import StartFailed, call, running
from workhorse import Service, unit
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.migrations import Migrations
from workhorse.settings import Settings, load_settings


def connections(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'workhorse' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    count: int = row[0]
    return count


def test_the_app_starts_after_the_rooms_and_stops_before_them(settings: Settings) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append(f"app starts, database open: {service.rooms.database is not None}")
        yield {"token": "of the app"}
        await service.rooms.database.ping(deadline_seconds=1)
        seen.append("app stops, database open: True")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(request: Request) -> str:
        return "ok"

    service = Service(app, settings=settings)

    async def main() -> None:
        async with running(service):
            assert (await call(service, "GET", "/")).status == 200
        with pytest.raises(Exception, match="does not run"):
            _ = service.rooms

    asyncio.run(main())
    assert seen == ["app starts, database open: True", "app stops, database open: True"]


def test_an_app_that_fails_to_start_leaves_nothing_open(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if app.title:
            raise RuntimeError("no licence")
        yield

    service = Service(FastAPI(lifespan=lifespan), settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match="the app failed to start"):
        asyncio.run(main())
    assert "no licence" in capfd.readouterr().err
    assert settings.database.url is not None
    assert connections(settings.database.url.get_secret_value()) == 0


def test_an_app_without_lifespan_is_served_all_the_same(settings: Settings) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    service = Service(app, settings=settings)

    async def main() -> int:
        async with running(service):
            return (await call(service, "GET", "/")).status

    assert asyncio.run(main()) == 204


def test_a_database_that_cannot_be_reached_is_said_with_the_mend(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(tmp_path, database={"url": "postgresql://u:hunter2@127.0.0.1:1/x"})
    service = Service(FastAPI(), settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match="cannot be reached"):
        asyncio.run(main())
    said = capfd.readouterr()
    assert "cannot start" in said.err
    assert "hunter2" not in said.err + said.out


def test_a_request_before_the_start_is_told_so() -> None:
    seen = asyncio.run(call(Service(FastAPI()), "GET", "/"))
    assert seen.status == 503
    assert "lifespan" in seen.json()["detail"]


def test_own_migrations_are_applied_in_development(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "somebank" / "sql" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / "somebank" / "__init__.py").touch()
    (folder / "0001_books.sql").write_text("CREATE TABLE books (title text);")
    monkeypatch.syspath_prepend(str(tmp_path))
    app = FastAPI()

    @app.get("/")
    async def index() -> int:
        cursor = await (await unit()).execute("SELECT count(*) FROM books")
        count: int = (await cursor.fetchone())[0]
        return count

    service = Service(app, settings=settings, migrations=[Migrations("somebank", "somebank")])

    async def main() -> Any:
        async with running(service):
            return (await call(service, "GET", "/")).json()

    assert asyncio.run(main()) == 0


def test_production_does_not_migrate_by_itself_and_says_the_command(
    empty_database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(
        tmp_path, environment="production", database={"url": empty_database_url}, guard={"allowed_hosts": ["localhost"]}
    )
    service = Service(FastAPI(), settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match=r"lacks migrations: workhorse 0001_replies, .*\. Run `workhorse migrate`"):
        asyncio.run(main())


def test_a_service_can_be_started_again_after_its_stop(settings: Settings) -> None:
    service = Service(FastAPI(), settings=settings)

    async def main() -> list[int]:
        statuses: list[int] = []
        for _ in range(2):
            async with running(service):
                statuses.append((await call(service, "GET", "/-/ready")).status)
            statuses.append((await call(service, "GET", "/-/ready")).status)
        return statuses

    assert asyncio.run(main()) == [200, 503, 200, 503]


def test_what_the_app_logs_by_the_standard_library_is_in_the_same_log(
    database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own, which stand for an app's
    settings = load_settings(tmp_path, database={"url": database_url}, log={"format": "json"})
    app = FastAPI()

    @app.get("/")
    async def index() -> None:
        logging.getLogger("app").warning("paid with password=%s", "hunter2")

    service = Service(app, settings=settings)

    async def main() -> None:
        async with running(service):
            await call(service, "GET", "/")

    asyncio.run(main())
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["level"] == "warning"]
    assert "paid with" in json.dumps(line)
    assert "hunter2" not in json.dumps(line)
    assert logging.getLogger().handlers == []


def test_whatever_goes_wrong_at_the_start_is_said_and_not_served(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception that left the lifespan call would tell the server that there is none, and it would serve."""
    settings = load_settings(tmp_path, database={"url": "not a url, password=hunter2"})
    service = Service(FastAPI(), settings=settings)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed):
        asyncio.run(main())
    said = capfd.readouterr().err
    assert "cannot start" in said
    assert "hunter2" not in said


def test_a_start_that_is_given_up_ends_the_apps_too(settings: Settings) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            seen.append("starts")
            await asyncio.sleep(3600)
            yield
        finally:
            seen.append("ended")

    service = Service(FastAPI(lifespan=lifespan), settings=settings)

    async def main() -> None:
        task = asyncio.create_task(enter(service))
        while not seen:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {one for one in asyncio.all_tasks() if one is not asyncio.current_task()} == set()

    asyncio.run(main())
    assert seen == ["starts", "ended"]


async def enter(service: Service) -> None:
    async def send(message: Message) -> None:
        pass

    incoming: asyncio.Queue[Message] = asyncio.Queue()
    await incoming.put({"type": "lifespan.startup"})
    await service({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, incoming.get, send)


def test_an_app_that_does_not_start_in_time_is_said_by_name(settings: Settings) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.sleep(3600)
        yield

    hasty = settings.model_copy(update={"server": settings.server.model_copy(update={"start_timeout_seconds": 0.2})})
    service = Service(FastAPI(lifespan=lifespan), settings=hasty)

    async def main() -> None:
        async with running(service):
            pass

    with pytest.raises(StartFailed, match=r"within 0.2 seconds \(server.start_timeout_seconds\)"):
        asyncio.run(main())


def test_an_app_whose_lifespan_ends_with_an_error_is_ready_no_more(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    fail = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fail.wait()
        raise RuntimeError("the pool is lost")

    service = Service(app, settings=settings)

    async def main() -> tuple[int, int, Any]:
        async with running(service):
            before = (await call(service, "GET", "/-/ready")).status
            fail.set()
            await asyncio.sleep(0.05)
            after = await call(service, "GET", "/-/ready")
            return before, after.status, after.json()["app"]

    assert asyncio.run(main()) == (200, 503, False)
    assert "the pool is lost" in capfd.readouterr().err
