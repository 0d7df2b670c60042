"""The requests that every contestant serves, and the ASGI server's part in serving them, without a server.

A GET has 16 header fields of about 1.9 KB, as a browser behind a proxy sends them to an API: a token, a cookie, the
proxy's word on the client, a trace, fetch metadata. A POST has three more and a JSON body. One thousand tokens come in
turn, so that whoever remembers verified tokens is measured with as many as a busy process sees, and whoever does not
verifies each.

What a server does for a request is done here as uvicorn does it: a scope of its own, a task in an empty context,
messages as dicts. It is the same for all, so it falls out of every difference.
"""

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from workhorse.asgi import ASGIApp, Headers, Message, Scope

__all__ = [
    "BODY",
    "HOST",
    "METHODS",
    "ORIGIN",
    "TARGETS",
    "Answer",
    "Credentials",
    "Method",
    "Traffic",
    "UnexpectedAnswer",
    "request_scope",
    "serve_all",
    "serve_one",
]

Method = Literal["GET", "POST"]
METHODS: Final[tuple[Method, ...]] = ("GET", "POST")
HOST: Final = "api.example.com"
ORIGIN: Final = "https://app.example.com"
TARGETS: Final = {"GET": ("/items/42", b"q=abc"), "POST": ("/items", b"")}
BODY: Final = b'{"name":"Blue chair","price":129.5,"qty":3,"tags":["a","b"]}'
PEER: Final = ("127.0.0.1", 41_234)
"""The proxy in front, as the server sees it."""


class Credentials(msgspec.Struct, frozen=True):
    """What proves who calls: made once per run, because signing a thousand tokens takes a second."""

    public_key: str
    """Of the issuer, as PEM."""
    key_set: str
    """The same as a JSON Web Key Set."""
    issuer: str
    audience: str
    tokens: tuple[str, ...]
    session: str
    """A cookie of Starlette's SessionMiddleware."""
    csrf: str
    """A cookie of starlette-csrf."""


@dataclass(slots=True)
class Answer:
    """What came back for one request."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""


class UnexpectedAnswer(Exception):
    """A contestant answered what it should not have: no figure of it counts."""


class Traffic:
    """Makes scopes.

    Args:
        credentials: the tokens and cookies.
        csrf: the token that the contestant takes, in cookie and header alike.
    """

    def __init__(self, credentials: Credentials, *, csrf: str) -> None:
        cookie = f"csrftoken={csrf}; session={credentials.session}"
        common = (
            ("host", HOST),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("accept-language", "en-GB,en;q=0.9"),
            ("origin", ORIGIN),
            ("referer", ORIGIN + "/"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("cookie", cookie),
            ("x-csrftoken", csrf),
        )
        self._common: Headers = [(name.encode(), value.encode()) for name, value in common]
        self._body: Headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(BODY)),
        ]
        self._tokens = [f"Bearer {token}".encode() for token in credentials.tokens]

    def headers(self, method: Method, number: int) -> Headers:
        """The header fields of request `number`."""
        fields = [*self._common, (b"authorization", self._tokens[number % len(self._tokens)])]
        if method == "POST":
            fields += self._body
            fields.append((b"idempotency-key", b"%032x" % number))
        return fields

    def scope(self, method: Method, number: int, **changed: Any) -> Scope:
        """The scope of request `number`, with keys of it replaced by `changed`."""
        path, query = TARGETS[method]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": PEER,
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": self.headers(method, number),
            "state": {},
            **changed,
        }


class Cycle:
    """One request's two channels."""

    __slots__ = ("answer", "body", "done", "read")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.read = False
        self.answer = Answer()
        self.done: asyncio.Future[None] | None = None

    async def receive(self) -> Message:
        """The whole body at once; after it, the end of the request once the reply has ended."""
        if not self.read:
            self.read = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        self.done = asyncio.get_running_loop().create_future()
        await self.done
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the reply."""
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = message["headers"]
        else:
            self.answer.body += message.get("body", b"")
            if not message.get("more_body", False) and self.done is not None and not self.done.done():
                self.done.set_result(None)


def request_scope(method: str, path: str, headers: Headers) -> Scope:
    """The scope of one request of a client on the same machine."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 41_234),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "state": {},
    }


async def serve_one(app: ASGIApp, scope: Scope, body: bytes = b"") -> Answer:
    """Serve one request and return its answer; what the app raises is raised."""
    cycle = Cycle(body)
    call: Any = app(scope, cycle.receive, cycle.send)
    await asyncio.get_running_loop().create_task(call, context=contextvars.Context())
    return cycle.answer


async def serve_all(app: ASGIApp, scopes: Sequence[Scope], body: bytes) -> None:
    """Serve requests one after the other.

    Raises:
        UnexpectedAnswer: one was not answered with 200.
    """
    for scope in scopes:
        answer = await serve_one(app, scope, body)
        if answer.status != 200:
            raise UnexpectedAnswer(f"{scope['method']} {scope['path']}: {answer.status} {answer.body[:300]!r}")
