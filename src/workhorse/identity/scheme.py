"""What a way to prove who calls must offer, and how several of them make one.

The guard asks in two steps. `recall` is asked of every request: it waits for nothing and costs about a microsecond,
because it only looks up what was proven before. `verify` is asked where that knew nothing: it may check a signature,
fetch an issuer's keys or read a store.

    principal = identity.recall(credentials, now)
    if principal is None:
        principal = await identity.verify(credentials, now)       # or NotAuthenticated

Credentials are the raw header values. A scheme reads its own and does not look at the others', so a request that
carries two kinds is refused: whom it is for could depend on who reads it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import msgspec

from workhorse.asgi import Reply, Scope  # noqa: TC001 - the guard is compiled against what this says
from workhorse.contracts import ApiKeyStore, CounterStore, Recorder, SessionStore
from workhorse.errors import PROBLEM_PREFIX, Problem, SettingsError, StoreUnavailable
from workhorse.identity.reason import Reason
from workhorse.principal import ANONYMOUS, Principal
from workhorse.settings import Settings
from workhorse.telemetry.log import Log

__all__ = [
    "Bindable",
    "Credentials",
    "Identity",
    "IssuerUnavailable",
    "NotAllowed",
    "NotAuthenticated",
    "Scheme",
    "Surroundings",
    "bearer_challenge",
]

WWW_AUTHENTICATE: Final = b"www-authenticate"
# RFC 6749, section 3.3: what a scope may be made of, which is also what may stand between quotes.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


class Credentials(msgspec.Struct, frozen=True, gc=False):  # one a request, and a struct is the cheapest to make
    """What of a request may prove who sent it: header values as they came, or None."""

    authorization: bytes | None = None
    cookie: bytes | None = None
    api_key: bytes | None = None
    """X-API-Key."""
    certificate: bytes | None = None
    """The header in which a proxy passed a client certificate on. Only ever that of a trusted proxy."""
    at_rest: bool = False
    """Whether nothing came with them: an open socket's sender is asked for again, which is no use of a session."""


class NotAuthenticated(Problem):
    """401: the request does not prove who sent it (RFC 9110, section 15.5.2; RFC 6750, section 3).

    Args:
        reason: why, for the log. It never reaches the client.
        challenges: values of WWW-Authenticate, one for each way to prove it.
    """

    status = 401
    type = PROBLEM_PREFIX + "not-authenticated"
    title = "The request does not prove who sent it"

    def __init__(self, reason: Reason = Reason.MISSING, *, challenges: Sequence[bytes] = ()) -> None:
        super().__init__(
            "Send it with valid credentials.",
            headers=[(WWW_AUTHENTICATE, challenge) for challenge in challenges if challenge],
        )
        self.reason = reason


class NotAllowed(Problem):
    """403: the caller is known, and may not do this (RFC 6750, section 3.1).

    Args:
        scopes: all that the request needs. They are told to the client, so that it can ask its issuer for them.
    """

    status = 403
    type = PROBLEM_PREFIX + "not-allowed"
    title = "The caller may not do this"

    def __init__(self, scopes: Iterable[str] = ()) -> None:
        challenge = bearer_challenge(error="insufficient_scope", scopes=scopes)
        super().__init__(headers=((WWW_AUTHENTICATE, challenge),))


class IssuerUnavailable(StoreUnavailable):
    """503: the issuer's keys cannot be had, so that nobody can tell whether the token is good. It may well be."""

    type = PROBLEM_PREFIX + "issuer-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a `Service` has for the schemes of its identity: those that want something of it have a method `bind`."""

    settings: Settings
    log: Log | None = None
    sessions: SessionStore | None = None
    api_keys: ApiKeyStore | None = None
    counters: CounterStore | None = None
    recorder: Recorder | None = None


class Bindable(Protocol):
    """What takes from a `Service` what it was not given in the code."""

    def bind(self, surroundings: Surroundings) -> None:
        """Take what is missing.

        Raises:
            SettingsError: it is not there either.
        """
        ...


class Scheme(Protocol):
    """One way to prove who calls. Every `now` is in seconds since 1970."""

    @property
    def challenge(self) -> bytes:
        """Its value of WWW-Authenticate; empty if it has none."""
        ...

    def presents(self, credentials: Credentials) -> bool:
        """Whether the request carries credentials for this scheme, good or bad. No I/O, and it never raises."""
        ...

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """Whom the credentials were found to prove before, if they still do. No I/O, and it never raises."""
        ...

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """Whom the credentials prove.

        Raises:
            NotAuthenticated: nobody.
            StoreUnavailable: what could tell does not answer.
        """
        ...

    async def open(self) -> None:
        """Get ready. May be left out: then the first `verify` does it.

        Raises:
            StartupError: it can never work as it is set up. Not raised for an outside part that is away just now.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. May be repeated."""
        ...


