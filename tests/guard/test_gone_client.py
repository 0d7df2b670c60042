"""A reply whose client has gone is no error of the app's; and an error lets go of what the app held."""

import asyncio
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from tests.asgi_client import call
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.guard import Guard
from workhorse.settings import GuardSettings
from workhorse.telemetry.log import Log


def failing_with(error: Callable[[], Exception], held: Callable[[], object] = object) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept = held()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        if kept is not None:
            raise error()

    return app


def served(app: ASGIApp, capfd: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], bool]:
    """The lines of the log, and whether the server got an error."""
    log = Log(format="json")
    log.start()

    async def main() -> bool:
        try:
            await call(Guard(app, settings=GuardSettings(), log=log), "GET", "/")
        except Exception:  # noqa: BLE001 - whatever the server gets
            return True
        return False

    raised = asyncio.run(main())
    log.close()
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()], raised


def test_a_client_that_has_gone_is_named_as_the_reason_and_nothing_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    lines, raised = served(failing_with(ClientDisconnect), capfd)
    assert not raised
    assert [line["level"] for line in lines] == ["info"]
    assert lines[0]["control"] == "disconnect"


def test_any_other_error_is_logged_and_cuts_the_reply(capfd: pytest.CaptureFixture[str]) -> None:
    lines, raised = served(failing_with(lambda: OSError("the disk is full")), capfd)
    assert raised
    assert "request.failed" in [line.get("event") for line in lines]


def test_what_a_failed_app_held_is_free_when_the_request_has_ended(capfd: pytest.CaptureFixture[str]) -> None:
    class Held:
        pass

    known: list[weakref.ref[Held]] = []

    def held() -> Held:
        one = Held()
        known.append(weakref.ref(one))
        return one

    gc.disable()
    try:
        served(failing_with(lambda: ValueError("no"), held), capfd)
        assert known[0]() is None
    finally:
        gc.enable()
