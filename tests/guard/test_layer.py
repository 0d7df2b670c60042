"""The guard around apps of several kinds, as a client sees it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from tests.asgi_client import Seen, call, http_scope
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.context import current_request
from workhorse.errors import Problem
from workhorse.guard import Guard, compile_plan
from workhorse.guard.exchange import ReplyIncomplete
from workhorse.integrations import adopt
from workhorse.policy import Policy
from workhorse.settings import GuardSettings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

PLAN = compile_plan(GuardSettings(max_body_bytes=1_000), [Policy("POST /upload", max_body_bytes=5_000)])

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/json")
    async def json_() -> dict[str, int]:
        return {"a": 1}

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>hello")

    @app.get("/own")
    async def own() -> Response:
        return Response("x", headers={"X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": "default-src 'self'"})

    @app.post("/read")
    @app.post("/upload")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.post("/typed")
    async def typed(body: dict[str, int]) -> int:
        return len(body)

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/cut")
    async def cut() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError("half way")

        return StreamingResponse(chunks())

    @app.get("/items/{item}")
    async def item(item: int) -> str:
        return current_request().request_id.decode()

    adopt(app)
    return app


def ask(method: str, path: str, *, metrics: Registry | None = None, log: Log | None = None, **more: Any) -> Seen:
    guard = Guard(an_app(), PLAN, metrics=metrics, log=log)
    return asyncio.run(call(guard, method, path, **more))


@pytest.mark.parametrize("path", ["/json", "/page", "/missing", "/crash"])
def test_every_reply_has_the_security_headers_once(path: str) -> None:
    seen = ask("GET", path)
    for name, value in SECURITY_HEADERS.items():
        assert seen.header(name) == value
        assert seen.count(name) == 1
    assert seen.header("referrer-policy") == ("same-origin" if path == "/page" else "no-referrer")
    assert seen.count("content-security-policy") == seen.count("referrer-policy") == 1
    assert seen.header("strict-transport-security") is None, "not over plain HTTP (RFC 6797, section 7.2)"


def test_a_refused_request_gets_them_too() -> None:
    seen = ask("GET", "/json", headers=[("host", "evil.test")])
    assert seen.status == 421
    assert seen.header("x-content-type-options") == "nosniff"
    assert seen.header("content-type") == "application/problem+json"


def test_data_gets_a_policy_that_allows_nothing_and_a_page_its_own_origin() -> None:
    assert "default-src 'none'" in (ask("GET", "/json").header("content-security-policy") or "")
    page = ask("GET", "/page").header("content-security-policy") or ""
    assert "default-src 'self'" in page
    assert "unsafe" not in page


def test_the_apps_own_header_wins() -> None:
    seen = ask("GET", "/own")
    assert seen.header("x-frame-options") == "SAMEORIGIN"
    assert seen.header("content-security-policy") == "default-src 'self'"
    assert seen.count("x-frame-options") == seen.count("content-security-policy") == 1
    assert seen.header("referrer-policy") == "no-referrer"


def test_a_weaker_header_of_the_apps_own_is_reported_once_and_counted_each_time() -> None:
    read, write = os.pipe()
    log, metrics = Log(write, format="json", level="info"), Registry(None)
    log.start()
    guard = Guard(an_app(), PLAN, metrics=metrics, log=log, access_lines=False)
    for _ in range(2):
        asyncio.run(call(guard, "GET", "/own"))
    log.close()
    os.close(write)
    with os.fdopen(read) as lines:
        logged = [json.loads(line) for line in lines.read().splitlines()]
    assert {(line["event"], line["route"], line["header"]) for line in logged} == {
        ("guard.header_weakened", "/own", "x-frame-options"),
        ("guard.header_weakened", "/own", "content-security-policy"),
    }
    assert len(logged) == 2
    assert 'workhorse_weakened_headers_total{header="x-frame-options"} 2' in metrics.render().decode()


def test_over_tls_strict_transport_security_is_sent() -> None:
    assert (
        ask("GET", "/json", scheme="https").header("strict-transport-security") == "max-age=63072000; includeSubDomains"
    )


@pytest.mark.parametrize("path", ["/read", "/typed"])
@pytest.mark.parametrize("declare", [True, False])
def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(path: str, declare: bool) -> None:  # noqa: FBT001
    body = [b'{"a": 1}', b" " * 600, b" " * 600]
    seen = ask("POST", path, body=body, declare_length=declare, headers=[("content-type", "application/json")])
    assert (seen.status, seen.json()["type"]) == (413, "urn:workhorse:problem:body-too-large")
    assert seen.header("connection") == "close"  # what is left of it is read by nobody


def test_a_refusal_keeps_the_connection_where_no_body_is_left() -> None:
    assert ask("POST", "/typed", body=b"[]", headers=[("content-type", "text/x")]).header("connection") is None


def test_a_body_that_lies_about_its_length_is_counted() -> None:
    async def main() -> Seen:
        seen = Seen()
        chunks = iter([b"x" * 600, b"x" * 600])

        async def receive() -> Message:
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        async def send(message: Message) -> None:
            seen.status = message.get("status", seen.status)

        await Guard(an_app(), PLAN)(http_scope("POST", "/read", [("content-length", "5")]), receive, send)
        return seen

    assert asyncio.run(main()).status == 413


def test_a_policy_may_allow_a_larger_body() -> None:
    assert ask("POST", "/upload", body=b"x" * 5_000).json() == 5_000
    assert ask("POST", "/upload", body=b"x" * 5_001).status == 413
    assert ask("POST", "/read", body=b"x" * 1_000).json() == 1_000


def test_an_exception_tells_the_client_nothing() -> None:
    seen = ask("GET", "/crash")
    assert seen.status == 500
    assert b"hunter2" not in seen.body
    assert seen.json()["status"] == 500


def test_a_reply_that_breaks_off_is_not_made_to_look_whole() -> None:
    with pytest.raises(RuntimeError, match="half way"):
        ask("GET", "/cut")


def test_a_problem_raised_by_a_bare_app_becomes_its_document() -> None:
    class Gone(Problem):
        status = 410
        type = "urn:test:gone"
        title = "Gone"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Gone("It was here.", since="2020")

    seen = asyncio.run(call(Guard(app, PLAN), "GET", "/"))
    document = seen.json()
    assert document.pop("instance").startswith("urn:workhorse:request:")
    assert document == {
        "type": "urn:test:gone",
        "title": "Gone",
        "status": 410,
        "detail": "It was here.",
        "since": "2020",
    }


def test_a_head_request_that_is_refused_gets_no_body() -> None:
    seen = ask("HEAD", "/json", headers=[("host", "evil.test")])
    assert (seen.status, seen.body) == (421, b"")
    assert int(seen.header("content-length") or 0) > 0


def test_the_request_id_is_the_clients_if_it_is_clean_and_new_otherwise() -> None:
    assert ask("GET", "/items/1", headers=[("x-request-id", "abc-123")]).header("x-request-id") == "abc-123"
    assert ask("GET", "/items/1", headers=[("x-request-id", "abc-123")]).json() == "abc-123"
    for hostile in ("a b", "x" * 500, 'a"b', "<script>"):
        given = ask("GET", "/items/1", headers=[("x-request-id", hostile)]).header("x-request-id")
        assert given != hostile
        assert len(given or "") == 32


def test_the_trace_of_the_caller_is_carried_on() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    seen = ask("GET", "/items/1", headers=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")])
    assert seen.header("x-request-id") == trace


def test_requests_are_counted_by_route_and_refusals_by_control() -> None:
    metrics = Registry(None)
    for item in range(3):
        ask("GET", f"/items/{item}", metrics=metrics)
    ask("GET", "/json", metrics=metrics, headers=[("host", "evil.test")])
    ask("BREW", "/json", metrics=metrics)
    name = "http_server_request_duration_seconds"
    assert metrics.total(name, method="GET", route="/items/{item}", status="200") == 3
    assert metrics.total(name, method="other") == 1
    assert metrics.total("workhorse_refusals_total", control="host.not_served") == 1
    assert metrics.total("http_server_active_requests") == 0


def test_each_request_gets_one_access_line_that_names_the_control() -> None:
    read, write = os.pipe()
    log = Log(write, format="json", level="info")
    log.start()
    ask("GET", "/items/5?token=hunter2", log=log)
    ask("POST", "/read", log=log, body=[b"x" * 900, b"x" * 900], declare_length=False)
    log.close()
    os.close(write)
    with os.fdopen(read) as lines:
        access, refused = (json.loads(line) for line in lines.read().splitlines())
    assert (access["method"], access["path"], access["route"], access["status"]) == (
        "GET",
        "/items/5",
        "/items/{item}",
        200,
    )
    assert access["control"] == ""
    assert "hunter2" not in json.dumps(access)
    assert (refused["status"], refused["control"]) == (413, "body.size")


def test_a_websocket_to_a_foreign_host_is_refused_and_to_ours_passes() -> None:
    sent: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def main(host: str) -> None:
        scope = {**http_scope("GET", "/ws", [("host", host)]), "type": "websocket"}
        del scope["method"]

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message["type"])

        await Guard(app, PLAN)(scope, receive, send)

    asyncio.run(main("evil.test"))
    asyncio.run(main("localhost"))
    assert sent == ["websocket.close", "websocket.accept"]


def test_with_no_plan_it_guards_by_the_projects_settings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.workhorse.guard]\nallowed_hosts = ["only.example"]\n')
    monkeypatch.chdir(tmp_path)
    guard = Guard(an_app())
    assert asyncio.run(call(guard, "GET", "/json", headers=[("host", "only.example")])).status == 200
    assert asyncio.run(call(guard, "GET", "/json")).status == 421


def test_what_an_app_does_after_its_reply_is_not_the_clients_time_and_a_file_has_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    file.write_bytes(b"a,b\n")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/file":
            await send({"type": "http.response.pathsend", "path": str(file)})
        else:
            await send({"type": "http.response.body", "body": b"ok"})
        await asyncio.sleep(0.5)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    read, write = os.pipe()
    log = Log(write, format="json", level="info")
    log.start()
    for path in ("/reply", "/file"):
        asyncio.run(Guard(app, PLAN, log=log)(http_scope("GET", path), receive, send))
    log.close()
    os.close(write)
    with os.fdopen(read) as lines:
        logged = [json.loads(line) for line in lines.read().splitlines()]
    assert [(line["path"], line["bytes_out"]) for line in logged] == [("/reply", 2), ("/file", 4)]
    assert all(line["duration_ms"] < 400 for line in logged)


@pytest.mark.parametrize(
    ("chunks", "sent"),
    [([b"0123456789"], b"01234"), ([b"0123", b"456", b"789"], b"01234"), ([b"01234", b"56789"], b"01234")],
    ids=["at once", "in pieces", "after its end"],
)
def test_a_reply_never_goes_beyond_the_length_that_it_declared(chunks: list[bytes], sent: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"5")]})
        for number, chunk in enumerate(chunks):
            await send({"type": "http.response.body", "body": chunk, "more_body": number + 1 < len(chunks)})

    seen = asyncio.run(call(Guard(app, PLAN), "GET", "/"))
    assert (seen.body, seen.complete) == (sent, True)


def test_a_reply_that_ends_before_its_length_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"0123"})

    with pytest.raises(ReplyIncomplete, match="has 4 bytes, and its Content-Length says 5"):
        asyncio.run(call(Guard(app, PLAN), "GET", "/"))


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_a_reply_without_a_body_may_tell_the_length_of_another(method: str, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b""})

    assert asyncio.run(call(Guard(app, PLAN), method, "/")).status == status