class Identity:
    """Several schemes as one: `Identity(Bearer(...), ApiKeys(...), Sessions(...))`.

    Each request proves its sender in one way: two kinds of credentials on one request are refused. Only a scheme that
    reads the connection rather than the request, and says so by an attribute `of_connection` that is true, gives way
    to any other: `MutualTls` does.

    Args:
        schemes: the ways.
        throttle: what slows down who guesses passwords (`LoginThrottle`), which takes its counters and keys from the
            service as the schemes do.

    Raises:
        SettingsError: there is no scheme.
    """

    def __init__(self, *schemes: Scheme, throttle: Bindable | None = None) -> None:
        if not schemes:
            raise SettingsError("Identity() has no way to prove who calls; give it one, such as Bearer(...)")
        self._schemes = tuple(scheme for scheme in schemes if not getattr(scheme, "of_connection", False))
        self._of_connection = tuple(scheme for scheme in schemes if scheme not in self._schemes)
        # The usual case: whom the only scheme recalls has presented nothing else.
        self._only = self._schemes[0] if len(schemes) == len(self._schemes) == 1 else None
        self._throttle = throttle
        self._challenges: Final = tuple(scheme.challenge for scheme in schemes)
        hooks = [getattr(scheme, "login_redirect", None) for scheme in schemes]
        self.login_redirect: Final[Callable[[Scope], Reply | None] | None] = next(filter(None, hooks), None)
        """What leads a person's browser to the login, in place of a 401: of the first scheme that has one."""

    def __repr__(self) -> str:
        return f"<Identity by {', '.join(type(scheme).__name__ for scheme in (*self._schemes, *self._of_connection))}>"

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """The ways to prove who calls, those of the request first."""
        return (*self._schemes, *self._of_connection)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """Who calls, if that can be told without waiting: ANONYMOUS where there are no credentials at all.

        None: ask `verify`, which may also refuse.
        """
        if self._only is not None:
            principal = self._only.recall(credentials, now)
            if principal is not None:
                return principal
        chosen: Scheme | None = None
        for scheme in self._schemes:
            if scheme.presents(credentials):
                if chosen is not None:
                    return None
                chosen = scheme
        if chosen is not None:
            return chosen.recall(credentials, now)
        if credentials.authorization is not None:
            return None
        for scheme in self._of_connection:
            if scheme.presents(credentials):
                return scheme.recall(credentials, now)
        return ANONYMOUS

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """Who calls; ANONYMOUS where there are no credentials at all.

        Raises:
            NotAuthenticated: the credentials are bad, of more than one kind, or of a kind that is not taken.
            StoreUnavailable: what could tell does not answer; `IssuerUnavailable` is one of these.
        """
        chosen = [scheme for scheme in self._schemes if scheme.presents(credentials)]
        if not chosen and credentials.authorization is not None:
            raise NotAuthenticated(Reason.SCHEME, challenges=self._challenges)
        # A client's certificate may come with all that it sends, so it says who calls only where nothing else does.
        chosen = chosen or [scheme for scheme in self._of_connection if scheme.presents(credentials)]
        if len(chosen) > 1:
            raise NotAuthenticated(Reason.AMBIGUOUS, challenges=self._challenges)
        return await chosen[0].verify(credentials, now) if chosen else ANONYMOUS

    def challenge(self) -> NotAuthenticated:
        """What an anonymous caller is told where it must be known. It names every scheme, and no error."""
        return NotAuthenticated(Reason.MISSING, challenges=self._challenges)

    def bind(self, surroundings: Surroundings) -> None:
        """Give every scheme that wants it what the service has.

        Raises:
            SettingsError: what a scheme needs is not there.
        """
        for scheme in (*self._schemes, *self._of_connection, self._throttle):
            bind = getattr(scheme, "bind", None)
            if bind is not None:
                bind(surroundings)

    async def open(self) -> None:
        """Open every scheme, or none.

        Raises:
            StartupError: one of them can never work as it is set up.
        """
        try:
            for scheme in (*self._schemes, *self._of_connection):
                await scheme.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close every scheme, also where one of them fails to."""
        failures: list[Exception] = []
        for scheme in (*self._of_connection, *reversed(self._schemes)):
            try:
                await scheme.close()
            except Exception as error:  # noqa: BLE001 - the others must be closed all the same
                failures.append(error)
        if failures:
            raise ExceptionGroup("these could not be closed", failures)

    async def __aenter__(self) -> Self:
        """Open every scheme, as `open` does."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every scheme."""
        await self.close()


def bearer_challenge(*, realm: str = "", error: str = "", scopes: Iterable[str] = ()) -> bytes:
    """The value of WWW-Authenticate for bearer tokens (RFC 6750, section 3).

    Args:
        realm: what is protected, in words of the operator's.
        error: `invalid_token` or `insufficient_scope`; empty where no token was presented.
        scopes: what is needed. One that cannot stand in the header is left out.
    """
    named = " ".join(sorted(scope for scope in scopes if _SCOPE.fullmatch(scope)))
    parameters = [("realm", realm), ("error", error), ("scope", named)]
    return b"Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters if value).encode("ascii")
