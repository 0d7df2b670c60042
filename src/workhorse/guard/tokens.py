"""Where the CSRF token of a request is looked for, and where an app gets the one for its pages.

A script sends the token in a header, which can be checked at once. A form sends it as a field of its body. Whether the
handler reads the body is the handler's business, so the check cannot wait for that: the guard reads the form up to the
token before it calls the app, and gives the app what it has read. Only a browser so old that it tells nothing of where
a request comes from has to wait for this.

The form is not parsed for it. Nobody but a page of this service knows a token that fits, so it proves as much in
whatever place of the body it stands; the patterns are those of the field as browsers write it.
"""

import re
from time import time
from typing import Final

from workhorse.asgi import Message, Receive
from workhorse.context import RequestContext
from workhorse.guard.checks.content_type import FORM, MediaType
from workhorse.guard.checks.csrf import needs_token
from workhorse.guard.checks.csrf_token import (
    FIELD,
    HEADER,
    CsrfTokenRules,
    check_csrf_token,
    csrf_cookie,
    is_fresh,
    mask_token,
    new_token,
    token_cookie,
    verify_token,
)
from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.problems import CrossOriginRefused
from workhorse.guard.verdict import Refusal
from workhorse.principal import Principal

__all__ = ["FormToken", "Tokens", "check_token", "form_token_due"]

MAX_FORM_BYTES: Final = 64 * 1024
"""How far into a form the token is looked for. It is the first field, or near it."""
MAX_TRIED: Final = 4

_HEADER: Final = HEADER.lower().encode()
_FIELD: Final = FIELD.encode()
_MULTIPART: Final = b"multipart/form-data"
# What `mask_token` makes is 144 characters of base64url.
_IN_FIELDS: Final = re.compile(rb"(?:^|&)" + _FIELD + rb"=([A-Za-z0-9_-]{144})(?=&|\Z)")
_IN_PARTS: Final = re.compile(
    rb'[ ;]name="?' + _FIELD + rb'"?[^\r\n]{0,200}\r\n(?:[^\r\n]{1,200}\r\n){0,4}\r\n([A-Za-z0-9_-]{144})(?=\r\n)'
)


def form_token_due(plan: Plan, facts: Facts, body_type: MediaType | None, *, cross_site: bool) -> bool:
    """Whether the token of this request is to be looked for in its form: it needs one, and has no header for it."""
    return (
        plan.csrf_token is not None
        and body_type is not None
        and body_type.essence in {FORM, _MULTIPART}
        and _HEADER not in facts.headers
        and needs_token(plan.csrf, facts, cross_site=cross_site)
    )


def check_token(
    plan: Plan, facts: Facts, principal: Principal, *, cross_site: bool, body_type: MediaType | None
) -> Refusal | None:
    """Refuse a request that needs a token and shows none; a form may show it later (`FormToken`)."""
    if plan.csrf_token is None or not needs_token(plan.csrf, facts, cross_site=cross_site):
        return None
    if form_token_due(plan, facts, body_type, cross_site=cross_site):
        return None
    return check_csrf_token(plan.csrf_token, facts, binding=binding_of(principal), now=time())


def binding_of(principal: Principal) -> bytes:
    """What a token is good for: one credential of one caller."""
    return principal.credential.encode()


class FormToken:
    """Reads a form until it has shown its token, and then gives it to the app from its beginning.

    Args:
        receive: what the body comes from, checked and counted.
        rules: how tokens are signed.
        facts: the request.
        kind: what the body is.
        principal: who sent it.
    """

    def __init__(
        self, receive: Receive, rules: CsrfTokenRules, *, facts: Facts, kind: MediaType, principal: Principal
    ) -> None:
        self._receive = receive
        self._rules = rules
        self._cookie = csrf_cookie(facts)
        self._pattern = _IN_FIELDS if kind.essence == FORM else _IN_PARTS
        self._binding = binding_of(principal)
        self._kept: list[Message] = []

    async def check(self) -> Refusal | None:
        """Read as far as the token; refuse a form that has none, or another one (see `check_csrf_token`)."""
        if self._cookie is None:
            return Refusal("csrf.token_missing", CrossOriginRefused())
        body = b""
        last = False
        while not last and len(body) < MAX_FORM_BYTES:
            message = await self._receive()
            self._kept.append(message)
            body += message.get("body", b"")
            last = message["type"] != "http.request" or not message.get("more_body", False)
        tokens = [match[1] for match, _ in zip(self._pattern.finditer(body), range(MAX_TRIED), strict=False)]
        for token in tokens:
            if verify_token(self._rules, token=token, cookie=self._cookie, binding=self._binding, now=time()):
                return None
        return Refusal("csrf.token" if tokens else "csrf.token_missing", CrossOriginRefused())

    async def receive(self) -> Message:
        """Give the app the next message."""
        return self._kept.pop(0) if self._kept else await self._receive()


class Tokens:
    """Makes the token of one request's pages (see `RequestContext.csrf_token`)."""

    __slots__ = ("_cookie", "_facts", "_rules")

    def __init__(self, rules: CsrfTokenRules, facts: Facts) -> None:
        self._rules = rules
        self._facts = facts
        self._cookie: bytes | None = None

    def token(self, request: RequestContext) -> str:
        """Another spelling of the token at each call. Sets the cookie where the browser has none that lasts."""
        if self._cookie is None:
            binding, now = binding_of(request.principal), time()
            cookie = csrf_cookie(self._facts)
            if cookie is None or not is_fresh(self._rules, cookie, binding=binding, now=now):
                cookie = new_token(self._rules, binding=binding, now=now)
                request.set_cookies.append(token_cookie(self._rules, cookie)[1])
            self._cookie = cookie
        return mask_token(self._cookie)
