"""The service shows the log to whom its policy lets read it, as far as it is signed, and nothing else."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import StartFailed, call, running
from tests.audit.kit import LOG, ORIGIN, TRUST
from tests.sealer.kit import emit, sealer
from workhorse import Policy, Service
from workhorse.audit import Checkpoint, Note, verify
from workhorse.audit.fetching import HttpExport
from workhorse.identity import ApiKeys
from workhorse.sealer import AnchorUnreachable, FileAnchor, LogReader
from workhorse.settings import Settings
from workhorse.units import Unit

PUBLIC = Policy("GET /audit-log/{file:path}", public=True)


def showing(settings: Settings, **more: Any) -> Settings:
    audit = {"origin": ORIGIN, "key": LOG.reveal(), "serve_at": "/audit-log", **more}
    jobs = settings.jobs.model_copy(update={"in_process": "off"})
    return settings.model_copy(update={"jobs": jobs, "audit": type(settings.audit).model_validate(audit)})


def a_service(settings: Settings, *policies: Policy) -> Service:
    return Service(FastAPI(openapi_url=None, docs_url=None, redoc_url=None), policies=policies, settings=settings)


@contextmanager
def on_a_port(service: Service, loop: asyncio.AbstractEventLoop) -> Generator[str]:
    """Serve what the service answers on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen = asyncio.run_coroutine_threadsafe(call(service, "GET", self.path), loop).result(30)
            self.send_response(seen.status)
            for name, value in seen.headers:
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.write(seen.body)

        def log_message(self, *_: object, **_named: object) -> None:
            """Nowhere."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/audit-log"
        finally:
            server.shutdown()


def test_the_offline_verifier_reads_the_log_over_http(settings: Settings) -> None:
    async def main() -> None:
        service = a_service(showing(settings), PUBLIC)
        async with running(service):
            database = service.rooms.database
            one = sealer(database)
            await emit(database, 600)
            await one.drain()
            with on_a_port(service, asyncio.get_running_loop()) as url:
                report = await asyncio.to_thread(verify, HttpExport(url), TRUST)
                assert report.ok, report.findings
                assert (report.size, report.events) == (601, None)
                await database_edit(service)
                report = await asyncio.to_thread(verify, HttpExport(url), TRUST)
                assert " 7 " in str(report.findings[0]), report.findings

    asyncio.run(main())


async def database_edit(service: Service) -> None:
    async with Unit(service.rooms.database) as work:
        await work.execute(
            "UPDATE workhorse.audit_entries SET entry = replace(entry, 'account:7', 'account:9') WHERE index = 7"
        )


def test_nothing_is_shown_that_is_not_signed_and_no_other_path_leads_anywhere(
    settings: Settings, tmp_path: Path
) -> None:
    async def main() -> None:
        service = a_service(showing(settings), PUBLIC)
        async with running(service):
            database = service.rooms.database
            assert (await call(service, "GET", "/audit-log/checkpoint")).status == 404
            one = sealer(database)
            await emit(database, 300)
            await one.drain()
            signed = await call(service, "GET", "/audit-log/checkpoint")
            assert Checkpoint.parse(Note.parse(signed.body).text).size == 301
            assert signed.header("content-type") == "text/plain; charset=utf-8"
            assert signed.header("cache-control") == "no-cache"
            tile = await call(service, "GET", "/audit-log/tile/0/001.p/45")
            assert (tile.status, len(tile.body)) == (200, 45 * 32)
            assert tile.header("content-type") == "application/octet-stream"
            assert tile.header("cache-control") == "public, max-age=31536000, immutable"
            head = await call(service, "HEAD", "/audit-log/tile/0/000")
            assert (head.status, head.body, head.header("content-length")) == (200, b"", str(256 * 32))
            # Sealed, and not signed.
            await emit(database, 20, first=9_000)
            with pytest.raises(AnchorUnreachable):
                await sealer(database, anchors=[FileAnchor(tmp_path)]).drain()
            assert (await LogReader(database).status()).size == 321
            for path in ("tile/0/001.p/46", "tile/entries/001.p/46", "tile/entries/001", "tile/1/000.p/2"):
                assert (await call(service, "GET", f"/audit-log/{path}")).status == 404, path
            for path in (
                "",
                "events.ndjson",
                "tile/0/1",
                "tile/0/001.p/045",
                "tile/0/001.p/0",
                "tile/64/000",
                "tile/0/x000/001.p/45",
                "tile/0/../../checkpoint",
                "tile/0/..%2f..%2fcheckpoint",
                "../../etc/passwd",
                "tile/entries/" + "x999/" * 40 + "999",
            ):
                assert (await call(service, "GET", f"/audit-log/{path}")).status in {400, 404}, path
            assert (await call(service, "POST", "/audit-log/checkpoint", body=b"")).status in {403, 404, 405}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("policies", "audit", "complaint"),
    [
        ((), {}, "no policy says who may read the log"),
        ((Policy("GET /audit-log/{file:path}"),), {}, "no policy says who may read the log"),
        ((PUBLIC,), {"serve_at": ""}, "no route for the policies"),
        ((PUBLIC,), {"origin": ""}, "there is no log to serve"),
    ],
    ids=["no policy", "a policy that does not say who", "a policy and no setting", "no log"],
)
def test_what_does_not_say_who_may_read_stops_the_start(
    policies: tuple[Policy, ...], audit: dict[str, Any], complaint: str, settings: Settings
) -> None:
    async def main() -> None:
        async with running(a_service(showing(settings, **audit), *policies)):
            pass

    with pytest.raises(StartFailed, match=complaint):
        asyncio.run(main())


def test_a_scope_is_asked_for_and_what_is_sent_is_no_shared_caches(settings: Settings) -> None:
    async def main() -> None:
        keys = ApiKeys()
        service = Service(
            FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
            policies=[Policy("GET /audit-log/{file:path}", scope="audit:read")],
            identity=keys,
            settings=showing(settings),
        )
        async with running(service):
            await sealer(service.rooms.database).drain()
            path = "/audit-log/tile/0/000.p/1"
            assert (await call(service, "GET", path)).status == 401
            assert [row.handler for row in service.controls().routes] == ["the audit log"]
            for scope, status in (("other", 403), ("audit:read", 200)):
                key = await keys.create("monitor", name="m", scopes=[scope])
                seen = await call(service, "GET", path, headers=[("x-api-key", key.text)])
                assert seen.status == status
                if status == 200:
                    assert seen.header("cache-control") == "private, max-age=31536000, immutable"

    asyncio.run(main())
