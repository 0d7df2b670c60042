"""The wrapped app's own lifespan, run inside the service's.

ASGI gives an app one call that lasts from start-up to shut-down. The service has one from the server; the app gets
another one from the service, so that the rooms are open before the app starts and still open while it stops. An app
that knows no lifespan says so by raising or returning at once, and is served all the same (ASGI lifespan 2.0).
"""

import asyncio
from typing import Any, Self

from workhorse.asgi import ASGIApp, Message, Scope
from workhorse.errors import StartupError

__all__ = ["AppLifespan"]


class AppLifespan:
    """Runs an app's lifespan in a task of its own.

    Args:
        app: the app.
        scope: the service's own lifespan scope, whose `state` the app shares.
    """

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._app = app
        self._scope: dict[str, Any] = dict(scope)
        self._incoming: asyncio.Queue[Message] = asyncio.Queue(maxsize=2)
        self._answers: asyncio.Queue[Message] = asyncio.Queue(maxsize=4)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the app.

        Raises:
            StartupError: the app reported that it failed to start.
        """
        self._task = asyncio.create_task(self._call(), name="app lifespan")
        answer = await self._ask("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            await self._end()
            raise StartupError(f"the app failed to start: {answer.get('message') or 'it gave no reason'}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the app, and wait until it has.

        Raises:
            StartupError: the app reported that it failed to stop.
        """
        answer = await self._ask("lifespan.shutdown")
        await self._end()
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise StartupError(f"the app failed to stop: {answer.get('message') or 'it gave no reason'}")

    async def _call(self) -> None:
        await self._app(self._scope, self._incoming.get, self._answers.put)

    async def _ask(self, message: str) -> Message | None:
        """Send `message` and wait for its answer; None from an app that speaks no lifespan (any more)."""
        assert self._task is not None
        if self._task.done():
            return None
        await self._incoming.put({"type": message})
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        # It ended without an answer. What it put last may still lie in the queue.
        return self._answers.get_nowait() if not self._answers.empty() else None

    async def _end(self) -> None:
        assert self._task is not None
        if not self._task.done():
            self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # an app without lifespan may raise anything; looked at, so that nothing warns of it
