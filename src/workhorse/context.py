"""What every room may know of the request that is being served: who calls, how long there is, which one it is.

The guard makes one of these for each request and puts it where `current_request` finds it: in the app's handlers, in
the threads that frameworks run sync handlers in, and in tasks that a handler starts. The guard's own object for a
request derives from it, so that a request costs one object.
"""

from contextvars import ContextVar
from secrets import token_urlsafe
from time import monotonic
from typing import Final, Protocol

from workhorse.errors import NoRequest
from workhorse.principal import ANONYMOUS, Principal

__all__ = ["CURRENT", "PageTokens", "RequestContext", "current_request"]


class PageTokens(Protocol):
    """Makes the CSRF tokens of one request's pages: the guard's, which alone has the keys."""

    def token(self, request: "RequestContext") -> str:
        """A token for this caller."""
        ...


class RequestContext:
    """One request, as far as others than the guard need it."""

    __slots__ = (
        "_nonce",
        "audit_outcome",
        "client",
        "deadline",
        "login_cookies",
        "page_tokens",
        "principal",
        "request_id",
        "set_cookies",
        "settling",
        "trace_id",
    )

    def __init__(self) -> None:
        self.audit_outcome = ""
        """What the unit has made of an audited request: `committed` with its record in it, `repeated` from a reply that
        was kept, `unknown` where a commit was not answered; empty: nothing that stands."""
        self.client = ""
        """The sender's network address, as far as the proxies in front are trusted."""
        self.deadline = 0.0
        """When the reply must have begun, on the clock of `time.monotonic`; 0: there is no such time."""
        self.principal: Principal = ANONYMOUS
        self.request_id = b""
        self.set_cookies: list[bytes] = []
        """Values of Set-Cookie that the guard adds to the reply. Add to it before the reply begins."""
        self.login_cookies: list[bytes] = []
        """The same, of what makes the client somebody: only a reply below 400 carries them, since a login within a
        request that fails is none."""
        self.trace_id = b""
        self.settling = False
        """Whether the request is past the point where it may be ended: its transaction commits."""
        self.page_tokens: PageTokens | None = None
        """What makes `csrf_token`; None where no key is set for it."""
        self._nonce = ""

    def csrf_token(self) -> str:
        """The token that a form of this reply's page carries in its field `csrf_token`, or a script in X-CSRF-Token.

        It is for browsers that tell nothing of where a request comes from (see docs/checks.md), and holds for the
        credential that this request came with: after a login or logout, pages need a new one. It may set a cookie, so
        ask before the reply begins. Empty where `guard.csrf_token_keys` are not set, and nothing asks for it.
        """
        return "" if self.page_tokens is None else self.page_tokens.token(self)

    @property
    def nonce(self) -> str:
        """The nonce of this reply's Content-Security-Policy, for the scripts and styles of its page.

        It is made when it is first asked for, and a reply whose page did not ask allows no inline script at all. Ask
        before the reply begins.
        """
        if not self._nonce:
            self._nonce = token_urlsafe(16)
        return self._nonce

    def remaining_seconds(self, most: float) -> float:
        """What is left of the deadline, but at most `most`: the time-out to give to whatever the request calls.

        Never negative: 0 means that there is no time left.
        """
        if not self.deadline:
            return most
        return min(most, max(0.0, self.deadline - monotonic()))


CURRENT: Final[ContextVar[RequestContext]] = ContextVar("workhorse_request")


def current_request() -> RequestContext:
    """The request that is being served.

    Raises:
        NoRequest: none is, or no guard stands around the app.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise NoRequest from None
