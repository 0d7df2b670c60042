"""Who calls, as a value that every room may read and only the identity room makes.

A principal is what was proven about the sender of a request: by a signed token, an API key, a session or a client
certificate. Nothing in it is taken from the request unproven. It quacks as the user and the credentials of
Starlette, so that `request.user` and `@requires` work in an app that was written for its AuthenticationMiddleware.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

__all__ = ["ANONYMOUS", "Kind", "Principal"]


class Kind(StrEnum):
    """By what a caller is known."""

    ANONYMOUS = "anonymous"
    """By nothing: the request carried no credentials."""
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    """A signed token of an issuer."""
    KEY = "key"
    """An API key."""
    SESSION = "session"
    """A session cookie."""
    CERTIFICATE = "certificate"
    """A client certificate that a trusted proxy has verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """One caller.

    Identity is `issuer` and `subject` together: two issuers may both know an `alice`.
    """

    subject: str
    kind: Kind
    issuer: str = ""
    """Who vouches for the subject: a token's `iss`; empty for this service itself."""
    scopes: frozenset[str] = frozenset()
    """What the caller may do."""
    roles: frozenset[str] = frozenset()
    tenant: str = ""
    """The organisation that the caller acts for, where the issuer says so."""
    expires: float = math.inf
    """When this stops being true, in seconds since 1970."""
    credential: str = ""
    """Names the credential, never is it: a token's `jti`, a key's prefix, a session's public id."""
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """All that the issuer said. Personal data: not for a log."""
    key: str = field(init=False, repr=False, compare=False)
    """What tells this caller from all others: the scope of its rate limits and Idempotency-Keys.

    The tenant is part of it, because keys of several tenants may be made for subjects of one name. The lengths stand
    in front, so that no subject can be written as another's issuer and name.
    """

    def __post_init__(self) -> None:
        key = f"{len(self.issuer)}:{self.issuer}{len(self.tenant)}:{self.tenant}{self.subject}"
        object.__setattr__(self, "key", key)

    @property
    def id(self) -> str:
        """The caller's identity as one string, for people: in logs and events. What must not be confused: `key`."""
        return f"{self.issuer}|{self.subject}" if self.issuer else self.subject

    @property
    def is_authenticated(self) -> bool:
        """Whether anything is known of the caller (Starlette's `BaseUser`)."""
        return self.kind is not Kind.ANONYMOUS

    @property
    def display_name(self) -> str:
        """The subject (Starlette's `BaseUser`)."""
        return self.subject

    @property
    def identity(self) -> str:
        """The same as `id` (Starlette's `BaseUser`)."""
        return self.id

    def may(self, *scopes: str) -> bool:
        """Whether the caller has all of `scopes`."""
        return self.scopes.issuperset(scopes)


ANONYMOUS: Final = Principal(subject="", kind=Kind.ANONYMOUS)
