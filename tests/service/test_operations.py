"""/-/live, /-/ready and /-/metrics: what they say, and to whom."""

import asyncio
from typing import Any

import pytest

from tests.asgi_client import Seen, call, http_scope, running
from workhorse import Service
from workhorse.asgi import Receive, Scope, Send
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError
from workhorse.service.operations import Phase, Probe, may_read_metrics, parse_networks, ready_reply
from workhorse.settings import Settings, load_settings

LOOPBACK = parse_networks(("127.0.0.0/8", "::1/128"))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("probe", "status"),
    [
        (Probe(Phase.SERVING, app=True, database=True), 200),
        (Probe(Phase.SERVING, app=True, database=False), 503),
        (Probe(Phase.SERVING, app=True, database=True, audit=True), 200),
        (Probe(Phase.SERVING, app=True, database=True, audit=False), 503),
        (Probe(Phase.SERVING, app=False, database=True), 503),
        (Probe(Phase.STARTING, app=True, database=True), 503),
        (Probe(Phase.DRAINING, app=True, database=True), 503),
        (Probe(Phase.STOPPED, app=True, database=False), 503),
    ],
)
def test_ready_means_serving_with_an_app_and_a_database(probe: Probe, status: int) -> None:
    assert ready_reply(probe).status == status


@pytest.mark.parametrize(
    ("client", "headers", "token", "allowed"),
    [
        (("127.0.0.1", 1), [], None, True),
        (("127.8.9.1", 1), [], None, True),
        (("::1", 1), [], None, True),
        (("10.0.0.1", 1), [], None, False),
        (("203.0.113.9", 1), [], None, False),
        (None, [], None, False),
        (("unix:", 0), [], None, False),
        (("127.0.0.1", 1), [("x-forwarded-for", "203.0.113.9")], None, False),
        (("127.0.0.1", 1), [("forwarded", "for=203.0.113.9")], None, False),
        (("127.0.0.1", 1), [("via", "1.1 proxy")], None, False),
        (("203.0.113.9", 1), [("authorization", "Bearer right")], "right", True),
        (("203.0.113.9", 1), [("x-forwarded-for", "1.2.3.4"), ("authorization", "Bearer right")], "right", True),
        (("203.0.113.9", 1), [("authorization", "Bearer wrong")], "right", False),
        (("203.0.113.9", 1), [("authorization", "Bearer ")], None, False),
        (("203.0.113.9", 1), [("authorization", "Bearer ")], "", False),
        (("203.0.113.9", 1), [("authorization", "right")], "right", False),
    ],
)
def test_metrics_are_for_direct_neighbours_and_for_who_has_the_token(
    client: tuple[str, int] | None,
    headers: list[tuple[str, str]],
    token: str | None,
    allowed: bool,  # noqa: FBT001
) -> None:
    scope = {**http_scope("GET", "/-/metrics", headers), "client": client}
    assert may_read_metrics(scope, LOOPBACK, token) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3:8000", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("bank:8000", True),
        ("bank.default.svc.cluster.local:8000", True),
        ("bank.default.svc", True),
        ("rebound.evil.example", False),
        ("rebound.evil.example:8000", False),
        ("localhost.evil.example", False),
        ("evil.example.", False),
        ("127.0.0.1.evil.example", False),
        ("[::1].evil.example", False),
        ("", False),
        (":8000", False),
    ],
)
def test_a_page_whose_name_was_led_to_this_machine_does_not_read_metrics(
    host: str,
    allowed: bool,  # noqa: FBT001
) -> None:
    scope = {**http_scope("GET", "/-/metrics", [("host", host)]), "client": ("127.0.0.1", 1)}
    assert may_read_metrics(scope, LOOPBACK, None) is allowed
    twice = {**scope, "headers": [(b"host", b"localhost"), (b"host", host.encode())]}
    assert not may_read_metrics(twice, LOOPBACK, None)
    by_token = {**scope, "headers": [*scope["headers"], (b"authorization", b"Bearer right")]}
    assert may_read_metrics(by_token, LOOPBACK, "right"), "with the token, whatever the name"


