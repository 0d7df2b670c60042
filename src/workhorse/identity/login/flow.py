"""What is said between this service and one issuer during a login, without cookies, sessions or pages.

address   →  where the browser is sent to log in
finish    →  from the issuer's reply to whom the user is
ended     →  whose sessions a logout token of the issuer's ends
goodbye   →  where the browser is sent to log out there as well
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from workhorse.context import RequestContext
from workhorse.errors import SettingsError, StartupError
from workhorse.identity.claims import Rules
from workhorse.identity.discovery import IssuerAway
from workhorse.identity.issuer import GivenKeys, Issuer, KeySource
from workhorse.identity.login.attempt import Attempt
from workhorse.identity.login.exchange import Client, exchange
from workhorse.identity.login.pages import with_query
from workhorse.identity.login.paths import is_local_path
from workhorse.identity.login.problems import Stop, Stopped
from workhorse.identity.login.provider import Provider, ProviderMetadata
from workhorse.identity.login.tokens import Asked, LogoutToken, Verifier
from workhorse.identity.login.wire import Wire
from workhorse.identity.refresh import FetchedKeys
from workhorse.principal import Principal
from workhorse.telemetry.log import Log

__all__ = ["Admit", "Flow", "FlowOptions", "Known", "Prompt", "check_options"]

MAX_CODE: Final = 4096
MAX_TEXT: Final = 255
MAX_CLOCK_SKEW: Final = 300
MAX_AGE_SECONDS: Final = 400 * 86_400
# RFC 6749, section 3.3.
_WORD: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,200}")

Prompt: TypeAlias = Literal["", "login", "select_account", "consent"]
"""What the issuer asks the user, though it knows them already (OpenID Connect Core, section 3.1.2.1)."""
Admit: TypeAlias = Callable[[Principal], Awaitable[Principal | None]]

# RFC 6749, section 4.1.2.1, and OpenID Connect Core, section 3.1.2.6, as far as such codes look.
_ERROR: Final = re.compile(r"[a-z][a-z_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """What a login asks for."""

    scopes: tuple[str, ...]
    prompt: Prompt
    asked: Asked
    clock_skew_seconds: float
    keep_claims: frozenset[str]


class Known(NamedTuple):
    """Who has logged in."""

    principal: Principal
    data: Mapping[str, Any]
    """What the session keeps of the login."""


class Flow:
    """Talks to one issuer.

    Args:
        issuer: where users log in.
        client: this service, as the issuer knows it.
        options: what a login asks for.
        log: where the issuer's troubles are told.

    Raises:
        SettingsError: the issuer's name is no URL that can be trusted, or its keys are no keys.
    """

    def __init__(self, issuer: Issuer, client: Client, options: FlowOptions, log: Log | None) -> None:
        self._issuer = issuer
        self._client = client
        self._options = options
        self._provider = Provider(issuer.name, timeout_seconds=issuer.timeout_seconds, log=log)
        self._keys: KeySource = (
            GivenKeys(issuer.name, issuer.keys) if issuer.keys is not None else FetchedKeys(issuer, log)
        )
        rules = Rules(
            issuer=issuer.name,
            audiences=frozenset({client.client_id}),
            clock_skew=options.clock_skew_seconds,
            max_lifetime=issuer.max_lifetime_seconds,
        )
        self._verifier = Verifier(rules, issuer.claims, self._keys)
        self._wire = Wire()

    async def open(self) -> None:
        """Fetch what the issuer publishes. One that is away is asked again with the first login.

        Raises:
            StartupError: what it publishes can never be used.
        """
        await self._keys.open()
        await self._provider.refresh()
        if self._provider.wrong:
            raise StartupError(f"nobody can log in at {self._issuer.name}: {self._provider.wrong}")

    async def close(self) -> None:
        """End the fetches that are under way."""
        await self._keys.close()
        await self._provider.close()

    async def address(self, attempt: Attempt, prompt: Prompt) -> str:
        """Where the browser is sent to log in (OpenID Connect Core, section 3.1.2.1; RFC 7636, section 4.3).

        Raises:
            IssuerUnavailable: it is not known where that is.
        """
        metadata = await self._provider.metadata()
        options, asked = self._options, self._options.asked
        parameters = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": attempt.party.redirect_uri,
            "scope": " ".join(options.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        if attempt.fresh:
            # `max_age` beside it, because only that makes the issuer say when the user logged in.
            parameters |= {"prompt": "login", "max_age": "0"}
        else:
            if prompt or options.prompt:
                parameters["prompt"] = prompt or options.prompt
            if asked.max_age_seconds is not None:
                parameters["max_age"] = str(int(asked.max_age_seconds))
        if asked.acr_values:
            parameters["acr_values"] = " ".join(asked.acr_values)
        return with_query(metadata.authorization_endpoint, parameters)

    async def finish(self, attempt: Attempt, said: Mapping[str, str], request: RequestContext) -> Known:
        """Who the user is, by the issuer's reply.

        Args:
            attempt: the login that the reply is to, found by its state.
            said: the reply's parameters.
            request: whose deadline holds.

        Raises:
            Stopped: the reply is not good, or says that the login failed.
            Refused: the ID token is not good.
            IssuerAway: the token endpoint is of no use just now.
            IssuerUnavailable: the same of its metadata or keys.
        """
        metadata = await self._provider.metadata()
        self._check_issuer(metadata, said)
        if "error" in said:
            raise Stopped(Stop.ISSUER_ERROR, error=said["error"] if _ERROR.fullmatch(said["error"]) else "unknown")
        code = said.get("code", "")
        if not 0 < len(code) <= MAX_CODE:
            raise Stopped(Stop.REQUEST)
        seconds = request.remaining_seconds(self._issuer.timeout_seconds)
        try:
            async with asyncio.timeout(seconds):
                tokens = await exchange(self._wire, self._client, metadata, attempt, code)
        except TimeoutError:
            raise IssuerAway(f"{metadata.token_endpoint} did not answer within {seconds:.1f} s") from None
        principal, claims = await self._verifier.id_token(
            tokens.id_token, attempt, access_token=tokens.access_token, asked=self._options.asked, now=time()
        )
        return Known(principal, self._kept(claims))

    async def ended(self, logout_token: str) -> LogoutToken:
        """Whose sessions a logout token ends.

        Raises:
            Stopped: it is none.
            Refused: it is not good.
            IssuerUnavailable: the issuer's keys cannot be had.
        """
        return await self._verifier.logout_token(logout_token, now=time())

    async def goodbye(self, return_to: str) -> str:
        """Where the browser is sent to log out at the issuer; empty if that offers no such page, or is away.

        Standard: OpenID Connect RP-Initiated Logout 1.0, section 2. There is no `id_token_hint`, because it would put a
        token with personal data into an address; the issuer may ask the user instead.
        """
        metadata = await self._provider.metadata()
        if metadata.end_session_endpoint is None:
            return ""
        parameters = {"client_id": self._client.client_id, "post_logout_redirect_uri": return_to}
        return with_query(metadata.end_session_endpoint, parameters)

    def _check_issuer(self, metadata: ProviderMetadata, said: Mapping[str, str]) -> None:
        """Refuse the reply of another issuer.

        Threat: mix-up: a login that was begun here is ended by an issuer that the attacker runs, which then gets the
            code of the honest one (RFC 9700, section 4.4).
        Method: `iss` must be this very issuer; it must be there if the issuer says that it sends it.
        Standard: RFC 9207, section 2.4; OWASP ASVS 5.0.0 V10.2.2.
        """
        named = said.get("iss")
        if named is None:
            if metadata.authorization_response_iss_parameter_supported:
                raise Stopped(Stop.ISSUER_PARAMETER)
        elif named != self._issuer.name:
            raise Stopped(Stop.ISSUER_PARAMETER)

    def _kept(self, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the session keeps: what names and qualifies the login, and the claims that the code names."""
        login: dict[str, Any] = {"iss": self._issuer.name}
        for name in ("sid", "acr"):
            if isinstance(claims.get(name), str) and len(claims[name]) <= MAX_TEXT:
                login[name] = claims[name]
        if isinstance(claims.get("auth_time"), int | float):
            login["auth_time"] = claims["auth_time"]
        kept = {name: claims[name] for name in sorted(self._options.keep_claims) if name in claims}
        return {**kept, "login": login}


