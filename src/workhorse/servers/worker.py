"""What every worker of `workhorse run` starts with, whichever server it belongs to: the app, and the watch beside it.

All three servers can call a factory for the app they serve, so they are given `create` instead of the user's own
`module:attribute`, and that in the environment.
"""

import asyncio
import importlib
import json
import operator
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.errors import StartupError
from workhorse.servers.launch import Launch
from workhorse.servers.ledger import Ledger, peer_of
from workhorse.servers.limits import ConnectionLimits
from workhorse.servers.watch import Watch, can_watch

__all__ = ["FACTORY", "ServedApp", "assigned", "create"]

FACTORY: Final = "workhorse.servers.worker:create"
ASSIGNMENT: Final = "_WORKHORSE_ASSIGNMENT"


@contextmanager
def assigned(launch: Launch) -> Generator[None]:
    """Tell the processes of this run what to serve, and within which limits."""
    assignment = {"target": launch.target, "port": launch.port, "limits": asdict(launch.limits)}
    os.environ[ASSIGNMENT] = json.dumps(assignment)
    try:
        yield
    finally:
        del os.environ[ASSIGNMENT]


def create() -> "ServedApp":
    """Load the app that this process was assigned.

    Raises:
        StartupError: the process belongs to no `workhorse run`, or the app's module lacks the attribute.
        Exception: whatever importing the app's module raises.
    """
    try:
        assignment = json.loads(os.environ[ASSIGNMENT])
    except KeyError:
        raise StartupError(f"{FACTORY} serves what `workhorse run` assigned; start that instead") from None
    return ServedApp(_load(assignment["target"]), assignment["port"], ConnectionLimits(**assignment["limits"]))


def _load(target: str) -> ASGIApp:
    module, _, attribute = target.partition(":")
    try:
        app: ASGIApp = operator.attrgetter(attribute)(importlib.import_module(module))
    except AttributeError as error:
        if error.name not in attribute.split("."):
            raise
        raise StartupError(f"the module {module!r} has no {attribute!r}, which is to be served") from error
    return app


class ServedApp:
    """The app, with a watch over its clients' connections for as long as its lifespan lasts."""

    def __init__(self, app: ASGIApp, port: int, limits: ConnectionLimits) -> None:
        self._app = app
        self._port = port
        self._limits = limits
        self._ledger: Ledger | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection, or the lifespan."""
        ledger = self._ledger
        peer = None if ledger is None else peer_of(scope.get("client"))
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif ledger is None or peer is None:
            await self._app(scope, receive, send)
        else:
            ledger.begin(peer)
            try:
                await self._app(scope, receive, send)
            finally:
                ledger.end(peer, multiplexed=scope.get("http_version") == "2")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not can_watch():
            await self._app(scope, receive, send)
            return
        self._ledger = Ledger()
        loop = asyncio.get_running_loop()
        watch = Watch(port=self._port, limits=self._limits, ledger=self._ledger, loop=loop)
        watch.start()
        try:
            await self._app(scope, receive, send)
        finally:
            watch.stop()
            self._ledger = None
