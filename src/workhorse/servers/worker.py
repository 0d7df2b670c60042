"""What every worker of `workhorse run` starts with, whichever server it belongs to: the app, and the watch beside it.

All three servers can call a factory for the app they serve, so they are given `create` instead of the user's own
`module:attribute`, and that in the environment.

An app that ends without a word leaves the client to the server's own reply: granian and uvicorn send a bare 500, and
hypercorn closes. Most often the client is to blame, whose body broke off, so that the app had nothing to work on (a
client that has shut down its side of the connection only still reads). Here it gets a problem document instead.
"""

import importlib
import json
import operator
import os
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send, send_reply
from workhorse.bridge import running_loop
from workhorse.errors import StartupError
from workhorse.problems import plain_problem
from workhorse.servers.launch import Launch
from workhorse.servers.ledger import Ledger, peer_of
from workhorse.servers.limits import ConnectionLimits
from workhorse.servers.watch import Watch, can_watch

__all__ = ["FACTORY", "ServedApp", "assigned", "create"]

FACTORY: Final = "workhorse.servers.worker:create"
ASSIGNMENT: Final = "_WORKHORSE_ASSIGNMENT"
# Methods whose requests are not listened to, because hardly one has a body that could break off.
BODILESS: Final = frozenset({"GET", "HEAD"})
BROKEN_OFF: Final = plain_problem(
    400, "The request ended before all of it had come.", headers=((b"connection", b"close"),)
)
NO_REPLY: Final = plain_problem(500)


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


class Talk:
    """What an app and its client have told each other of one request, as far as its end depends on it.

    Args:
        receive: the server's.
        send: the server's.
    """

    __slots__ = ("_receive", "_send", "answered", "broken_off", "complete")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.answered = False
        """Whether the app has said anything."""
        self.complete = False
        """Whether the app has got all of the body."""
        self.broken_off = False
        """Whether the client sends no more, and the body was not complete."""

    async def receive(self) -> Message:
        """Give the app the next message."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.broken_off = not self.complete
        elif not message.get("more_body", False):
            self.complete = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message of the app's on. Not a coroutine, which would cost every message a frame."""
        self.answered = True
        return self._send(message)


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
            await self._serve(scope, receive, send)
        else:
            ledger.begin(peer)
            try:
                await self._serve(scope, receive, send)
            finally:
                ledger.end(peer, multiplexed=scope.get("http_version") == "2")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and answer in its stead where it says nothing to a request that may have a body."""
        if scope["type"] != "http" or scope["method"] in BODILESS:
            await self._app(scope, receive, send)
            return
        talk = Talk(receive, send)
        await self._app(scope, talk.receive, talk.send)
        if not talk.answered:
            reply = BROKEN_OFF if talk.broken_off else NO_REPLY
            await send_reply(reply, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not can_watch():
            await self._app(scope, receive, send)
            return
        self._ledger = Ledger()
        watch = Watch(port=self._port, limits=self._limits, ledger=self._ledger, loop=running_loop())
        watch.start()
        try:
            await self._app(scope, receive, send)
        finally:
            watch.stop()
            self._ledger = None
