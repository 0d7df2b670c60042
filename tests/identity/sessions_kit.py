"""What the tests of sessions share: an app in a guard that knows callers by their session."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.asgi_client import Seen, call
from workhorse.asgi import Receive, Scope, Send
from workhorse.context import current_request
from workhorse.contracts import SessionRecord, SessionStore
from workhorse.errors import StoreUnavailable
from workhorse.guard import Guard, compile_plan
from workhorse.identity import Identity, Sessions
from workhorse.identity.sessions import digest_of
from workhorse.policy import Policy
from workhorse.settings import GuardSettings
from workhorse.state.memory.sessions import MemorySessions

COOKIE = "__Host-session"
Handler = Callable[[], Awaitable[Any]]


class Bank:
    """An app whose handlers are given by each test, in a guard that knows callers by their session."""

    def __init__(self, store: SessionStore | None = None, **options: Any) -> None:
        self.store = store if store is not None else MemorySessions()
        self.sessions = Sessions(self.store, **options)
        self.identity = Identity(self.sessions)
        policies = [Policy("POST /open", public=True), Policy("POST /known"), Policy("POST /vault", scope="vault")]
        self.guard = Guard(self.app, compile_plan(GuardSettings(), policies), identity=self.identity)
        self.handler: Handler = self.whoami

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.dumps(await self.handler()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    async def whoami(self) -> str:
        return current_request().principal.subject

    async def ask(self, handler: Handler | None = None, *, cookie: str = "", path: str = "/open", **more: Any) -> Seen:
        """Send a request that `handler` serves. `cookie` is a secret, or a whole Cookie header."""
        self.handler = handler if handler is not None else self.whoami
        header = cookie if "=" in cookie or not cookie else f"{COOKIE}={cookie}"
        headers = [("cookie", header)] if header else []
        return await call(self.guard, "POST", path, headers=headers, **more)

    async def login(self, subject: str = "alice", *, cookie: str = "", **more: Any) -> str:
        """Log in, and return the secret that the browser then has."""

        async def handler() -> str:
            return (await self.sessions.login(subject, **more)).public_id

        return secret_of(await self.ask(handler, cookie=cookie))

    async def whose(self, cookie: str) -> str:
        """Who a request with this cookie is found to be, where everybody may call."""
        seen = await self.ask(cookie=cookie)
        assert seen.status == 200
        subject: str = seen.json()
        return subject


def set_cookies(seen: Seen) -> list[str]:
    return [value.decode() for name, value in seen.headers if name == b"set-cookie"]


def secret_of(seen: Seen, name: str = COOKIE) -> str:
    assert seen.status == 200, seen.body
    (line,) = [line for line in set_cookies(seen) if line.startswith(f"{name}=") and "Max-Age=0" not in line]
    return line.partition("=")[2].partition(";")[0]


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    asyncio.run(whole())


async def age(bank: Bank, secret: str, **changes: Any) -> None:
    """Make the session older than it is."""
    digest = digest_of(secret.encode())
    record = await bank.store.find(digest, now=time.time())
    assert record is not None
    await bank.store.delete(digest)
    await bank.store.insert(record._replace(**changes))


class Away(MemorySessions):
    """A store that cannot be reached, once `away` names the method."""

    away: frozenset[str] = frozenset()
    finds = 0

    def _see(self, method: str) -> None:
        if method in self.away:
            raise StoreUnavailable

    async def insert(self, session: SessionRecord, *, replaces: bytes | None = None) -> None:
        self._see("insert")
        await super().insert(session, replaces=replaces)

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        self._see("find")
        self.finds += 1
        return await super().find(digest, now=now)

    async def touch(self, digest: bytes, *, seen: float) -> None:
        self._see("touch")
        await super().touch(digest, seen=seen)

    async def delete(self, digest: bytes) -> bool:
        self._see("delete")
        return await super().delete(digest)


async def login(bank: Bank, subject: str, **more: Any) -> str:
    return (await bank.sessions.login(subject, **more)).public_id
