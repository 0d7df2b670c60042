"""WebSockets through the guard: who may open one, from which page, and how much may be sent."""

import asyncio
import json
import math
import os
from time import time
from typing import Any

import pytest

from tests.asgi_client import http_scope
from tests.guard.test_permission import Names
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.context import current_request
from workhorse.errors import StoreUnavailable
from workhorse.guard import Guard, compile_plan
from workhorse.guard.sockets import MESSAGE_SECONDS, SocketClosed
from workhorse.identity.reason import Reason
from workhorse.identity.scheme import Credentials, Identity, NotAllowed, NotAuthenticated
from workhorse.policy import Policy
from workhorse.principal import Kind, Principal
from workhorse.rate import Rate
from workhorse.settings import GuardSettings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

POLICIES = [
    Policy("GET /open", public=True),
    Policy("GET /known", scope="listen"),
    Policy("GET /limited", public=True, rate=Rate("1/hour", per="address")),
]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{current_request().principal.subject}:{message.get('text')}"})


class Peer:
    """Opens sockets to one guard."""

    def __init__(self, **settings: Any) -> None:
        self.metrics = Registry(None)
        plan = compile_plan(GuardSettings(**settings), POLICIES)
        self.guard = Guard(echo, plan, identity=Identity(Names()), metrics=self.metrics)

    def open(self, path: str, *texts: str, headers: dict[str, str] | None = None, **scope: Any) -> list[Message]:
        """What the client is sent after it has sent `texts`."""
        incoming: list[Message] = [
            {"type": "websocket.connect"},
            *({"type": "websocket.receive", "text": text} for text in texts),
            {"type": "websocket.disconnect", "code": 1000},
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        asked = http_scope("GET", path, list((headers or {}).items()), **scope)
        del asked["method"]
        asked.update(type="websocket", scheme=scope.get("scheme", "ws"), subprotocols=[])
        asyncio.run(self.guard(asked, receive, send))
        return sent


def test_an_open_socket_carries_messages_and_knows_its_caller() -> None:
    sent = Peer().open("/known", "hello", headers={"authorization": "Bearer alice listen"})
    assert sent == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "alice:hello"}]


@pytest.mark.parametrize(
    ("path", "headers", "control"),
    [
        ("/open", {"origin": "https://evil.test"}, "csrf.origin"),
        ("/open", {"origin": "http://localhost.evil.test"}, "csrf.origin"),
        ("/open", {"sec-fetch-site": "cross-site", "origin": "https://evil.test"}, "csrf.site"),
        ("/open", {"host": "evil.test"}, "host.not_served"),
        ("/a/../open", {}, "path.dot_segment"),
        ("/known", {}, "identity.missing"),
        ("/known", {"authorization": "Bearer forged"}, "identity.signature"),
        ("/known", {"authorization": "Bearer alice talk"}, "identity.scope"),
        ("/nowhere", {}, "identity.no_policy"),
    ],
)
def test_a_handshake_that_is_refused_never_reaches_the_app(path: str, headers: dict[str, str], control: str) -> None:
    peer = Peer()
    (closed,) = peer.open(path, headers=headers)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    assert f'workhorse_refusals_total{{control="{control}"}} 1' in peer.metrics.render().decode()


@pytest.mark.parametrize("headers", [{}, {"origin": "http://localhost"}, {"sec-fetch-site": "same-origin"}])
def test_programs_and_pages_of_the_same_origin_may_open_one(headers: dict[str, str]) -> None:
    assert Peer().open("/open", headers=headers)[0]["type"] == "websocket.accept"


def test_a_listed_origin_may_open_one() -> None:
    peer = Peer(csrf_origins=("https://app.example.com",))
    assert peer.open("/open", headers={"origin": "https://app.example.com"})[0]["type"] == "websocket.accept"


def test_where_tls_is_demanded_a_plain_handshake_is_refused_and_not_redirected() -> None:
    peer = Peer(https="redirect")
    assert peer.open("/open")[0]["type"] == "websocket.close"
    assert peer.open("/open", scheme="wss")[0]["type"] == "websocket.accept"