def test_a_malformed_network_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"metrics_networks has '10\.0\.0\.1/8'"):
        parse_networks(("10.0.0.1/8",))


def ask(settings: Settings, *requests: tuple[str, str], **more: Any) -> list[Seen]:
    async def main() -> list[Seen]:
        service = Service(app, settings=settings)
        async with running(service):
            return [await call(service, method, path, **more) for method, path in requests]

    return asyncio.run(main())


def test_the_endpoints_answer_any_host_and_only_reading_methods(settings: Settings) -> None:
    evil = [("host", "10.1.2.3:8000")]
    requests = [
        ("GET", "/-/live"),
        ("GET", "/-/ready"),
        ("HEAD", "/-/ready"),
        ("POST", "/-/ready"),
        ("GET", "/-/other"),
    ]
    live, ready, head, post, other = ask(settings, *requests, headers=evil)
    assert (live.status, live.json()) == (200, {"status": "live"})
    assert (ready.status, ready.json()) == (200, {"status": "ready", "phase": "serving", "app": True, "database": True})
    assert (head.status, head.body) == (200, b"")
    assert post.status == other.status == 404


def test_metrics_count_the_apps_requests_and_not_the_operators(settings: Settings) -> None:
    seen = ask(settings, ("GET", "/x"), ("GET", "/-/ready"), ("GET", "/-/metrics"))[-1]
    assert seen.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    lines = [
        line
        for line in seen.body.decode().splitlines()
        if line.startswith("http_server_request_duration_seconds_count")
    ]
    assert lines == ['http_server_request_duration_seconds_count{method="GET",route="",status="204"} 1']


def test_whoever_may_not_read_metrics_is_told_that_there_is_nothing(settings: Settings) -> None:
    seen = ask(settings, ("GET", "/-/metrics"), headers=[("x-forwarded-for", "1.2.3.4")])[0]
    assert seen.status == 404
    assert b"request_duration" not in seen.body


def test_a_service_whose_database_is_away_is_live_and_not_ready(tmp_path: Any, servers: Attachment) -> None:
    from workhorse.embedded import attach, status  # an own server, because it is going to be killed

    with attach(tmp_path / "own", cache=False, linger_seconds=0) as own:
        settings = load_settings(tmp_path, database={"url": own.database_url, "acquire_timeout_seconds": 2})

        async def main() -> tuple[Seen, Seen, int]:
            service = Service(app, settings=settings)
            async with running(service):
                import os
                import signal

                steward = status(tmp_path / "own").steward_pid
                assert steward is not None
                os.kill(steward, signal.SIGSTOP)  # so that nobody starts the server again meanwhile
                postmaster = next(server.pid for server in status(tmp_path / "own").servers)
                assert postmaster is not None
                os.kill(postmaster, signal.SIGKILL)
                await asyncio.sleep(0.2)
                live = await call(service, "GET", "/-/live")
                ready = await call(service, "GET", "/-/ready")
                os.kill(steward, signal.SIGCONT)
                again = 0
                for _ in range(200):
                    again = (await call(service, "GET", "/-/ready")).status
                    if again == 200:
                        break
                    await asyncio.sleep(0.05)
                return live, ready, again

        live, ready, again = asyncio.run(main())
    assert live.status == 200
    assert (ready.status, ready.json()["database"]) == (503, False)
    assert again == 200, "it was not ready again after the server came back"


def test_an_escaped_way_to_the_endpoints_is_the_guards_to_refuse(settings: Settings) -> None:
    async def main() -> int:
        service = Service(app, settings=settings)
        async with running(service):
            return (await call(service, "GET", "/-/metrics", raw_path=b"/%2d/metrics")).status

    assert asyncio.run(main()) == 400
