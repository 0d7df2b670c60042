"""An issuer's login page for development: inside the service, offline, with no account and no password.

    GET  /login/development    asks who you are, and what you may
    POST /login/development    sends the browser back with a code, as an issuer does

The rest of the login is the real one: the cookie, `state`, `iss`, the callback, the session. Only the exchange of the
code is left out, because both ends of it are this process: the code is itself what the development issuer signed for
this login, with its nonce and challenge in it, and for an audience that no `Bearer` is.

Whoever gets at the page can be anybody. So it is served outside production only, only where `OidcLogin` names no
issuer, and to browsers on this very machine only. A proxy or a tunnel on this machine brings browsers from elsewhere,
so what came through one, or was asked for by another name than this machine's own, is refused too.
"""

import re
from collections.abc import Mapping
from html import escape
from time import time
from typing import Final
from urllib.parse import urlencode, urlsplit

from workhorse.asgi import Receive, Reply, Scope
from workhorse.context import RequestContext, current_request
from workhorse.errors import SettingsError
from workhorse.identity.claims import ClaimNames, Rules, check_claims, principal_of
from workhorse.identity.cookies import is_loopback
from workhorse.identity.development import DevelopmentIssuer, DevelopmentKeys
from workhorse.identity.issuer import DEVELOPMENT_ISSUER
from workhorse.identity.jws import read_token
from workhorse.identity.login.attempt import Attempt
from workhorse.identity.login.flow import Known, Prompt
from workhorse.identity.login.pages import origin_of, page_prefix, read_form, read_query, redirect
from workhorse.identity.login.paths import LoginPaths
from workhorse.identity.login.problems import Stop, Stopped
from workhorse.identity.login.tokens import LogoutToken
from workhorse.settings import Settings

__all__ = ["DevelopmentFlow"]

AUDIENCE: Final = "urn:workhorse:development:login"
CODE_SECONDS: Final = 60
MAX_CODE: Final = 8192

PROXIED: Final = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)

_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_RULES: Final = Rules(issuer=DEVELOPMENT_ISSUER, audiences=frozenset({AUDIENCE}), clock_skew=0)
_NAMES: Final = ClaimNames(tenant="tenant")

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Log in for development</title>
<h1>Log in for development</h1>
<p>There is no password: this page is on your machine only. In production, OidcLogin names your issuer.
<form method="post">
<p><label>Name <input name="name" value="alice" required maxlength="200" autofocus></label>
<p><label>Scopes <input name="scopes" value="{scopes}"></label>
<p><label>Roles <input name="roles"></label>
<p><label>Tenant <input name="tenant"></label>
<p><button>Log in</button>
</form>
"""


class DevelopmentFlow:
    """Stands for an issuer, as `Flow` talks to one.

    Args:
        settings: the project's settings, which say where the key is.
        paths: where the pages are.
        scopes: what the page offers at first.

    Raises:
        SettingsError: the environment is production.
    """

    def __init__(self, settings: Settings, paths: LoginPaths, scopes: tuple[str, ...]) -> None:
        self._keys = DevelopmentKeys(settings)
        self._settings = settings
        self._paths = paths
        self._scopes = tuple(scope for scope in scopes if scope != "openid")

    async def open(self) -> None:
        """Make the key, if there is none yet.

        Raises:
            StartupError: it cannot be made or read.
        """
        await self._keys.open()

    async def close(self) -> None:
        """Nothing is under way."""

    async def address(self, attempt: Attempt, prompt: Prompt) -> str:
        """Where the browser is sent to log in: to the page. It asks each time, so that `prompt` changes nothing."""
        del prompt
        origin = attempt.party.redirect_uri.removesuffix(self._paths.callback)
        parameters = {"state": attempt.state, "nonce": attempt.nonce, "challenge": attempt.challenge}
        return f"{origin}{self._paths.development}?{urlencode(parameters)}"

    async def finish(self, attempt: Attempt, said: Mapping[str, str], request: RequestContext) -> Known:
        """Who the user said that they are.

        Raises:
            Stopped: it was another login, or another issuer.
            Refused: the code is not good.
        """
        del request  # nothing is waited for
        if said.get("iss") != DEVELOPMENT_ISSUER:
            raise Stopped(Stop.ISSUER_PARAMETER)
        now = time()
        code = read_token(b"Bearer " + said.get("code", "").encode("ascii", "replace"), max_bytes=MAX_CODE)
        claims = code.claims
        end = check_claims(_RULES, claims, now)
        if (claims.get("nonce"), claims.get("challenge")) != (attempt.nonce, attempt.challenge):
            raise Stopped(Stop.NONCE)
        key = await self._keys.find(code.header.kid, now)
        key.verify(code.header.alg, code.signed, code.signature)
        return Known(principal_of(_RULES, _NAMES, claims, end), {"login": {"iss": DEVELOPMENT_ISSUER}})

    async def ended(self, logout_token: str) -> LogoutToken:
        """Nothing: it ends no sessions by itself.

        Raises:
            Stopped: always.
        """
        del logout_token
        raise Stopped(Stop.EVENT)

    async def goodbye(self, return_to: str) -> str:
        """Nowhere: nobody is logged in at this issuer for longer than it takes."""
        del return_to
        return ""

    async def show(self, scope: Scope, receive: Receive) -> Reply:
        """The page.

        Raises:
            Stopped: the browser is on another machine, or was not sent here by a login.
        """
        del receive
        _asked(scope)
        page = _PAGE.format(scopes=escape(" ".join(self._scopes)))
        headers = ((b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"))
        return Reply(status=200, headers=headers, body=page.encode())

    async def send_back(self, scope: Scope, receive: Receive) -> Reply:
        """What becomes of the page's form: the way to the callback.

        Raises:
            Stopped: as for `show`, or the form has no name in it.
        """
        asked = _asked(scope)
        form = await read_form(scope, receive)
        claims: dict[str, object] = {"nonce": asked["nonce"], "challenge": asked["challenge"]}
        claims["roles"] = form.get("roles", "").split()
        if form.get("tenant"):
            claims["tenant"] = form["tenant"]
        try:
            code = DevelopmentIssuer(self._settings).mint(
                form.get("name", "").strip(),
                scopes=form.get("scopes", "").split(),
                audience=AUDIENCE,
                lifetime_seconds=CODE_SECONDS,
                claims=claims,
            )
        except SettingsError:
            raise Stopped(Stop.REQUEST) from None
        before = page_prefix(scope, self._paths.development) or ""
        parameters = {"code": code, "state": asked["state"], "iss": DEVELOPMENT_ISSUER}
        return redirect(f"{before}{self._paths.callback}?{urlencode(parameters)}")


def _asked(scope: Scope) -> Mapping[str, str]:
    """What the login has sent the browser here with, if that is one on this very machine."""
    if not _is_here(scope):
        raise Stopped(Stop.REQUEST)
    asked = read_query(scope)
    if not all(_VALUE.fullmatch(asked.get(name, "")) for name in ("state", "nonce", "challenge")):
        raise Stopped(Stop.REQUEST)
    return asked


def _is_here(scope: Scope) -> bool:
    """Whether the browser is on this very machine, as far as that can be known."""
    if not is_loopback(current_request().client) or any(name in PROXIED for name, _ in scope["headers"]):
        return False
    host = urlsplit(origin_of(scope, plain=True)).hostname or ""
    return host == "localhost" or is_loopback(host)
