"""Whose tokens are taken, and where the keys come from that they are checked with."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Final, Protocol

from workhorse.errors import SettingsError
from workhorse.identity.claims import ClaimNames
from workhorse.identity.keys import Key, KeySet, MalformedKeySet, read_key_set
from workhorse.identity.reason import Reason, Refused

__all__ = ["DEVELOPMENT_AUDIENCE", "DEVELOPMENT_ISSUER", "GivenKeys", "Issuer", "KeySource"]

DEVELOPMENT_ISSUER: Final = "urn:workhorse:development"
"""Nobody's URL, so that no issuer in the world can be it."""
DEVELOPMENT_AUDIENCE: Final = "urn:workhorse:development:api"
"""Taken by every `Bearer` that names no issuer, beside the audience that it was given."""

USUAL_CLAIMS: Final = ClaimNames()


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of access tokens.

        Issuer("https://login.example.com/realms/bank", claims=ClaimNames(roles="realm_access.roles"))

    Raises:
        SettingsError: the name or a number makes no sense. Whether the name is a URL that can be trusted, `Bearer`
            looks at, unless the keys are given.
    """

    name: str
    """Its `iss`, exactly: a URL. Its metadata lies below it (OpenID Connect Discovery 1.0, RFC 8414)."""
    _: KW_ONLY
    keys_url: str = ""
    """Where its keys are, for one that publishes no metadata."""
    keys: bytes | None = None
    """Its keys as a JWK Set, for one that cannot be reached from here. Then nothing is ever fetched."""
    claims: ClaimNames = USUAL_CLAIMS
    typed: bool = False
    """Take only tokens of the type at+jwt (RFC 9068). Worth it where the issuer has them."""
    max_lifetime_seconds: float = math.inf
    """Longest time from a token's `iat` to its `exp`."""
    refresh_seconds: float = 300
    """Age at which keys are fetched again. A key that the issuer withdrew is good for at most twice that."""
    stale_seconds: float = 3600
    """Age up to which keys are good while the issuer does not answer."""
    cooldown_seconds: float = 30
    """Least time between two fetches because of a key that is not known, however many tokens name one."""
    timeout_seconds: float = 5
    """Longest time for a fetch as a whole, metadata and keys."""

    def __post_init__(self) -> None:
        # The bar stands between issuer and subject in a principal's id.
        if not self.name or "|" in self.name or not self.name.isprintable():
            raise SettingsError(f"an issuer is named {self.name!r}; write its `iss`, such as https://login.example.com")
        for value in (self.max_lifetime_seconds, self.refresh_seconds, self.cooldown_seconds, self.timeout_seconds):
            if not value > 0:
                raise SettingsError(f"the issuer {self.name} has a time of {value} seconds; it must be more than none")
        if not 2 * self.refresh_seconds <= self.stale_seconds <= 86_400:
            raise SettingsError(
                f"the issuer {self.name} has stale_seconds {self.stale_seconds:g}; it must be at least twice"
                f" refresh_seconds ({self.refresh_seconds:g}) and at most a day"
            )


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    async def open(self) -> None:
        """Have them at hand, where that is possible.

        Raises:
            StartupError: they can never be had as it is set up.
        """
        ...

    async def find(self, kid: str | None, now: float) -> Key:
        """The key that a token names; where it names none, the only one.

        Raises:
            Refused: unknown_key.
            IssuerUnavailable: there are no keys that are fresh enough, and none can be had.
        """
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


class GivenKeys:
    """Keys that are known from the start and never change.

    Raises:
        SettingsError: there is none in the document that can be used.
    """

    def __init__(self, issuer: str, document: bytes) -> None:
        try:
            self._keys = read_key_set(document)
        except MalformedKeySet as error:
            raise SettingsError(f"the keys given for the issuer {issuer} are no JWK Set: {error}") from None
        if not self._keys.keys:
            raise SettingsError(f"the keys given for the issuer {issuer} cannot be used: {faults_of(self._keys)}")
        self._keys.extend(math.inf)

    async def open(self) -> None:
        """Nothing is missing."""

    async def find(self, kid: str | None, now: float) -> Key:
        """The key that a token names."""
        del now  # they do not age
        key = self._keys.select(kid)
        if key is None:
            raise Refused(Reason.UNKNOWN_KEY)
        return key

    async def close(self) -> None:
        """Nothing is under way."""


def faults_of(keys: KeySet) -> str:
    """Why a set has no key that can be used."""
    return "; ".join(keys.faults) or "there is none for signatures with an asymmetric algorithm"
