"""Login at an OpenID Connect issuer: the authorization code flow with PKCE, ending in a session of our own.

    browser             this service                                   issuer
    GET /login?next= →  attempt: secret → state, nonce, verifier
                     ←  303 + __Host-login-… cookie                →   the user logs in
    GET /login/callback?code&state&iss
                     →  cookie ↔ state, iss, code ─────────────────→   token endpoint
                        ID token: signature, iss, aud, nonce, …    ←
                     ←  303 to `next`, __Host-session cookie

The flow is our own code, and Authlib is not used. What it would do here is small, and is what `attempt` and `exchange`
do in less: a digest for PKCE, a form, a Basic header. What makes a login safe it leaves to its caller (binding state to
the browser, `iss`, redirects, the bounds of a reply), and what is large, the checking of tokens, exists here for
`Bearer`: with Authlib comes joserfc, a second JWT stack with its own list of algorithms and its own cache of keys.
Looked at in 1.9: a token reply is read without a bound, id and secret are not form-encoded for Basic (RFC 6749, section
2.3.1), and its client for httpx is deprecated in favour of another library.

No token is kept: neither access nor refresh token is asked for more than the flow needs, and the ID token ends with the
request. So logging out at the issuer is asked for by the client's id and not by a token in an address.

`OidcLogin` stands among the schemes of the service's identity, though it proves nobody: so it gets the service's
settings and log, fetches the issuer's keys at the start, and ends its fetches at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from workhorse.asgi import ASGIApp, Receive, Reply, Scope
from workhorse.context import current_request
from workhorse.errors import Problem, SettingsError, StartupError, StoreUnavailable
from workhorse.identity.discovery import IssuerAway, check_url
from workhorse.identity.issuer import DEVELOPMENT_ISSUER, Issuer
from workhorse.identity.login.attempt import Attempt, Party, begin, crowded_out, find_attempt, forget, give
from workhorse.identity.login.exchange import Client
from workhorse.identity.login.flow import Admit, Flow, FlowOptions, Prompt, check_options
from workhorse.identity.login.pages import (
    LoginPage,
    Pages,
    Routed,
    continue_at,
    header,
    is_plain_http,
    origin_of,
    page_prefix,
    read_form,
    read_query,
    redirect,
)
from workhorse.identity.login.paths import LoginPaths, is_local_path, is_navigation, page_of
from workhorse.identity.login.problems import Stop, Stopped, problem_of
from workhorse.identity.login.report import Report
from workhorse.identity.login.tokens import Asked
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import Credentials, NotAuthenticated, Surroundings
from workhorse.identity.sessions import Sessions
from workhorse.policy import Policy
from workhorse.principal import Principal
from workhorse.problems import plain_problem, render_problem, request_instance
from workhorse.rate import Rate

if TYPE_CHECKING:
    from workhorse.identity.login.development import DevelopmentFlow

__all__ = ["OidcLogin"]

LISTED: Final = 100
"""How many sessions a store lists."""
FAILURES: Final = (Stopped, Refused, IssuerAway, Problem)

UNLISTED: Final = "list it in the service's identity, as in Identity(sessions, login)"

DEFAULT_PATHS: Final = LoginPaths()


class OidcLogin:
    """Logs users in at an OpenID Connect issuer, and out again.

        sessions = Sessions()
        login = OidcLogin("https://login.example.com", client_id="bank", client_secret=secret, sessions=sessions,
                          url="https://bank.example")
        login.add_to(app)
        service = Service(app, identity=Identity(sessions, login), policies=[*login.policies(), ...])

    A session's subject is the issuer and its name of the user, `https://login.example.com|alice`: what `Principal.id`
    is where the same user calls with a token of that issuer.

    Args:
        issuer: where users log in, by name or as an `Issuer`, which also says where roles and tenant stand. Without
            one there is a page for development, where you say who you are; production refuses that.
        client_id: what this service is called there.
        client_secret: its password there. Neither this nor `client_key`: a public client, which has PKCE alone.
        client_key: its private key there, as PEM: P-256, Ed25519 or RSA (`private_key_jwt`).
        client_key_id: the key's name, where the issuer wants one.
        sessions: begins and ends the sessions; the same that the service's identity knows callers by.
        url: this service as browsers see it, such as `https://bank.example`, with what a proxy puts before every path.
            Without it the address that was asked for is taken, which production refuses.
        scopes: what is asked of the issuer; `openid` is added.
        paths: where the pages are.
        after_login: the local path to go to where no other was asked for.
        after_logout: the same after a logout. The issuer has to know its whole address.
        prompt: what the issuer asks users though it knows them already.
        max_age_seconds: how long ago a user may have logged in at the issuer. Checked, not only asked for.
        acr_values: the ways of logging in that are good enough, the best first. Checked, not only asked for.
        keep_claims: names of claims that the session's data keep, such as `email`.
        admit: asked before the session begins, with whom the issuer says that it is. It returns the principal whose
            scopes, roles and tenant the session gets; or None, and the user is not let in.
        attempt_seconds: how long a login may take, from the first page to the callback; 60 to 3600.
        clock_skew_seconds: how far the issuer's clock may be from ours; at most 300.

    Raises:
        SettingsError: a name, number or path makes no sense.
    """

    def __init__(
        self,
        issuer: Issuer | str = "",
        *,
        client_id: str = "",
        client_secret: str = "",
        client_key: bytes = b"",
        client_key_id: str = "",
        sessions: Sessions,
        url: str = "",
        scopes: Iterable[str] = ("openid",),
        paths: LoginPaths = DEFAULT_PATHS,
        after_login: str = "/",
        after_logout: str = "/",
        prompt: Prompt = "",
        max_age_seconds: int | None = None,
        acr_values: Sequence[str] = (),
        keep_claims: Iterable[str] = (),
        admit: Admit | None = None,
        attempt_seconds: int = 600,
        clock_skew_seconds: float = 30,
    ) -> None:
        self.challenge: Final = b""
        """None: a login is no authentication scheme (RFC 9110, section 11)."""
        self._issuer = Issuer(issuer or DEVELOPMENT_ISSUER) if isinstance(issuer, str) else issuer
        self._in_development = not issuer
        self._client = Client.of(
            client_id or ("development" if self._in_development else ""),
            secret=client_secret,
            key_pem=client_key,
            key_id=client_key_id,
        )
        self._options = FlowOptions(
            scopes=tuple(dict.fromkeys(["openid", *scopes])),
            prompt=prompt,
            asked=Asked(max_age_seconds=max_age_seconds, acr_values=tuple(acr_values)),
            clock_skew_seconds=clock_skew_seconds,
            keep_claims=frozenset(keep_claims),
        )
        check_options(
            self._options, after_login=after_login, after_logout=after_logout, attempt_seconds=attempt_seconds
        )
        if url:
            check_url(url, "the url of OidcLogin")
            if "?" in url:
                raise SettingsError(f"the url of OidcLogin is {url!r}; paths are put after it, so it has no query")
        self._sessions = sessions
        self._url = url.rstrip("/")
        self._paths = paths
        self._after_login = after_login
        self._after_logout = after_logout
        self._admit = admit
        self._attempt_seconds = attempt_seconds
        self._production = True
        self._report = Report(self._issuer.name, None)
        self._page: DevelopmentFlow | None = None
        self._flow = None if self._in_development else Flow(self._issuer, self._client, self._options, None)
        pages = [
            LoginPage(method="GET", path=paths.login, name="login", answer=self._begin),
            LoginPage(method="GET", path=paths.callback, name="login_callback", answer=self._callback),
            LoginPage(method="POST", path=paths.logout, name="logout", answer=self._logout),
            LoginPage(method="POST", path=paths.backchannel, name="backchannel_logout", answer=self._backchannel),
        ]
        if self._in_development:
            pages += [
                LoginPage(method=method, path=paths.development, name=name, answer=self._development)
                for method, name in (("GET", "development_login"), ("POST", "development_login_sent"))
            ]
        self._pages = tuple(pages)

    def __repr__(self) -> str:
        return f"<OidcLogin of {self._client.client_id} at {self._issuer.name}>"

    # What an app takes.

    @property
    def app(self) -> ASGIApp:
        """All pages as one ASGI app. `LoginPaths` are complete, with what it is mounted at."""
        return Pages(self._pages)

    def routes(self) -> Sequence[LoginPage]:
        """The pages, each an ASGI app with its method and path: `Route(page.path, page, methods=[page.method])`."""
        return self._pages

    def add_to(self, app: Routed) -> None:
        """Add the pages to a Starlette or FastAPI app."""
        for page in self._pages:
            app.add_route(page.path, page, methods=[page.method], name=page.name, include_in_schema=False)

    def policies(self, *, rate: str | Rate | Sequence[str | Rate] = ()) -> Sequence[Policy]:
        """What the pages ask for: anybody may call them, since nobody is known before a login.

        Args:
            rate: how often, each of them.
        """
        return [Policy(f"{page.method} {page.path}", public=True, rate=rate) for page in self._pages]

    def login_redirect(self, scope: Scope) -> Reply | None:
        """What a browser gets, in place of a 401, that asks for a page which needs a session: the way to the login.

        None for everything but a person's own navigation. A script gets its 401, because a redirect to another origin
        tells it nothing; so do programs and what a browser fetches ahead.
        """
        if scope["type"] != "http" or scope["method"] != "GET" or not is_navigation(scope):
            return None
        if header(scope, b"sec-purpose") is not None:
            return None
        before = urlsplit(self._url).path if self._url else scope.get("root_path", "")
        page = page_of(scope)
        return redirect(f"{before}{self._paths.login}{'?next=' + quote(page, safe='') if page else ''}")

    # What the service's identity asks of a scheme.

    def presents(self, credentials: Credentials) -> bool:  # noqa: ARG002 - the protocol's words
        """Never: the session that follows a login proves its owner."""
        return False

    def recall(self, credentials: Credentials, now: float) -> Principal | None:  # noqa: ARG002 - the same
        """Nobody."""
        return None

    async def verify(self, credentials: Credentials, now: float) -> Principal:  # noqa: ARG002 - the same
        """Nobody.

        Raises:
            NotAuthenticated: always. It is never asked, since nothing is presented to it.
        """
        raise NotAuthenticated(Reason.MISSING)

    def bind(self, surroundings: Surroundings) -> None:
        """Take the service's log, and learn whether this is production.

        Raises:
            SettingsError: it is, and no `url` is named, or no issuer.
        """
        self._production = surroundings.settings.production
        if self._production and self._in_development:
            raise SettingsError(
                "OidcLogin names no issuer, and its page for development lets anybody be anybody: name yours, such as"
                " OidcLogin('https://login.example.com', client_id='bank', ...)"
            )
        if self._production and not self._url:
            raise SettingsError(
                "OidcLogin has no url: name this service as browsers see it, such as url='https://bank.example', or"
                " the address that the issuer sends users back to would be what a request's Host header says"
            )
        self._report = Report(self._issuer.name, surroundings.log, surroundings.recorder)
        if self._in_development:
            # Not at the top: production loads neither the development issuer nor the embedded servers.
            from workhorse.identity.login.development import DevelopmentFlow  # noqa: PLC0415

            self._page = DevelopmentFlow(surroundings.settings, self._paths, self._options.scopes)
        else:
            self._flow = Flow(self._issuer, self._client, self._options, surroundings.log)

    async def open(self) -> None:
        """Fetch what the issuer publishes. One that is away is asked again with the first login.

        Raises:
            StartupError: what it publishes can never be used.
        """
        await self._ready_flow().open()

    async def close(self) -> None:
        """End the fetches that are under way."""
        await self._ready_flow().close()

    # The pages.

    async def _begin(self, scope: Scope, receive: Receive) -> Reply:  # noqa: ARG002 - it has no body
        try:
            if is_navigation(scope) is False:
                raise Stopped(Stop.REQUEST)  # an image or a frame of some page, with nobody to log in
            asked = read_query(scope)
            next_page = asked.get("next", self._after_login)
            prompt = asked.get("prompt", "")
            if not is_local_path(next_page) or prompt not in {"", "login", "select_account"}:
                raise Stopped(Stop.REQUEST)
            fresh = "login" in {prompt, self._options.prompt}
            attempt = begin(self._party(scope), next_page=next_page, fresh=fresh, now=time())
            address = await self._ready_flow().address(attempt, "select_account" if prompt == "select_account" else "")
        except FAILURES as error:
            return self._failed(error)
        cookie = give(attempt, plain=self._is_plain(scope), lifetime_seconds=self._attempt_seconds)
        return redirect(address, cookies=[*crowded_out(header(scope, b"cookie")), cookie])

    async def _callback(self, scope: Scope, receive: Receive) -> Reply:  # noqa: ARG002 - it has no body
        try:
            said = read_query(scope)
            attempt = find_attempt(
                header(scope, b"cookie"),
                said.get("state", ""),
                self._party(scope),
                plain_allowed=self._is_plain(scope),
                lifetime_seconds=self._attempt_seconds,
                now=time(),
            )
        except FAILURES as error:
            return self._failed(error)
        try:
            await self._log_in(attempt, said)
            reply = redirect(attempt.next)
        except FAILURES as error:
            reply = self._failed(error, said)
        # However it ended: the code is used up, and the login with it.
        gone = [(b"set-cookie", line) for line in forget(attempt.state, plain_allowed=self._is_plain(scope))]
        return replace(reply, headers=(*reply.headers, *gone))

    async def _log_in(self, attempt: Attempt, said: Mapping[str, str]) -> None:
        known = await self._ready_flow().finish(attempt, said, current_request())
        principal = known.principal
        grants = principal if self._admit is None else await self._admit(principal)
        if grants is None:
            raise Stopped(Stop.NOT_ADMITTED)
        try:
            await self._sessions.login(
                principal.id, scopes=grants.scopes, roles=grants.roles, tenant=grants.tenant, data=known.data
            )
        except ValueError:  # what the issuer said is too long to be kept
            raise Refused(Reason.CLAIMS) from None
        self._report.succeeded()

    async def _logout(self, scope: Scope, receive: Receive) -> Reply:  # noqa: ARG002 - its body says nothing
        try:
            await self._sessions.logout()
        except StoreUnavailable as error:
            return self._failed(error)
        try:
            address = await self._ready_flow().goodbye(f"{self._origin(scope)}{self._after_logout}")
        except FAILURES:
            address = ""  # the session has ended here, which is what was asked for
        return continue_at(address) if address else redirect(self._after_logout)

    async def _backchannel(self, scope: Scope, receive: Receive) -> Reply:
        try:
            form = await read_form(scope, receive)
            token = await self._ready_flow().ended(form.get("logout_token", ""))
            await self._end_sessions(token.subject, token.sid)
        except (Stopped, Refused) as error:
            self._report.failed(error)
            return plain_problem(400, instance=request_instance(), extensions={"error": "invalid_request"})
        except StoreUnavailable as error:
            return self._failed(error)
        return Reply(status=200, headers=((b"cache-control", b"no-store"),), body=b"")

    async def _development(self, scope: Scope, receive: Receive) -> Reply:
        if self._page is None:
            raise StartupError(f"OidcLogin has no settings: {UNLISTED}")
        answer = self._page.show if scope["method"] == "GET" else self._page.send_back
        try:
            return await answer(scope, receive)
        except Stopped as error:
            return self._failed(error)

    async def _end_sessions(self, subject: str, sid: str) -> None:
        """End the subject's sessions that began with the issuer's session `sid`, and those that do not say."""
        listed = await self._sessions.list(subject) if sid else ()
        if not sid or len(listed) >= LISTED:
            await self._sessions.revoke_all(subject)
            return
        for session in listed:
            login = session.data.get("login")
            if not isinstance(login, dict) or login.get("sid", sid) == sid:  # pyright: ignore[reportUnknownMemberType]
                await self._sessions.revoke(session.public_id, subject=subject)

    def _party(self, scope: Scope) -> Party:
        redirect_uri = f"{self._origin(scope)}{self._paths.callback}"
        return Party(issuer=self._issuer.name, client_id=self._client.client_id, redirect_uri=redirect_uri)

    def _origin(self, scope: Scope) -> str:
        """This service as the browser sees it."""
        if self._url:
            return self._url
        if self._production:
            raise StartupError(f"OidcLogin does not know its own address: {UNLISTED}, or name its url")
        prefixes = (page_prefix(scope, page.path) for page in self._pages)
        before = next((prefix for prefix in prefixes if prefix is not None), "")
        return f"{origin_of(scope, plain=self._is_plain(scope))}{before}"

    def _ready_flow(self) -> "Flow | DevelopmentFlow":
        flow = self._flow or self._page
        if flow is None:
            raise StartupError(f"OidcLogin has no settings: {UNLISTED}")
        return flow

    def _is_plain(self, scope: Scope) -> bool:
        """Whether this is development, and a browser on this very machine that does not use TLS."""
        return not self._production and is_plain_http(scope, current_request())

    def _failed(self, error: Exception, said: Mapping[str, str] | None = None) -> Reply:
        self._report.failed(error, (said or {}).get("error_description", ""))
        return render_problem(problem_of(error), instance=request_instance())
