"""The wrapped app's own lifespan, run inside the service's.

ASGI gives an app one call that lasts from start-up to shut-down. The service has one from the server; the app gets
another one from the service, so that the rooms are open before the app starts and still open while it stops. An app
that knows no lifespan says so by raising or returning at once, and is served all the same (ASGI lifespan 2.0).

An app whose call raises later, while it serves, has lost what it opened at its start: it is told of, and the service is
ready no more. Whatever ends the service's own call ends the app's too.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from workhorse.asgi import ASGIApp, Message, Scope
from workhorse.errors import StartupError

__all__ = ["AppLifespan"]


class AppLifespan:
    """Runs an app's lifespan in a task of its own.

    Args:
        app: the app.
        scope: the service's own lifespan scope, whose `state` the app shares.
        start_seconds: how long the app may take to start.
        stop_seconds: how long it may take to stop.
        crashed: called with what the app's lifespan raised while the app served, if it did.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        *,
        start_seconds: float,
        stop_seconds: float,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._app = app
        self._scope: dict[str, Any] = dict(scope)
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._crashed = crashed
        self._serving = False
        self._incoming: asyncio.Queue[Message] = asyncio.Queue(maxsize=2)
        self._answers: asyncio.Queue[Message] = asyncio.Queue(maxsize=4)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the app.

        Raises:
            StartupError: the app reported that it failed to start, or did not start in time.
        """
        self._task = asyncio.create_task(self._call(), name="app lifespan")
        try:
            async with asyncio.timeout(self._start_seconds):
                answer = await self._ask("lifespan.startup")
        except TimeoutError:
            await self._end()
            raise StartupError(
                f"the app did not start within {self._start_seconds:g} seconds (server.start_timeout_seconds): look at"
                " what its lifespan waits for"
            ) from None
        except BaseException:
            await self._end()  # a start that is given up leaves nothing behind
            raise
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            await self._end()
            raise StartupError(f"the app failed to start: {answer.get('message') or 'it gave no reason'}")
        self._serving = answer is not None
        self._task.add_done_callback(self._look)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the app, and wait until it has.

        Raises:
            StartupError: the app reported that it failed to stop, or did not stop in time.
        """
        self._serving = False
        answer = None
        try:
            async with asyncio.timeout(self._stop_seconds):
                answer = await self._ask("lifespan.shutdown")
        except TimeoutError:
            raise StartupError(
                f"the app did not stop within {self._stop_seconds:g} seconds (server.stop_timeout_seconds)"
            ) from None
        finally:
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
        try:
            await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()
        # It ended without an answer. What it put last may still lie in the queue.
        return self._answers.get_nowait() if not self._answers.empty() else None

    def _look(self, task: asyncio.Task[None]) -> None:
        """See how the app's call has ended."""
        if self._serving and not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(error)

    async def _end(self) -> None:
        assert self._task is not None
        if not self._task.done():
            self._task.cancel()
        # An app that swallows its cancellation must not keep the process.
        await asyncio.wait({self._task}, timeout=self._stop_seconds)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # an app without lifespan may raise anything; looked at, so that nothing warns of it
