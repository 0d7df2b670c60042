"""WebSockets through the guard: who may open one, from which page, and how much may be sent."""

import asyncio
from typing import Any

import pytest

from tests.asgi_client import http_scope
from tests.guard.test_permission import Names
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.context import current_request
from workhorse.guard import Guard, compile_plan
from workhorse.identity.scheme import Identity
from workhorse.policy import Policy
from workhorse.rate import Rate
from workhorse.settings import GuardSettings
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
