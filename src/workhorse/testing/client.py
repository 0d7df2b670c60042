"""A client of a service in the same process: its lifespan is run, and no socket is opened."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx

from workhorse.asgi import ASGIApp, Message
from workhorse.errors import StartupError

__all__ = ["running", "service_client"]

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


@asynccontextmanager
async def service_client(
    app: ASGIApp,
    *,
    headers: Mapping[str, str] | None = None,
    base_url: str = "http://localhost",
    raise_app_exceptions: bool = False,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Start a service, and give a client of it; stop it at the end.

    Args:
        app: the `Service`, or any ASGI app.
        headers: sent with each request, such as those of `as_caller`.
        base_url: what the client calls it. The guard serves only the hosts that the settings name.
        raise_app_exceptions: raise here what the app raises, instead of its reply of 500.

    Raises:
        StartupError: the service failed to start or to stop; the message has its reason.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=raise_app_exceptions)
        client = httpx.AsyncClient(transport=transport, base_url=base_url, headers=dict(headers or {}))
        yield await stack.enter_async_context(client)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncGenerator[None]:
    """Run the app's lifespan around the block (ASGI lifespan 2.0). An app that knows none runs without."""
    incoming: asyncio.Queue[Message] = asyncio.Queue(maxsize=2)
    answers: asyncio.Queue[Message] = asyncio.Queue(maxsize=4)
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def call() -> None:
        await app(scope, incoming.get, answers.put)

    task = asyncio.create_task(call(), name="lifespan")
    try:
        await _ask(task, incoming, answers, "lifespan.startup", START_SECONDS)
        yield
        await _ask(task, incoming, answers, "lifespan.shutdown", STOP_SECONDS)
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # an app without lifespan may raise anything; looked at, so that nothing warns of it


async def _ask(
    task: asyncio.Task[None],
    incoming: asyncio.Queue[Message],
    answers: asyncio.Queue[Message],
    message: str,
    seconds: float,
) -> None:
    if task.done():
        return
    await incoming.put({"type": message})
    answer = asyncio.ensure_future(answers.get())
    await asyncio.wait({answer, task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        answer.cancel()
        if task.done():
            return
        raise StartupError(f"the service has not answered {message} within {seconds:g} s")
    said = answer.result()
    if said["type"] == f"{message}.failed":
        raise StartupError(f"the service failed at {message}: {said.get('message') or 'it gave no reason'}")
