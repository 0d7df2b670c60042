"""Whether an ID token ends this very login, and whether a logout token is one. Pure, but for finding the key.

The text, the algorithm, the claims and the signature are read and checked by the same code as the tokens of `Bearer`:
one stack for JWTs, one list of algorithms, one cache of keys. What is here is what OpenID Connect asks beyond that. The
signature is always checked, though the token came over TLS from the issuer itself (OpenID Connect Core, section
3.1.3.7, lets a client rely on that), because a proxy that ends TLS stands in many companies' way out.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256, sha384, sha512
from typing import Any, Final, cast

from workhorse.identity.claims import ClaimNames, Rules, check_claims, principal_of
from workhorse.identity.issuer import KeySource
from workhorse.identity.jws import Token, b64url_encode, read_token
from workhorse.identity.keys import ALGORITHMS
from workhorse.identity.login.attempt import Attempt
from workhorse.identity.login.problems import Stop, Stopped
from workhorse.identity.reason import Reason, Refused
from workhorse.principal import Principal

__all__ = ["Asked", "LogoutToken", "Verifier", "half_hash"]

MAX_TOKEN_BYTES: Final = 32 * 1024
MAX_SID: Final = 255
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

PLAIN_TYPES: Final = frozenset({None, "jwt", "application/jwt"})
LOGOUT_TYPES: Final = PLAIN_TYPES | {"logout+jwt", "application/logout+jwt"}
# What Keycloak (`typ`) and Cognito (`token_use`) say in tokens that are no ID tokens.
OTHER_TYPES: Final = frozenset({"bearer", "access", "refresh", "offline", "logout"})
# The digest is that of the algorithm's own signature; of Ed25519, SHA-512 is a part.
_DIGESTS: Final = {"256": sha256, "384": sha384, "512": sha512}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How strongly the user was asked to log in."""

    max_age_seconds: float | None = None
    acr_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutToken:
    """Whose sessions end."""

    subject: str
    """A principal's id."""
    sid: str
    """The issuer's name of one session of the subject; empty: all of them."""


class Verifier:
    """Checks the tokens of one issuer that are for this client.

    Args:
        rules: what is asked of every token; the client is its only audience.
        names: where the issuer puts what a principal is made of.
        keys: the issuer's.
    """

    def __init__(self, rules: Rules, names: ClaimNames, keys: KeySource) -> None:
        self._rules = rules
        self._names = names
        self._keys = keys
        (self._client_id,) = rules.audiences

    async def id_token(
        self, text: str, attempt: Attempt, *, access_token: str, asked: Asked, now: float
    ) -> tuple[Principal, Mapping[str, Any]]:
        """Whom the ID token says that the browser's user is, and its claims.

        Threat: a token of another login, client, issuer or time, or one that anybody made.
        Method: OpenID Connect Core, section 3.1.3.7, all of it, and at_hash (3.1.3.6). Stricter than that: no other
            audience beside this client, and nothing issued before the login began.
        Assumes: the attempt is this browser's.
        Standard: OpenID Connect Core 1.0; RFC 8725; OWASP ASVS 5.0.0 V10.5.

        Raises:
            Refused: the token is not good.
            Stopped: nonce, party, access_token or strength.
            IssuerUnavailable: the issuer's keys cannot be had.
        """
        token = _read(text)
        claims, skew = token.claims, self._rules.clock_skew
        kind = token.header.typ.lower() if token.header.typ is not None else None
        words = {word.lower() for word in (claims.get("typ"), claims.get("token_use")) if isinstance(word, str)}
        if kind not in PLAIN_TYPES or not words.isdisjoint(OTHER_TYPES) or "events" in claims:
            raise Refused(Reason.TYPE)
        end = self._check(token, now)
        if claims.get("azp", self._client_id) != self._client_id:
            raise Stopped(Stop.PARTY)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
            raise Stopped(Stop.NONCE)
        if _seconds(claims, "iat") < attempt.started - skew:
            raise Refused(Reason.EXPIRED)
        _check_strength(claims, asked, attempt, skew=skew, now=now)
        await self._verify(token, now)
        at_hash = claims.get("at_hash")
        if at_hash is not None and at_hash != half_hash(token.header.alg, access_token):
            raise Stopped(Stop.ACCESS_TOKEN)
        return principal_of(self._rules, self._names, claims, end), claims

    async def logout_token(self, text: str, *, now: float) -> LogoutToken:
        """Whose sessions a logout token ends.

        It is not noted which tokens were seen: to end again what has ended changes nothing.

        Standard: OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6.

        Raises:
            Refused: the token is not good.
            Stopped: event, or party.
            IssuerUnavailable: the issuer's keys cannot be had.
        """
        token = _read(text)
        claims = token.claims
        kind = token.header.typ.lower() if token.header.typ is not None else None
        if kind not in LOGOUT_TYPES:
            raise Refused(Reason.TYPE)
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict) or "nonce" in claims:  # pyright: ignore[reportUnknownMemberType]
            raise Stopped(Stop.EVENT)
        end = self._check(token, now)
        _seconds(claims, "iat")
        sid = claims.get("sid", "")
        if not isinstance(sid, str) or len(sid) > MAX_SID or not isinstance(claims.get("jti"), str):
            raise Refused(Reason.CLAIMS)
        await self._verify(token, now)
        return LogoutToken(subject=principal_of(self._rules, self._names, claims, end).id, sid=sid)

    def _check(self, token: Token, now: float) -> float:
        """The checks of every token, before its signature. Returns when it ends."""
        claims = token.claims
        if token.header.alg not in ALGORITHMS:
            raise Refused(Reason.ALGORITHM)
        if claims.get("iss") != self._rules.issuer:
            raise Refused(Reason.ISSUER)
        end = check_claims(self._rules, claims, now)
        audience = claims.get("aud")
        if audience not in (self._client_id, [self._client_id]):
            raise Stopped(Stop.PARTY)
        return end

    async def _verify(self, token: Token, now: float) -> None:
        key = await self._keys.find(token.header.kid, now)
        key.verify(token.header.alg, token.signed, token.signature)


def half_hash(algorithm: str, text: str) -> str:
    """The left half of a digest, as at_hash has it (OpenID Connect Core, section 3.1.3.6)."""
    digest = _DIGESTS.get(algorithm[-3:], sha512)(text.encode()).digest()
    return b64url_encode(digest[: len(digest) // 2]).decode()


def _read(text: str) -> Token:
    try:
        return read_token(b"Bearer " + text.encode("ascii"), max_bytes=MAX_TOKEN_BYTES)
    except UnicodeEncodeError:
        raise Refused(Reason.MALFORMED) from None


def _check_strength(claims: Mapping[str, Any], asked: Asked, attempt: Attempt, *, skew: float, now: float) -> None:
    """Refuse a login that was not as recent, or not of the kind, that was asked for (ASVS 5.0.0 V6.8.4, V10.3.4)."""
    oldest = 0.0
    if asked.max_age_seconds is not None:
        oldest = now - asked.max_age_seconds
    if attempt.fresh:
        oldest = max(oldest, float(attempt.started))
    if oldest:
        authenticated = claims.get("auth_time")
        if not _is_number(authenticated) or cast("float", authenticated) < oldest - skew:
            raise Stopped(Stop.STRENGTH)
    acr: Sequence[str] = asked.acr_values
    if acr and claims.get("acr") not in acr:
        raise Stopped(Stop.STRENGTH)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if not _is_number(value):
        raise Refused(Reason.CLAIMS)
    return float(cast("float", value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
