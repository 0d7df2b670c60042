"""What a browser is told where a login fails, and the words that only the log gets.

Whoever reads the reply may be the one who tried to inject a code. So it names one of few kinds of failure, and never
which check said no; that word goes to the log. The issuer's own error code is told, because it is a word of a fixed
list (RFC 6749, section 4.1.2.1) that the user may have to act on; its `error_description` is not, because anybody can
write a link that carries one.
"""

from enum import StrEnum
from typing import Final

from workhorse.errors import PROBLEM_PREFIX, Problem
from workhorse.identity.discovery import IssuerAway
from workhorse.identity.scheme import IssuerUnavailable

__all__ = ["LoginFailed", "LoginNotAllowed", "Stop", "Stopped", "problem_of"]


# RFC 6749, section 4.1.2.1: what may mend itself.
PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})
REFUSALS: Final = frozenset({"access_denied", "consent_required"})


class Stop(StrEnum):
    """What ended a login, where no check of the token did."""

    REQUEST = "request"
    """The address cannot be read, or asks for what is not offered."""
    STATE = "state"
    """The browser did not begin this login, or too long ago, or it was ended already."""
    ISSUER_PARAMETER = "issuer_parameter"
    """The reply says that it is another issuer's, or does not say whose (RFC 9207): a mix-up."""
    ISSUER_ERROR = "issuer_error"
    """The issuer says that it failed."""
    CODE = "code"
    """The issuer takes the code for no good: used already, too old, or somebody else's."""
    NONCE = "nonce"
    """The ID token is of another login."""
    PARTY = "party"
    """The ID token was made for another client, or for others beside this one."""
    ACCESS_TOKEN = "access_token"  # noqa: S105 - a word, not a secret
    """The access token beside the ID token is not the one that belongs to it (`at_hash`)."""
    STRENGTH = "strength"
    """The user did not log in as recently, or not in the way, that was asked for."""
    EVENT = "event"
    """A logout token without its event, or with what only ID tokens have."""

    NOT_ADMITTED = "not_admitted"
    """The issuer knows the user, and this service does not let them in."""


class Stopped(Exception):  # not a WorkhorseError: the endpoint turns it into what the browser is told
    """A login ends here, decided deep inside a pure function.

    Args:
        stop: why, for the log.
        error: the issuer's error code, which the browser is told; empty if there is none.
    """

    def __init__(self, stop: Stop, *, error: str = "") -> None:
        super().__init__(stop.value)
        self.stop = stop
        self.error = error


class LoginFailed(Problem):
    """400: the login did not succeed. Nobody was logged in, and nobody was logged out.

    Args:
        error: the issuer's error code, if it gave one.
    """

    status = 400
    type = PROBLEM_PREFIX + "login-failed"
    title = "The login did not succeed"

    def __init__(self, *, error: str = "") -> None:
        super().__init__("Begin it again.", extensions={"error": error} if error else None)


class LoginNotAllowed(Problem):
    """403: the issuer knows the user, and this service lets nobody of that name in; or the user did not consent.

    Args:
        error: the issuer's error code, if it gave one.
    """

    status = 403
    type = PROBLEM_PREFIX + "login-not-allowed"
    title = "This user may not log in here"

    def __init__(self, *, error: str = "") -> None:
        super().__init__(extensions={"error": error} if error else None)


def problem_of(error: Exception) -> Problem:
    """What the browser is told of what ended its login."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, IssuerAway):
        return IssuerUnavailable()
    said = error.error if isinstance(error, Stopped) else ""
    if said in PASSING:
        return IssuerUnavailable()
    if said in REFUSALS or (isinstance(error, Stopped) and error.stop is Stop.NOT_ADMITTED):
        return LoginNotAllowed(error=said)
    return LoginFailed(error=said)
