"""Whether the claims of a token let it in here and now, and whom it then stands for. Pure.

The checks are those of RFC 9068 (section 4) as far as issuers keep to it, and of RFC 8725 where they do not. An ID
token is a statement to a client about a login; taken for an access token, it would let every client that a user ever
logged into act for that user (RFC 8725, section 2.8). It is known by its type, or by the claims that only it has.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from workhorse.identity.jws import Header
from workhorse.identity.reason import Reason, Refused
from workhorse.principal import Kind, Principal

__all__ = ["ClaimNames", "Lookup", "Rules", "binding_of", "check_claims", "check_header", "principal_of"]

ACCESS_TOKEN_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
PLAIN_TYPES: Final = frozenset({None, "jwt", "application/jwt"})
# What Keycloak (`typ`) and Cognito (`token_use`) say in the claims. `typ` may also be a claim of somebody's own.
OTHER_TYPES: Final = frozenset({"id", "refresh", "offline", "logout"})
# OpenID Connect Core, sections 2 and 3.3.2.11; RFC 8417, section 2.2 (logout and security events).
OTHER_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})

# The end of the year 9999. What lies beyond was counted in milliseconds, and would never end.
LAST_DATE: Final = 253_402_300_799
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F]")

Lookup = Callable[[Mapping[str, Any]], Any]
"""Finds one claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of a token's claims. Times are in seconds."""

    issuer: str
    audiences: frozenset[str]
    """One of them must be named."""
    clock_skew: float
    max_lifetime: float = math.inf
    typed: bool = False
    """Take only tokens of the type at+jwt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Where an issuer puts what a principal is made of.

    A name is looked up as it stands, and then as a path: `realm_access.roles` finds Keycloak's roles, and
    `https://bank.example/roles` a claim that is named so. An empty name finds nothing.
    """

    subject: str = "sub"
    scopes: tuple[str, ...] = ("scope", "scp")
    roles: str = "roles"
    tenant: str = ""


def check_header(rules: Rules, header: Header, claims: Mapping[str, Any]) -> None:
    """Refuse a token that is of another kind than an access token.

    Threat: an ID, logout or security event token that the same issuer signed with the same key (RFC 8725, 2.8).
    Method: the type must be at+jwt, or none in particular, and then nothing must tell that it is something else.
    Standard: RFC 9068, section 4; RFC 8725, sections 3.11 and 3.12.

    Raises:
        Refused: type.
    """
    kind = header.typ.lower() if header.typ is not None else None
    if kind in ACCESS_TOKEN_TYPES:
        return
    said = claims.get("typ"), claims.get("token_use")
    words = {word.lower() for word in said if isinstance(word, str)}
    if rules.typed or kind not in PLAIN_TYPES or not words.isdisjoint(OTHER_TYPES):
        raise Refused(Reason.TYPE)
    if words.isdisjoint({"bearer", "access"}) and not OTHER_CLAIMS.isdisjoint(claims):
        raise Refused(Reason.TYPE)


def check_claims(rules: Rules, claims: Mapping[str, Any], now: float) -> float:
    """Refuse a token that is not for us, or not for now. Returns when it ends.

    Threat: a token for another service, or one that was stolen long ago (RFC 8725, sections 2.7 and 3.9).
    Method: the audience must be named, the end must be given and not be over; the issue and the begin must not lie
        ahead. Clocks may differ by `clock_skew`.
    Assumes: the issuer was found by its exact name.
    Standard: RFC 7519, section 4.1; RFC 9068, section 4; OWASP ASVS 5.0.0 V9.2.1 to V9.2.4.

    Raises:
        Refused: audience, expired, not_yet, lifetime or claims.
    """
    audience = claims.get("aud")
    named: list[Any] = audience if isinstance(audience, list) else [audience]  # pyright: ignore[reportUnknownVariableType]
    if not any(isinstance(name, str) and name in rules.audiences for name in named):
        raise Refused(Reason.AUDIENCE)
    end = _date(claims, "exp")
    if end is None:
        raise Refused(Reason.CLAIMS)
    if now >= end + rules.clock_skew:
        raise Refused(Reason.EXPIRED)
    issued, begin = _date(claims, "iat"), _date(claims, "nbf")
    if max(issued or 0.0, begin or 0.0) > now + rules.clock_skew:
        raise Refused(Reason.NOT_YET)
    if end - (issued if issued is not None else now) > rules.max_lifetime:
        raise Refused(Reason.LIFETIME)
    return end


def binding_of(claims: Mapping[str, Any]) -> str:
    """The thumbprint of the certificate that the token is bound to (RFC 8705, section 3.1); empty if to none.

    A token that is bound in another way, such as to a DPoP key (RFC 9449, section 7.1), must not pass for one that is
    bound to nothing.

    Raises:
        Refused: binding.
    """
    confirmation = claims.get("cnf")
    if confirmation is None:
        return ""
    if isinstance(confirmation, dict):
        members = cast("dict[str, Any]", confirmation)
        thumbprint = members.get("x5t#S256")
        if len(members) == 1 and isinstance(thumbprint, str) and thumbprint:
            return thumbprint
    raise Refused(Reason.BINDING)


def principal_of(rules: Rules, names: ClaimNames, claims: Mapping[str, Any], end: float) -> Principal:
    """Whom a token stands for, once everything about it was checked.

    Raises:
        Refused: claims.
    """
    subject = _text(claims, names.subject)
    if not subject:
        raise Refused(Reason.CLAIMS)
    scopes: set[str] = set()
    for name in names.scopes:
        scopes.update(_words(claims, name, split=True))
    return Principal(
        subject=subject,
        kind=Kind.TOKEN,
        issuer=rules.issuer,
        scopes=frozenset(scopes),
        roles=frozenset(_words(claims, names.roles, split=False)),
        tenant=_text(claims, names.tenant),
        expires=end,
        credential=_text(claims, "jti"),
        claims=MappingProxyType(dict(claims)),
    )


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST_DATE:
        raise Refused(Reason.CLAIMS)
    return float(value)


def _find(claims: Mapping[str, Any], name: str) -> Any:
    if not name or name in claims:
        return claims.get(name)
    found: Any = claims
    for step in name.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is a string; empty where it is absent.

    A control character is refused: no name has one, a log line is broken by it, and Postgres takes no NUL.
    """
    value = _find(claims, name)
    if value is None:
        return ""
    if not isinstance(value, str) or _CONTROL.search(value):
        raise Refused(Reason.CLAIMS)
    return value


def _words(claims: Mapping[str, Any], name: str, *, split: bool) -> list[str]:
    """A claim that is a list of strings, or one string: with spaces between the words, if `split`."""
    value = _find(claims, name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split() if split else [value]
    if isinstance(value, list):
        words: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        if all(isinstance(word, str) for word in words):
            return words
    raise Refused(Reason.CLAIMS)
