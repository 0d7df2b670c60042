"""One login that is under way, kept by the browser that began it and by nobody else.

    cookie       __Host-login-<begin of state> = version . started . kind . secret . next
    state        HMAC-SHA-256(secret, "state",    everything that the login is for)
    nonce        HMAC-SHA-256(secret, "nonce",    the same)
    verifier     HMAC-SHA-256(secret, "verifier", the same)

The secret is 256 random bits. What leaves for the issuer is made from it and cannot be turned back, so a state or a
nonce that leaks from an address opens nothing: who has not the cookie cannot answer it, and who writes a cookie of his
own cannot reach the nonce of somebody else's login (OpenID Connect Core, section 15.5.2; RFC 9700, section 4.5.3).
That is what a signature would be for, and it needs no key that processes share and no record on the server. Since all
that the cookie says goes into the three values, a cookie that was changed answers none of them; so does one of another
issuer, client or callback (RFC 9700, section 4.4).

Each login has a cookie of its own, so that several tabs do not get into each other's way. There are at most a few; the
oldest goes first. The cookie is `Lax`, because the issuer sends the browser back with a link from another site.
"""

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_bytes
from typing import Final

import msgspec

from workhorse.identity.cookies import cookie_values
from workhorse.identity.jws import b64url_decode, b64url_encode
from workhorse.identity.login.paths import is_local_path
from workhorse.identity.login.problems import Stop, Stopped

__all__ = ["Attempt", "Party", "begin", "crowded_out", "find_attempt", "forget", "give", "s256"]

MAX_ATTEMPTS: Final = 5
"""Logins that a browser may have under way: each is a cookie of every request."""
MAX_FORGOTTEN: Final = 20
"""Cookies that one reply takes away."""
CLOCK_SECONDS: Final = 60
"""How much the clocks of two processes may differ: the one that began a login, and the one that ends it."""

PREFIX: Final = "__Host-"
NAME: Final = "login-"
NAME_CHARACTERS: Final = 16
SECRET_BYTES: Final = 32

