"""A strict OpenID provider on a loopback port, a bank that logs its users in there, and the browser between the two.

The provider keeps strictly to the standards, by its own reading of them. Each of its faults is one attribute, so that a
test says which lie it tells.
"""

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit
from uuid import uuid4

import httpx
import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.browser.sites import serving
from tests.identity.oidc_server import signing_key
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.context import current_request
from workhorse.guard import Guard, compile_plan
from workhorse.identity import Identity, Sessions
from workhorse.identity.login import OidcLogin
from workhorse.identity.scheme import Surroundings
from workhorse.policy import Policy
from workhorse.settings import GuardSettings, Settings
from workhorse.state.memory.sessions import MemorySessions
from workhorse.telemetry.log import Log

URL = "https://bank.example"
CALLBACK = f"{URL}/login/callback"
SECRET = "a secret: 100%41 + ümlaut & colon"
DIGESTS: dict[str, Any] = {"ES256": sha256, "RS256": sha256, "ES384": sha384, "EdDSA": sha512}
BASIC, POST, KEY, NONE = "client_secret_basic", "client_secret_post", "private_key_jwt", "none"


class Provider:
    """An OpenID provider with one user, who is logged in there."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.key = signing_key(algorithm)
        self.issuer = ""
        self.user = "alice"
        self.sid = uuid4().hex
        self.methods = [BASIC]
        self.client_key: Any = None
        self.redirect_uris = {CALLBACK}
        self.metadata: dict[str, Any] = {}
        """What its metadata say differently; None: not at all."""
        self.claims: dict[str, Any] = {}
        """What its ID tokens say differently; None: not at all."""
        self.header: dict[str, Any] = {}
        """What the ID tokens' headers say differently."""
        self.forge: Callable[[str], str] = lambda token: token
        """What is made of the ID token in the end."""
        self.reply: dict[str, str | None] = {}
        """What its replies to the browser say differently; None: not at all."""
        self.token_reply: Callable[[dict[str, Any]], Response] = JSONResponse
        self.token_seconds = 0.0
        """How long the token endpoint takes."""
        self.access_token = uuid4().hex
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[dict[str, str]] = []
        """What the authorization endpoint was asked."""
        self.exchanged: list[dict[str, str]] = []
        """What the token endpoint was asked, the proof of the client left out."""
        self.left: list[dict[str, str]] = []
        """What the logout page was asked."""
        self.refused: list[str] = []
        """What it has refused by itself, in words."""
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/keys", self._keys),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/stolen", self._stolen, methods=["POST"]),
                Route("/goodbye", self._goodbye),
            ]
        )
        self.stolen: list[bytes] = []
        """What came where the token endpoint redirects to."""

    def logout_token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A good logout token, but for `changes` of its claims."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "bank",
            "iat": now,
            "exp": now + 120,
            "jti": uuid4().hex,
            "sub": self.user,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **changes,
        }
        return self.key.sign(_without_none(claims), **{"typ": "logout+jwt", **(header or {})})

    async def _metadata(self, request: Request) -> Response:
        known = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/goodbye",
            "token_endpoint_auth_methods_supported": self.methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(_without_none({**known, **self.metadata}))

    async def _keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [self.key.jwk]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        strict = {
            "response_type": asked.get("response_type") == "code",
            "client_id": asked.get("client_id") == "bank",
            "redirect_uri": asked.get("redirect_uri") in self.redirect_uris,
            "scope": "openid" in asked.get("scope", "").split(),
            "code_challenge_method": asked.get("code_challenge_method") == "S256",
            "code_challenge": re.fullmatch(r"[A-Za-z0-9_-]{43}", asked.get("code_challenge", "")) is not None,
            "state": len(asked.get("state", "")) >= 32,
            "nonce": len(asked.get("nonce", "")) >= 32,
            "repeated": len(request.query_params.multi_items()) == len(asked),
        }
        if faults := [name for name, good in strict.items() if not good]:
            self.refused.append(f"authorize: {faults}")
            return Response(f"refused: {faults}", 400)
        code = f"code-{uuid4().hex}"
        self.codes[code] = asked
        reply = _without_none({"code": code, "state": asked["state"], "iss": self.issuer, **self.reply})
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(reply)}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        if not self._knows(request, form):
            self.refused.append("client")
            return JSONResponse({"error": "invalid_client"}, 401)
        self.exchanged.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or _base64url(sha256(form.get("code_verifier", "").encode()).digest()) != asked["code_challenge"]
        ):
            self.refused.append("grant")
            return JSONResponse({"error": "invalid_grant"}, 400)
        await asyncio.sleep(self.token_seconds)
        return self.token_reply(
            {
                "access_token": self.access_token,
                "token_type": "Bearer",
                "expires_in": 300,
                "refresh_token": f"refresh-{uuid4().hex}",
                "id_token": self.forge(self._id_token(asked)),
            }
        )

    async def _stolen(self, request: Request) -> Response:
        self.stolen.append(await request.body())
        return JSONResponse({})

    async def _goodbye(self, request: Request) -> Response:
        self.left.append(dict(request.query_params))
        return HTMLResponse("<p id=left>You have left.")

    def _id_token(self, asked: Mapping[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": self.user,
            "aud": "bank",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": asked["nonce"],
            "sid": self.sid,
            "at_hash": _at_hash(self.key.algorithm, self.access_token),
            **self.claims,
        }
        return self.key.sign(_without_none(claims), **{"typ": "JWT", **self.header})

    def _knows(self, request: Request, form: dict[str, str]) -> bool:
        authorization = request.headers.get("authorization", "")
        if BASIC in self.methods:
            name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == ("bank", SECRET) and "client_secret" not in form
        if authorization:
            return False
        if POST in self.methods:
            return (form.get("client_id"), form.pop("client_secret", "")) == ("bank", SECRET)
        if KEY in self.methods:
            return self._proves(form)
        return form.get("client_id") == "bank"

    def _proves(self, form: dict[str, str]) -> bool:
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return False
        claims = jwt.decode(
            form.pop("client_assertion"),
            self.client_key,
            algorithms=["ES256", "EdDSA", "RS256"],
            audience=self.issuer,
            issuer="bank",
            options={"require": ["iss", "sub", "aud", "jti", "exp"]},
        )
        return bool(claims["sub"] == "bank" and claims["exp"] - time.time() <= 120)


class Place:
    """A port that one provider after the other is served at, because to start a server takes longer than a test."""

    def __init__(self) -> None:
        self.origin = ""
        self._provider = Provider()

    def provider(self, **options: Any) -> Provider:
        """Serve a new one from now on."""
        self._provider = Provider(**options)
        self._provider.issuer = self.origin
        return self._provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._provider.app(scope, receive, send)


@contextmanager
def a_place() -> Iterator[Place]:
    """Serve providers over HTTP."""
    place = Place()
    with serving(place, "127.0.0.1") as place.origin:
        yield place


@contextmanager
def providing(**options: Any) -> Iterator[Provider]:
    """Serve one provider over HTTP."""
    with a_place() as place:
        yield place.provider(**options)


class Bank:
    """An app whose users log in at the provider, in a guard that knows them by their session.

    It is asked over TLS at `URL`, as in production, unless it is in development.
    """

    def __init__(self, provider: Provider, settings: Settings, *, log: Log | None = None, **options: Any) -> None:
        self.store = MemorySessions()
        self.sessions = Sessions(self.store)
        known: dict[str, Any] = {"client_id": "bank", "client_secret": SECRET, "url": URL, **options}
        self.login = OidcLogin(known.pop("issuer", provider.issuer), sessions=self.sessions, **known)
        app = Starlette(routes=[Route("/accounts", self._accounts), Route("/", self._home)])
        self.login.add_to(app)
        policies = [Policy("GET /accounts"), Policy("GET /", public=True), *self.login.policies()]
        self.identity = Identity(self.sessions, self.login)
        self.identity.bind(Surroundings(settings=settings, log=log, sessions=self.store))
        plan = compile_plan(GuardSettings(allowed_hosts=("bank.example", "localhost", "127.0.0.1")), policies)
        self.guard: ASGIApp = Guard(app, plan, identity=self.identity, log=log)

    async def _home(self, request: Request) -> Response:
        who = current_request().principal.id or "nobody"
        links = "<a id=in href='/login?next=/%3Fback'>Log in</a><form method=post action=/logout><button>Log out"
        return HTMLResponse(f"<p id=who>{who}</p>{links}")

    async def _accounts(self, request: Request) -> Response:
        principal = current_request().principal
        return JSONResponse(
            {
                "id": principal.id,
                "scopes": sorted(principal.scopes),
                "roles": sorted(principal.roles),
                "tenant": principal.tenant,
                "claims": dict(principal.claims),
            }
        )


class Browser:
    """Follows links and keeps cookies, for one bank; and talks to the provider over real HTTP."""

    def __init__(self, app: ASGIApp, url: str = URL, *, client: str = "203.0.113.9") -> None:
        self.bank = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=(client, 40_000)),
            base_url=url,
        )
        self.web = httpx.AsyncClient(trust_env=False)

    async def begin(self, path: str = "/login") -> str:
        """Ask for the login, and return where it leads."""
        reply = await self.bank.get(path)
        assert reply.status_code == 303, reply.text
        return reply.headers["location"]

    async def visit(self, address: str) -> str:
        """Let the provider log the user in, and return where it leads."""
        reply = await self.web.get(address)
        assert reply.status_code == 302, reply.text
        return reply.headers["location"]

    async def log_in(self, path: str = "/login") -> httpx.Response:
        """The whole way, and what the bank says at its end."""
        return await self.bank.get(await self.visit(await self.begin(path)))

    async def whoami(self) -> Any:
        """Who the bank takes the browser's user for; None if for nobody."""
        reply = await self.bank.get("/accounts")
        return reply.json() if reply.status_code == 200 else None


@asynccontextmanager
async def visiting(bank: Bank, **options: Any) -> AsyncIterator[Browser]:
    """A bank that is open, and a browser."""
    browser = Browser(bank.guard, **options)
    async with bank.identity, browser.bank, browser.web:
        yield browser


@contextmanager
def logging_to(path: Path) -> Iterator[Log]:
    """A log that is whole in `path` afterwards."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    log = Log(handle)
    try:
        yield log
    finally:
        log.close()
        os.close(handle)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def parameters(address: str) -> dict[str, str]:
    """The query of an address, each parameter of which is there once."""
    found = parse_qs(urlsplit(address).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


def with_parameters(address: str, **changes: str | None) -> str:
    """The address with its query changed; None: taken out."""
    return f"{address.partition('?')[0]}?{urlencode(_without_none({**parameters(address), **changes}))}"


def _at_hash(algorithm: str, access_token: str) -> str:
    digest = DIGESTS[algorithm](access_token.encode()).digest()
    return _base64url(digest[: len(digest) // 2])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
