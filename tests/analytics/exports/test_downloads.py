"""A download is one file, in however many parts it comes; it is there when it is made, and its owner's alone."""

import asyncio
import hashlib
import socket
import threading
import urllib.error
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import Seen, call
from workhorse import Service
from workhorse.analytics.exports import DownloadReply, Downloads, ExportFailed, NoSuchExport
from workhorse.analytics.exports.downloads import Ready
from workhorse.analytics.exports.ranges import Part, choose_part
from workhorse.analytics.tables import Access, Format, Selection, Tables
from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send
from workhorse.client import CutShort, download
from workhorse.context import CURRENT, RequestContext
from workhorse.errors import SettingsError
from workhorse.integrations.tables import Download
from workhorse.principal import Kind, Principal
from workhorse.settings import Settings
from workhorse.state.objects import FolderStore
from workhorse.testing import service_client

DATA = bytes(range(256)) * 9_000
TAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, Part(200, 0, 100)),
        ({"range": "bytes=0-9"}, Part(206, 0, 10)),
        ({"range": "bytes=90-"}, Part(206, 90, 100)),
        ({"range": "bytes=90-1000"}, Part(206, 90, 100)),
        ({"range": "bytes=-10"}, Part(206, 90, 100)),
        ({"range": "bytes=-1000"}, Part(206, 0, 100)),
        ({"range": "bytes=100-"}, Part(416)),
        ({"range": "bytes=-0"}, Part(416)),
        ({"range": "bytes=9-0"}, Part(200, 0, 100)),
        ({"range": "bytes=0-1,5-6"}, Part(200, 0, 100)),
        ({"range": "lines=0-1"}, Part(200, 0, 100)),
        ({"range": "bytes=-"}, Part(200, 0, 100)),
        ({"range": "bytes=5-", "if-range": '"a"'}, Part(206, 5, 100)),
        ({"range": "bytes=5-", "if-range": '"b"'}, Part(200, 0, 100)),
        ({"range": "bytes=5-", "if-range": 'W/"a"'}, Part(200, 0, 100)),
        ({"range": "bytes=5-", "if-range": "Mon, 23 Nov 2026 18:00:00 GMT"}, Part(200, 0, 100)),
        ({"if-none-match": '"b", "a"'}, Part(304)),
        ({"if-none-match": '"b"'}, Part(200, 0, 100)),
    ],
    ids=str,
)
def test_a_client_gets_the_part_that_it_asks_for(headers: dict[str, str], part: Part) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert choose_part(raw, 100, '"a"') == part


@given(st.text(st.characters(max_codepoint=255), max_size=40), st.integers(0, 100))
def test_whatever_a_client_asks_for_its_part_is_within_the_file(asked: str, size: int) -> None:
    for text in (asked, f"bytes={asked}", f"bytes={size}-{asked}"):
        part = choose_part([(b"range", text.encode("latin-1"))], size, '"a"')
        assert 0 <= part.start <= part.end <= size
        assert (part.status == 206) <= (part.end > part.start)


class Classes:
    """Names are for who has a scope; others get null."""

    def class_of(self, column: str) -> str | None:
        return "personal" if column == "name" else "plain"

    def access(self, class_: str, principal: Principal) -> Access:
        return Access.ALLOW if class_ == "plain" or principal.may("names:read") else Access.MASK

    def audited(self, class_: str) -> bool:
        return class_ == "personal"


def acting(subject: str, *scopes: str) -> None:
    request = RequestContext()
    request.principal = Principal(subject=subject, kind=Kind.KEY, scopes=frozenset(scopes))
    CURRENT.set(request)


def served(settings: Settings, folder: Path, script: Callable[[Any, Downloads, FastAPI], Awaitable[None]]) -> None:
    """Run a script against a service with downloads, which works by itself."""
    tables = Tables(privacy=Classes())

    def people(born: date, broken: int = 0) -> Selection:
        return tables.select("SELECT 7 / (1 - %s) AS id, 'Ada' AS name, %s AS born", (broken, born), name="people")

    downloads = Downloads(tables, store=FolderStore(folder), queries={"people": people})
    api = FastAPI()

    @api.post("/exports", status_code=202)
    async def ask(born: date, who: str, scope: str = "", fail: int = 0, broken: int = 0) -> dict[str, str]:
        acting(who, scope)
        ticket = await downloads.begin("people", {"born": born, "broken": broken}, format=Format.CSV)
        if fail:
            raise RuntimeError("later")
        return {"location": ticket.location}

    @api.get("/exports/{export}")
    async def get(export: UUID, who: str) -> Download:
        acting(who)
        return Download(downloads, export)

    async def main() -> None:
        async with service_client(Service(api, tables=tables, jobs=[downloads.job], settings=settings)) as client:
            await script(client, downloads, api)

    asyncio.run(main())