_STATE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VALUE: Final = re.compile(rb"1\.([0-9]{1,12})\.([nf])\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{1,700})")
_OURS: Final = re.compile(rb"(?:__Host-)?login-[A-Za-z0-9_-]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Between whom a login is: what has to be the same at its end as at its begin."""

    issuer: str
    client_id: str
    redirect_uri: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Attempt:
    """A login under way. It has no `repr`, because it holds secrets."""

    party: Party
    secret: bytes
    started: int
    """In seconds since 1970."""
    fresh: bool
    """Whether the user has to log in anew, though the issuer still knows them."""
    next: str
    """The local path to go to afterwards."""

    @property
    def state(self) -> str:
        """Comes back with the issuer's reply."""
        return self._derive("state")

    @property
    def nonce(self) -> str:
        """Comes back within the ID token."""
        return self._derive("nonce")

    @property
    def verifier(self) -> str:
        """Goes to the token endpoint (RFC 7636, section 4.1)."""
        return self._derive("verifier")

    @property
    def challenge(self) -> str:
        """Goes to the issuer by way of the browser."""
        return s256(self.verifier)

    def _derive(self, purpose: str) -> str:
        # As JSON, no two lists are the same bytes.
        party = self.party
        said = [purpose, party.issuer, party.client_id, party.redirect_uri, self.started, self.fresh, self.next]
        return b64url_encode(hmac.digest(self.secret, msgspec.json.encode(said), "sha256")).decode()


def begin(party: Party, *, next_page: str, fresh: bool, now: float) -> Attempt:
    """Begin a login, at `now` seconds since 1970, that ends at the local path `next_page`."""
    return Attempt(party=party, secret=token_bytes(SECRET_BYTES), started=int(now), fresh=fresh, next=next_page)


def find_attempt(
    cookies: bytes | None, state: str, party: Party, *, plain_allowed: bool, lifetime_seconds: float, now: float
) -> Attempt:
    """The login that `state` belongs to, if this very browser began it.

    Threat: a reply of the issuer that somebody else's login got, and that a browser is sent to with: the user would be
        logged in as the attacker, or the attacker's code exchanged for the user (CWE-352; RFC 9700, section 4.7).
    Method: the cookie named for the state must be there once, and its secret must lead to this very state.
    Assumes: the party is this service's own, not what the request says.

    Raises:
        Stopped: state.
    """
    if _STATE.fullmatch(state) is None:
        raise Stopped(Stop.STATE)
    names = (cookie_name(state, plain=plain) for plain in ((False, True) if plain_allowed else (False,)))
    values = [value for name in names for value in cookie_values(cookies or b"", name.encode())]
    if len(values) != 1:
        raise Stopped(Stop.STATE)
    attempt = _read(values[0], party)
    if attempt is None or not hmac.compare_digest(attempt.state, state):
        raise Stopped(Stop.STATE)
    if not -CLOCK_SECONDS <= now - attempt.started < lifetime_seconds:
        raise Stopped(Stop.STATE)
    return attempt


def give(attempt: Attempt, *, plain: bool, lifetime_seconds: int) -> bytes:
    """The value of Set-Cookie that leaves the login with the browser.

    Args:
        attempt: the login.
        plain: without the prefix and `Secure`, for a browser on this very machine that does not use TLS.
        lifetime_seconds: how long the browser keeps it.
    """
    parts = (
        b"1.%d" % attempt.started,
        b"f" if attempt.fresh else b"n",
        b64url_encode(attempt.secret),
        b64url_encode(attempt.next.encode("ascii")),
    )
    value = b".".join(parts).decode()
    return _line(cookie_name(attempt.state, plain=plain), value, lifetime_seconds)


def forget(state: str, *, plain_allowed: bool) -> list[bytes]:
    """The values of Set-Cookie that take the login away from the browser."""
    return [_line(cookie_name(state, plain=plain), "", 0) for plain in ((False, True) if plain_allowed else (False,))]


def crowded_out(cookies: bytes | None) -> list[bytes]:
    """The values of Set-Cookie that take the oldest logins away, so that there is room for one more."""
    found: list[tuple[int, bytes]] = []
    for pair in (cookies or b"").split(b";"):
        name, _, value = pair.strip(b" \t").partition(b"=")
        if _OURS.fullmatch(name):
            match = _VALUE.fullmatch(value)
            found.append((int(match[1]) if match else 0, name))
    found.sort(reverse=True)
    return [_line(name.decode(), "", 0) for _, name in found[MAX_ATTEMPTS - 1 :][:MAX_FORGOTTEN]]


def s256(verifier: str) -> str:
    """The challenge that only the verifier answers (RFC 7636, section 4.2)."""
    return b64url_encode(sha256(verifier.encode()).digest()).decode()


def cookie_name(state: str, *, plain: bool) -> str:
    """What the cookie of a login is named."""
    return f"{'' if plain else PREFIX}{NAME}{state[:NAME_CHARACTERS]}"


def _line(name: str, value: str, max_age_seconds: int) -> bytes:
    secure = "; Secure" if name.startswith(PREFIX) else ""
    return f"{name}={value}; Max-Age={max_age_seconds}; Path=/{secure}; HttpOnly; SameSite=Lax".encode("ascii")


def _read(value: bytes, party: Party) -> Attempt | None:
    match = _VALUE.fullmatch(value)
    if match is None:
        return None
    try:
        secret, next_page = b64url_decode(match[3]), b64url_decode(match[4]).decode("ascii")
    except ValueError:
        return None
    # Looked at again, whoever has written it.
    if len(secret) != SECRET_BYTES or not is_local_path(next_page):
        return None
    return Attempt(party=party, secret=secret, started=int(match[1]), fresh=match[2] == b"f", next=next_page)