def check_options(options: FlowOptions, *, after_login: str, after_logout: str, attempt_seconds: int) -> None:
    """Refuse options that make no sense.

    Raises:
        SettingsError: one does not; the message says which.
    """
    for name, page in (("after_login", after_login), ("after_logout", after_logout)):
        if not is_local_path(page):
            raise SettingsError(f"{name} is {page!r}; it is a path of this service, such as '/accounts'")
    words = [*options.scopes, *options.asked.acr_values]
    if any(not _WORD.fullmatch(word) for word in words):
        raise SettingsError(f"the scopes and acr_values are {words}; each is one word")
    if options.prompt not in {"", "login", "select_account", "consent"}:
        raise SettingsError(f"prompt is {options.prompt!r}; it is login, select_account or consent")
    age = options.asked.max_age_seconds
    if age is not None and not 0 <= age <= MAX_AGE_SECONDS:
        raise SettingsError(f"max_age_seconds is {age}; it is 0 to {MAX_AGE_SECONDS}")
    if not 60 <= attempt_seconds <= 3600:
        raise SettingsError(f"attempt_seconds is {attempt_seconds}; it is 60 to 3600: people have to find a password")
    if not 0 <= options.clock_skew_seconds <= MAX_CLOCK_SKEW:
        raise SettingsError(
            f"clock_skew_seconds is {options.clock_skew_seconds:g}; it must be 0 to {MAX_CLOCK_SKEW}: for so long an"
            " expired token is good"
        )
    if "login" in options.keep_claims:
        raise SettingsError("keep_claims has 'login', which is where the session keeps what it knows of the login")