async def made(client: Any, location: str, who: str) -> Any:
    async with asyncio.timeout(20):
        while (reply := await client.get(location, params={"who": who})).status_code == 202:
            assert reply.headers["retry-after"] == "2"
            await asyncio.sleep(0.05)
    return reply


def test_an_export_is_made_by_a_job_and_downloaded_whole_in_parts_and_not_again(
    settings: Settings, tmp_path: Path
) -> None:
    async def script(client: Any, downloads: Downloads, api: FastAPI) -> None:
        asked = await client.post("/exports", params={"born": "1815-12-10", "who": "eve", "scope": "names:read"})
        location = asked.json()["location"]
        whole = await made(client, location, "eve")
        assert (whole.status_code, whole.text) == (200, '"id","name","born"\n7,"Ada","1815-12-10"\n')
        assert whole.headers["content-disposition"] == 'attachment; filename="people.csv"'
        tag = whole.headers["etag"]
        part = await client.get(location, params={"who": "eve"}, headers={"range": "bytes=5-9", "if-range": tag})
        assert (part.status_code, part.content) == (206, whole.content[5:10])
        assert part.headers["content-range"] == f"bytes 5-9/{len(whole.content)}"
        again = await client.get(location, params={"who": "eve"}, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        beyond = await client.get(location, params={"who": "eve"}, headers={"range": "bytes=1000-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")

    served(settings, tmp_path, script)


def test_a_file_has_what_its_owner_may_see_and_is_the_owners_alone(settings: Settings, tmp_path: Path) -> None:
    async def script(client: Any, downloads: Downloads, api: FastAPI) -> None:
        asked = await client.post("/exports", params={"born": "1815-12-10", "who": "bob"})
        location = asked.json()["location"]
        assert (await made(client, location, "bob")).text == '"id","name","born"\n7,,"1815-12-10"\n'
        stranger = await client.get(location, params={"who": "mallory"})
        assert (stranger.status_code, stranger.json()["type"]) == (404, NoSuchExport.type)

    served(settings, tmp_path, script)


def test_what_was_not_asked_for_or_could_not_be_made_is_told_apart(settings: Settings, tmp_path: Path) -> None:
    async def script(client: Any, downloads: Downloads, api: FastAPI) -> None:
        lost = await client.post("/exports", params={"born": "1815-12-10", "who": "eve", "fail": 1})
        assert lost.status_code == 500
        assert (await client.get(f"/exports/{uuid4()}", params={"who": "eve"})).status_code == 404
        asked = await client.post("/exports", params={"born": "1815-12-10", "who": "eve", "broken": 1})
        location = asked.json()["location"]
        assert (await client.get(location, params={"who": "eve"})).status_code == 202
        url = settings.database.url
        assert url is not None
        async with asyncio.timeout(20), await psycopg.AsyncConnection.connect(url.get_secret_value()) as connection:
            await connection.set_autocommit(True)
            # As after its last attempt; and the export of the request that failed does not exist.
            dead = "UPDATE workhorse.jobs SET state = 'dead', attempts_left = 0 WHERE state = 'delayed'"
            while (await connection.execute(dead)).rowcount != 1:
                await asyncio.sleep(0.02)
            assert await (await connection.execute("SELECT count(*) FROM workhorse.jobs")).fetchall() == [(1,)]
        failed = await client.get(location, params={"who": "eve"})
        assert (failed.status_code, failed.json()["type"]) == (410, ExportFailed.type)

    served(settings, tmp_path, script)


def test_a_query_that_is_not_declared_and_arguments_that_it_does_not_take_are_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async def script(client: Any, downloads: Downloads, api: FastAPI) -> None:
        with pytest.raises(SettingsError, match="there are: people"):
            await downloads.begin("nobody")
        with pytest.raises(TypeError, match="cannot take these arguments"):
            await downloads.begin("people", {"died": 1})
        with pytest.raises(ValueError, match="cannot take these arguments"):
            await downloads.begin("people", {"born": "soon"})

    served(settings, tmp_path, script)


def put(folder: Path, *, ends: datetime) -> tuple[Downloads, UUID]:
    """A store that holds one file, of nobody's."""
    store, id_ = FolderStore(folder), uuid4()
    name = f"{id_}/data-1.parquet"
    owner = Principal(subject="", kind=Kind.ANONYMOUS).key
    ready = Ready(name, "rows.parquet", "parquet", 1, len(DATA), TAG.strip('"'), owner, ends.timestamp())

    async def fill() -> None:
        await store.put_new(name, DATA)
        await store.put_new(f"{id_}/about.json", msgspec.json.encode(ready))
        await store.put_new(f"_ends/{ends + timedelta(hours=1):%Y-%m-%dT%H}/{id_}", b"")

    asyncio.run(fill())
    return Downloads(Tables(), store=store, queries={}), id_


def test_a_file_whose_time_is_over_is_gone_and_others_stay(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    _, old = put(tmp_path, ends=now - timedelta(hours=2))
    downloads, new = put(tmp_path, ends=now + timedelta(hours=2))

    async def get(id_: UUID) -> Seen:
        return await call(DownloadReply(downloads, id_), "GET", "/")

    with pytest.raises(NoSuchExport):
        asyncio.run(get(old))
    assert asyncio.run(downloads.delete_ended()) == 1
    assert not any(str(old) in str(path) for path in tmp_path.rglob("*") if path.is_file())
    assert asyncio.run(get(new)).body == DATA


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """A real server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(20)


class Cutting:
    """An app whose connections break after so many bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self.asked: list[str | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._most
        self.asked.append(next((value.decode() for name, value in scope["headers"] if name == b"range"), None))

        async def cut(message: Message) -> None:
            nonlocal left
            body = message.get("body", b"")
            if len(body) > left:
                await send({**message, "body": body[:left], "more_body": True})
                raise ConnectionResetError("cut")
            left -= len(body)
            await send(message)

        await self._app(scope, receive, cut)


def test_a_download_that_breaks_off_again_and_again_goes_on_where_it_was(tmp_path: Path) -> None:
    downloads, id_ = put(tmp_path / "store", ends=datetime.now(UTC) + timedelta(hours=1))
    app, path, told = Cutting(DownloadReply(downloads, id_), 1_000_000), tmp_path / "file", list[tuple[int, int]]()
    with serving(app) as url:
        download(url, path, progress=lambda have, of: told.append((have, of)))
    assert path.read_bytes() == DATA
    assert app.asked == [None, "bytes=1000000-", "bytes=2000000-"]
    assert told[-1] == (len(DATA), len(DATA))
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["file"]


def test_a_part_of_another_file_is_not_continued_and_a_whole_part_is_only_checked(tmp_path: Path) -> None:
    downloads, id_ = put(tmp_path / "store", ends=datetime.now(UTC) + timedelta(hours=1))
    path, part, tag = tmp_path / "file", tmp_path / "file.part", tmp_path / "file.part.tag"
    with serving(DownloadReply(downloads, id_)) as url:
        part.write_bytes(b"of another file")
        tag.write_text('"other"')
        assert download(url, path).read_bytes() == DATA
        part.write_bytes(DATA)
        tag.write_text(TAG)
        assert download(url, path).read_bytes() == DATA
        part.write_bytes(b"x" * 10)
        tag.write_text(TAG)
        with pytest.raises(CutShort, match="not what the service has"):
            download(url, path)
        assert not part.exists()


def test_a_server_that_is_away_is_told_of_after_the_last_attempt(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(CutShort, match="broke off 2 times"):
        download(f"http://127.0.0.1:{port}/", tmp_path / "file", attempts=2)


def test_a_refusal_is_raised_at_once(tmp_path: Path) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with serving(refuse) as url, pytest.raises(urllib.error.HTTPError) as refused:
        download(url, tmp_path / "file")
    refused.value.close()
    assert refused.value.code == 404
