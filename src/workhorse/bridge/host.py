"""Hosts an app that runs on Trio: Workhorse's layers on asyncio around it, in a thread of their own.

    the server (hypercorn's Trio worker)          Trio
      └─ TrioHost                                 Trio ──▶ asyncio
           └─ Guard, UnitLayer, stores            asyncio
                └─ the app                        asyncio ──▶ Trio

Drivers (psycopg's pool, Redis), the guard's timers and all that waits for them know one runtime, asyncio, as they did
before, and were tested on. What the app does is done on Trio: `receive` and `send` of its server and of the layers are
called through `bridge.calls`. Each call crosses the threads twice, so that a request costs some tenths of a millisecond
(docs/frameworks.md has what was measured); nothing is paid by who serves on asyncio.

`Service` is its own host: served on Trio, it does all this by itself. A `Guard` alone needs to be told:

    served = TrioHost(app, around=lambda app: Guard(app, settings=GuardSettings()))
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Final

import trio

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send
from workhorse.bridge.calls import HERE, Read, Visit, in_asyncio, in_trio
from workhorse.errors import StartupError

__all__ = ["Loop", "TrioHost"]

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 30.0


class Loop:
    """A loop of asyncio in a thread."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="workhorse asyncio", daemon=True)

    async def __aenter__(self) -> asyncio.AbstractEventLoop:
        """Start it.

        Raises:
            StartupError: it did not come up.
        """
        self._thread.start()
        await trio.to_thread.run_sync(self._started.wait, START_SECONDS)
        if self._loop is None:
            raise StartupError(f"the thread for asyncio did not start within {START_SECONDS:g} seconds")
        return self._loop

    async def __aexit__(self, *_: object) -> None:
        """Stop it, and wait until it has."""
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._end.wait()


class TrioHost:
    """Serves, on Trio, an app that runs there, inside of layers that run on asyncio.

    Args:
        app: the app.
        around: puts the layers around what it is given, which stands for the app.
    """

    def __init__(self, app: ASGIApp, *, around: Callable[[ASGIApp], ASGIApp]) -> None:
        self._app = app
        self._layers = around(self._call_app)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, on Trio.

        Raises:
            StartupError: it has not been started by a lifespan event.
        """
        if scope["type"] == "lifespan":
            async with Loop() as loop:
                self._loop = loop
                try:
                    await self._serve(loop, scope, receive, send)
                finally:
                    self._loop = None
            return
        if self._loop is None:
            raise StartupError("the app has not started: its server must send lifespan events (ASGI lifespan 2.0)")
        await self._serve(self._loop, scope, receive, send)

    async def _serve(self, loop: asyncio.AbstractEventLoop, scope: Scope, receive: Receive, send: Send) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            visit = Visit(loop, nursery)
            token = HERE.set(visit)
            try:
                await in_asyncio(loop, self._call_layers, visit, scope, receive, send)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery, which would wrap it
                failure = error
            finally:
                HERE.reset(token)
                visit.close()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # whose frames hold it: a circle

    async def _call_layers(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the layers, on asyncio, with the server's `receive` and `send`, which are on Trio."""

        async def receive_here() -> Message:
            return await in_trio(visit, receive)

        async def send_here(message: Message) -> None:
            await in_trio(visit, send, message)

        await self._layers(scope, receive_here, send_here)

    async def _call_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, on Trio, from the layers."""
        visit = HERE.get(None)
        if visit is None:  # no host: the same layers, served on asyncio
            await self._app(scope, receive, send)
            return
        await in_trio(visit, self._run_app, visit.loop, scope, receive, send)

    async def _run_app(self, loop: asyncio.AbstractEventLoop, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app with the layers' `receive` and `send`, which are on asyncio."""
        reads: list[Read] = []

        async def receive_there() -> Message:
            # A read that the app has given up goes on: the next one gets what it brings.
            if not reads:
                reads.append(Read(loop, receive))
            message: Message = await reads[0].wait()
            reads.clear()
            return message

        async def send_there(message: Message) -> None:
            await in_asyncio(loop, send, message)

        try:
            await self._app(scope, receive_there, send_there)
        finally:
            for read in reads:
                read.cancel()