def test_handshakes_are_limited_like_requests() -> None:
    peer = Peer()
    assert [peer.open("/limited")[0]["type"] for _ in range(2)] == ["websocket.accept", "websocket.close"]


def test_a_server_that_can_answer_tells_why() -> None:
    sent = Peer().open("/known", extensions={"websocket.http.response": {}})
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 401
    assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
    assert b"not-authenticated" in sent[1]["body"]


def test_a_message_that_is_too_large_closes_the_socket() -> None:
    sent = Peer(max_message_bytes=10).open("/open", "x" * 10, "x" * 11, "never")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[-1]["code"] == 1009


def test_too_many_messages_close_the_socket() -> None:
    sent = Peer(messages_per_second=1).open("/open", *["x"] * 30)
    assert sent[-1]["type"] == "websocket.close"
    assert sent[-1]["code"] == 1008
    assert 10 <= sum(message["type"] == "websocket.send" for message in sent) <= 12


# While it is open.


class Leaving(Names):
    """Callers who can be known for a while, lose a scope, or be forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.away = False
        self.broken = False
        self.scopes = frozenset({"listen"})
        self.expires = math.inf

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        return None

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        self.verified += 1
        if self.broken:
            raise ZeroDivisionError
        if self.away:
            raise StoreUnavailable
        if self.gone:
            raise NotAuthenticated(Reason.EXPIRED)
        return Principal(subject="alice", kind=Kind.SESSION, scopes=self.scopes, expires=self.expires)


class Line:
    """One socket that stays open while a test talks on it."""

    def __init__(self, app: Any = echo, scheme: Any = None) -> None:
        self.scheme = scheme if scheme is not None else Leaving()
        self._reader, self._writer = os.pipe()
        self._log = Log(self._writer, format="json", level="info")
        self.metrics = Registry(None)
        self.guard = Guard(
            app,
            compile_plan(GuardSettings(max_message_bytes=50), POLICIES),
            identity=Identity(self.scheme),
            metrics=self.metrics,
            log=self._log,
        )
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def opened(self, path: str = "/known", **more: Any) -> asyncio.Task[None]:
        scope = http_scope("GET", path, [("authorization", "Bearer alice listen")], **more)
        scope.update(type="websocket", scheme="ws", subprotocols=[])
        del scope["method"]
        await self.incoming.put({"type": "websocket.connect"})
        task = asyncio.create_task(self.guard(scope, self.incoming.get, self._send))
        await asyncio.sleep(0.01)
        return task

    async def say(self, text: str) -> None:
        await self.incoming.put({"type": "websocket.receive", "text": text})
        await asyncio.sleep(0.01)

    def lines(self) -> list[dict[str, Any]]:
        """What was logged. Asked once, at the end."""
        self._log.close()
        os.close(self._writer)
        with os.fdopen(self._reader, "rb") as file:
            return [json.loads(line) for line in file.read().splitlines()]


LEFT: dict[str, dict[str, Any]] = {
    "logged out": {"gone": True},
    "without the scope": {"scopes": frozenset()},
}


@pytest.mark.parametrize("change", LEFT.values(), ids=LEFT)
def test_a_caller_who_is_known_no_more_loses_the_socket_with_the_next_message(change: dict[str, Any]) -> None:
    line = Line()

    async def main() -> None:
        task = await line.opened()
        await line.say("1")
        for name, value in change.items():
            setattr(line.scheme, name, value)
        await asyncio.sleep(MESSAGE_SECONDS)
        await line.say("2")
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert [message.get("text") for message in line.sent] == [None, "alice:1", None]
    assert (line.sent[-1]["type"], line.sent[-1]["code"]) == ("websocket.close", 1008)
    assert 'workhorse_refusals_total{control="websocket.caller"} 1' in line.metrics.render().decode()
    assert [(row["status"], row["control"]) for row in line.lines()] == [(101, "websocket.caller")]


@pytest.mark.parametrize("trouble", ["gone", "away", "broken"])
def test_a_socket_on_which_nothing_is_said_ends_with_what_was_proven(trouble: str) -> None:
    line = Line()

    async def main() -> None:
        line.scheme.expires = time() + 0.3
        task = await line.opened()
        setattr(line.scheme, trouble, True)
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert [message["type"] for message in line.sent] == ["websocket.accept", "websocket.close"]


def test_while_the_store_is_away_a_caller_stays_known_until_it_expires() -> None:
    line = Line()

    async def main() -> None:
        task = await line.opened()
        line.scheme.away = True
        await asyncio.sleep(MESSAGE_SECONDS)
        await line.say("still here")
        await line.incoming.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert line.scheme.verified == 2
    assert line.sent[-1] == {"type": "websocket.send", "text": "alice:still here"}


def test_a_message_is_not_lost_where_the_app_gives_up_waiting_for_it() -> None:
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.02)
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    line = Line(patient)

    async def main() -> None:
        task = await line.opened()
        await asyncio.sleep(0.03)
        await line.say("late")
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert line.sent[-1]["text"] == "late"


@pytest.mark.parametrize("path", ["/known", "/open"])
def test_nothing_goes_through_a_socket_that_the_guard_has_closed(path: str) -> None:
    read: list[str] = []
    raised: list[type[Exception]] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(4):
            read.append((await receive())["type"])
            try:
                await send({"type": "websocket.send", "text": "and yet"})
            except OSError as error:
                raised.append(type(error))
        await send({"type": "websocket.close", "code": 1000})
        await send({"type": "websocket.send", "text": "and yet"})

    line = Line(stubborn, Names())

    async def main() -> None:
        task = await line.opened(path)
        for text in ("x" * 51, "after", "after", "after"):
            await line.say(text)
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert read == ["websocket.disconnect"] * 4
    assert [message["type"] for message in line.sent] == ["websocket.accept", "websocket.close"]
    assert set(raised) == {SocketClosed}
    assert [row["event"] for row in line.lines()] == ["access"]


def test_an_error_of_the_app_is_logged_and_closes_the_socket() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    line = Line(broken)

    async def main() -> None:
        await (await line.opened())

    asyncio.run(main())
    assert line.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": ""}
    failed, access = line.lines()
    assert (failed["event"], failed["path"]) == ("websocket.failed", "/known")
    assert (access["event"], access["status"], access["route"]) == ("access", 101, "/known")
    assert failed["request_id"] == access["request_id"]


def test_a_handler_that_lets_the_end_of_its_client_through_is_no_error() -> None:
    class WebSocketDisconnect(Exception):
        pass

    async def careless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if (await receive())["type"] == "websocket.disconnect":
            raise WebSocketDisconnect

    line = Line(careless)

    async def main() -> None:
        task = await line.opened()
        await line.incoming.put({"type": "websocket.disconnect", "code": 1001})
        await task

    asyncio.run(main())
    assert [row["event"] for row in line.lines()] == ["access"]
    assert [message["type"] for message in line.sent] == ["websocket.accept"]


@pytest.mark.parametrize(("error", "status"), [(ZeroDivisionError(), 500), (NotAllowed(["x"]), 403)])
def test_an_error_before_the_handshake_is_answered_where_the_server_can(error: Exception, status: int) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise error

    line = Line(broken)

    async def main() -> None:
        await (await line.opened(extensions={"websocket.http.response": {}}))

    asyncio.run(main())
    assert line.sent[0]["status"] == status
    assert line.lines()[-1]["status"] == status


def test_a_refused_handshake_has_its_line_with_the_control() -> None:
    line = Line()

    async def main() -> None:
        await (await line.opened("/nowhere"))

    asyncio.run(main())
    assert [(row["status"], row["control"]) for row in line.lines()] == [(403, "identity.no_policy")]
