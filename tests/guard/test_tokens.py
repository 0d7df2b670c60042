"""The CSRF token through the whole guard: for browsers that tell nothing of where a request comes from."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.asgi_client import Seen, call
from workhorse.asgi import Receive, Scope, Send
from workhorse.context import current_request
from workhorse.errors import SettingsError
from workhorse.guard import Guard, compile_plan
from workhorse.identity.scheme import Credentials, Identity
from workhorse.policy import Policy
from workhorse.principal import Kind, Principal
from workhorse.settings import GuardSettings

KEYS = ("a key of at least 32 characters, the first", "another one, which is taken and does not sign")
FORM = "application/x-www-form-urlencoded"
BOUNDARY = "b0undary"
POLICIES = [
    Policy("GET /page", public=True),
    Policy("POST /change", public=True),
    Policy("POST /blind", public=True),
    Policy("POST /hook", public=True, insecure_cross_site=True),
]


class Cookies:
    """Callers by the cookie `who`."""

    challenge = b""

    def presents(self, credentials: Credentials) -> bool:
        return b"who=" in (credentials.cookie or b"")

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        name = (credentials.cookie or b"").partition(b"who=")[2].partition(b";")[0].decode()
        return Principal(subject=name, kind=Kind.SESSION, credential=f"session-of-{name}")

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        raise AssertionError

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Site:
    """A page with a form, and what takes it."""

    def __init__(self, *, identity: bool = True, **settings: Any) -> None:
        self.bodies: list[bytes] = []
        given: dict[str, Any] = {"csrf_token_keys": KEYS, **settings}
        plan = compile_plan(GuardSettings(**given), POLICIES)
        self.guard = Guard(self._app, plan, identity=Identity(Cookies()) if identity else None)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        if scope["path"] == "/page":
            body = f"{current_request().csrf_token()} {current_request().csrf_token()}".encode()
        elif scope["path"] == "/change":
            while True:
                message = await receive()
                body += message["body"]
                if not message["more_body"]:
                    break
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> Seen:
        return asyncio.run(call(self.guard, method, path, headers=headers.items(), body=body, declare_length=False))

    def page(self, cookie: str = "who=alice") -> tuple[str, str]:
        """The token of a page, and all cookies of the browser then."""
        seen = self.ask("GET", "/page", {"cookie": cookie})
        return seen.body.decode().split(" ")[0], f"{cookie}; {(seen.header('set-cookie') or '').partition(';')[0]}"


def a_form(token: str, *, before: str = "") -> list[bytes]:
    body = urlencode({"amount": "1" + before, "csrf_token": token, "to": "bob"}).encode()
    return [body[:10], body[10:50], body[50:]]


def parts(token: str) -> bytes:
    fields = {"amount": "1", "csrf_token": token, "to": "bob"}
    heads = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items())
    return ("".join(heads) + f"--{BOUNDARY}--\r\n").encode()


def test_a_page_gets_a_token_that_looks_different_each_time_and_one_cookie() -> None:
    seen = Site().ask("GET", "/page", {"cookie": "who=alice"})
    one, two = seen.body.decode().split(" ")
    assert one != two
    assert len(one) == len(two) == 144
    assert seen.count("set-cookie") == 1
    cookie = seen.header("set-cookie") or ""
    assert cookie.startswith("__Host-csrf=")
    assert cookie.endswith("; Max-Age=43200; Path=/; Secure; SameSite=Lax; HttpOnly")


def test_a_browser_that_has_the_cookie_keeps_it() -> None:
    site = Site()
    _, cookies = site.page()
    assert site.ask("GET", "/page", {"cookie": cookies}).header("set-cookie") is None
    mallory = cookies.replace("who=alice", "who=mallory")
    assert site.ask("GET", "/page", {"cookie": mallory}).header("set-cookie"), "another caller needs another one"


@pytest.mark.parametrize("identity", [True, False])
def test_a_form_with_the_pages_token_reaches_the_app_whole(identity: bool) -> None:  # noqa: FBT001
    site = Site(identity=identity)
    token, cookies = site.page()
    chunks = a_form(token)
    assert site.ask("POST", "/change", {"cookie": cookies, "content-type": FORM}, chunks).status == 200
    assert site.bodies[-1] == b"".join(chunks)
    multipart = {"cookie": cookies, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert site.ask("POST", "/change", multipart, parts(token)).status == 200
    assert site.bodies[-1] == parts(token)
    assert site.ask("POST", "/change", {"cookie": cookies, "x-csrf-token": token}).status == 200


@pytest.mark.parametrize("path", ["/change", "/blind"])
@pytest.mark.parametrize("kind", [FORM, f"multipart/form-data; boundary={BOUNDARY}"])
def test_a_form_without_the_token_is_refused_whether_or_not_its_handler_reads_it(path: str, kind: str) -> None:
    site = Site()
    token, cookies = site.page()
    other, _ = site.page("who=mallory")
    served = len(site.bodies)

    def make(shown: str) -> bytes:
        return b"".join(a_form(shown)) if kind == FORM else parts(shown)

    for wrong in ("", "x" * 144, other, token[:-1], token.swapcase()):
        assert site.ask("POST", path, {"cookie": cookies, "content-type": kind}, make(wrong)).status == 403
    assert site.ask("POST", path, {"cookie": "who=alice", "content-type": kind}, make(token)).status == 403
    assert len(site.bodies) == served


def test_what_is_no_form_needs_the_header() -> None:
    site = Site()
    token, cookies = site.page()
    for kind, body in (("application/json", b'{"csrf_token":"%b"}' % token.encode()), ("text/plain", token.encode())):
        assert site.ask("POST", "/change", {"cookie": cookies, "content-type": kind}, body).status == 403
    assert site.ask("POST", "/change", {"cookie": cookies}).status == 403
    headers = {"cookie": cookies, "content-type": "application/json", "x-csrf-token": token}
    assert site.ask("POST", "/change", headers, b"{}").status == 200
    wrong = {"cookie": cookies, "content-type": FORM, "x-csrf-token": "x"}
    assert site.ask("POST", "/change", wrong, a_form(token)).status == 403


def test_a_token_far_into_a_form_is_not_looked_for() -> None:
    site = Site()
    token, cookies = site.page()
    headers = {"cookie": cookies, "content-type": FORM}
    chunks = [b"a=" + b"0" * 70_000, *a_form(token)]
    assert site.ask("POST", "/change", headers, chunks).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "who=alice", "sec-fetch-site": "same-origin"},
        {"cookie": "who=alice", "origin": "http://localhost"},
        {"authorization": "Bearer x"},
        {},
    ],
)
def test_whoever_tells_where_it_comes_from_or_has_no_cookie_needs_none(headers: dict[str, str]) -> None:
    assert Site(identity=False).ask("POST", "/change", {**headers, "content-type": FORM}, a_form("")).status == 200


def test_a_webhook_needs_none_and_without_keys_nobody_does() -> None:
    headers = {"cookie": "who=alice", "content-type": FORM}
    assert Site().ask("POST", "/hook", headers, a_form("")).status == 200
    site = Site(csrf_token_keys=())
    assert site.ask("POST", "/change", headers, a_form("")).status == 200
    page = site.ask("GET", "/page", {"cookie": "who=alice"})
    assert (page.body, page.header("set-cookie")) == (b" ", None)


def test_a_new_key_in_front_leaves_open_forms_good() -> None:
    token, cookies = Site().page()
    newer = Site(csrf_token_keys=("the newest key, of 32 characters or more", *KEYS))
    assert newer.ask("POST", "/change", {"cookie": cookies, "content-type": FORM}, a_form(token)).status == 200
    without = Site(csrf_token_keys=KEYS[1:])
    assert without.ask("POST", "/change", {"cookie": cookies, "content-type": FORM}, a_form(token)).status == 403


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="key 1 of the CSRF token has 5 bytes"):
        Site(csrf_token_keys=("short",))
