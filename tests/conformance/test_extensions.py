"""What servers can beyond plain replies goes through: hints before a reply, trailers after it."""

from pathlib import Path

import anyio
import pytest

from tests.conformance.wire import Seen, serving
from workhorse import Service, unit
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.guard import Guard
from workhorse.settings import GuardSettings, Settings


def an_app(*, with_unit: bool) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if with_unit:
            await (await unit()).execute("SELECT 1")
        start = {"status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": b"one,", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

    return app


@pytest.mark.parametrize("way", ["bare", "guard", "service", "unit"])
def test_trailers_follow_the_reply(way: str, settings: Settings, tmp_path: Path) -> None:
    app = an_app(with_unit=way == "unit")
    if way == "guard":
        app = Guard(app, settings=GuardSettings())
    elif way != "bare":
        app = Service(app, settings=settings)

    async def main() -> Seen:
        async with serving(app) as server:
            return await server.request("GET", "/", extensions=["http.response.trailers"])

    seen = anyio.run(main)
    assert (seen.status, seen.body, seen.complete, seen.error) == (200, b"one,two", True, None)
    assert seen.header(b"trailer") == b"x-sum"
    assert seen.trailers == [(b"x-sum", b"7")]
