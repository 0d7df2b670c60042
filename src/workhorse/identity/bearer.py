"""Bearer tokens: JWT access tokens (RFC 6750, RFC 7519, RFC 9068), checked as RFC 8725 asks.

    Bearer("https://login.example.com/realms/bank", audience="https://api.bank.example")

A token is verified once. Until it expires, or its key leaves the issuer's set, the same token is recalled by one
look-up. What a verification asks is in this order, the cheapest first, and the issuer is only asked for keys by a
token that would be good if its signature were: size and form (`jws`), issuer, kind and claims (`claims`), key
(`refresh`, `keys`), signature, and the certificate that it is bound to.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from workhorse.errors import SettingsError
from workhorse.identity.certificate import Certificates, MalformedCertificate
from workhorse.identity.claims import ClaimNames, Rules, binding_of, check_claims, check_header, principal_of
from workhorse.identity.issuer import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, GivenKeys, Issuer, KeySource
from workhorse.identity.jws import is_bearer, read_token
from workhorse.identity.keys import ALGORITHMS, Key
from workhorse.identity.known import Known
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import Credentials, NotAuthenticated, Surroundings, bearer_challenge
from workhorse.principal import Principal
from workhorse.settings import Settings, load_settings
from workhorse.telemetry.log import Log

__all__ = ["Bearer"]

MAX_CLOCK_SKEW: Final = 300


class Verified(NamedTuple):
    """What was found out about a token."""

    principal: Principal
    key: Key
    binding: str


class Trusted(NamedTuple):
    """An issuer, ready to be asked."""

    rules: Rules
    names: ClaimNames
    keys: KeySource


class Bearer:
    """Knows callers by a signed token in the Authorization header.

    Args:
        issuers: whose tokens are taken, by name or as an `Issuer`. None: those of the setting `identity.issuers`; and
            where that names none either, those that `workhorse token` makes, in development and test only.
        audience: what this service is called in a token's `aud`; one of several is enough. With no issuers, those of
            `identity.audience` beside it.
        realm: what is protected, for the challenge that a client without a token is sent.
        clock_skew_seconds: how far the issuer's clock may be from ours; at most 300.
        max_token_bytes: longest Authorization header that is looked at.
        max_known: how many verified tokens are remembered, twice.
        certificates: reads the client certificates that a trusted proxy passes on. Without it, a token that is bound
            to a certificate (RFC 8705) is refused.
        settings: the project's settings, where no issuer is named; by default those of the service, or what
            `load_settings` finds when it opens.
        log: where changes of the issuers' keys are told; by default the service's.

    Raises:
        SettingsError: a name or number makes no sense, or no issuer is named in production.
    """

    def __init__(
        self,
        *issuers: Issuer | str,
        audience: str | Iterable[str] = (),
        realm: str = "api",
        clock_skew_seconds: float = 30,
        max_token_bytes: int = 8192,
        max_known: int = 10_000,
        certificates: Certificates | None = None,
        settings: Settings | None = None,
        log: Log | None = None,
    ) -> None:
        audiences = frozenset([audience] if isinstance(audience, str) else audience)
        _check_options(audiences, realm, clock_skew_seconds, max_token_bytes, max_known)
        self._issuers: dict[str, Trusted] = {}
        for issuer in (Issuer(issuer) if isinstance(issuer, str) else issuer for issuer in issuers):
            if issuer.name in self._issuers:
                raise SettingsError(f"the issuer {issuer.name} is named twice")
            self._issuers[issuer.name] = _trust(issuer, audiences, clock_skew_seconds, log)
        self._audiences = audiences
        self._clock_skew = clock_skew_seconds
        self._log = log
        if not issuers and settings is not None:
            self._settle(settings)
        self._max_bytes = max_token_bytes
        self._certificates = certificates
        self._known: Known[Verified] = Known(capacity=max_known, max_bytes=max_token_bytes)
        self.challenge: Final = bearer_challenge(realm=realm)
        self._invalid = (bearer_challenge(realm=realm, error="invalid_token"),)

    def __repr__(self) -> str:
        return f"<Bearer of {', '.join(self._issuers)}: {len(self._known)} tokens known>"

    def bind(self, surroundings: Surroundings) -> None:
        """Take the issuers of the service's settings, if none is named in the code.

        Raises:
            SettingsError: these name none either, in production; or no audience.
        """
        self._log = self._log if self._log is not None else surroundings.log
        if not self._issuers:
            self._settle(surroundings.settings)

    def _settle(self, settings: Settings) -> None:
        named = settings.identity
        if not named.issuers:
            self._issuers[DEVELOPMENT_ISSUER] = _trust_development(settings, self._audiences, self._clock_skew)
            return
        audiences = self._audiences | frozenset(named.audience)
        for name in named.issuers:
            self._issuers[name] = _trust(Issuer(name), audiences, named.clock_skew_seconds, self._log)

    def presents(self, credentials: Credentials) -> bool:
        """Whether there is an Authorization header of the scheme Bearer."""
        return credentials.authorization is not None and is_bearer(credentials.authorization)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """The caller, if this very token was verified before, has not expired, and its key is still published."""
        authorization = credentials.authorization
        if authorization is None:
            return None
        verified = self._known.find(authorization)
        if verified is None:
            return None
        principal, key, binding = verified
        if now >= principal.expires or now >= key.good_until:
            return None
        if binding and not self._is_bound(binding, credentials.certificate):
            return None
        return principal

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """The caller, as the token says.

        Raises:
            NotAuthenticated: the token is not good. Its `reason` says why, for the log.
            IssuerUnavailable: it cannot be told, because the issuer is away.
        """
        authorization = credentials.authorization
        if authorization is None:
            raise NotAuthenticated(Reason.MISSING, challenges=(self.challenge,))
        try:
            verified = await self._verify(authorization, credentials.certificate, now)
        except Refused as refused:
            raise NotAuthenticated(refused.reason, challenges=self._invalid) from None
        # Between `exp` and the end of the clock skew a token is good, and verified each time.
        if now < verified.principal.expires:
            self._known.keep(authorization, verified)
        return verified.principal

    async def open(self) -> None:
        """Fetch the issuers' keys.

        Raises:
            StartupError: what an issuer publishes can never be used. One that is away is asked again later.
        """
        if not self._issuers:
            self._settle(load_settings())
        for issuer in self._issuers.values():
            await issuer.keys.open()

    async def close(self) -> None:
        """End the fetches that are under way, and forget the tokens."""
        self._known.clear()
        for issuer in self._issuers.values():
            await issuer.keys.close()

    async def _verify(self, authorization: bytes, certificate: bytes | None, now: float) -> Verified:
        if not self._issuers:
            self._settle(load_settings())
        token = read_token(authorization, max_bytes=self._max_bytes)
        header, claims = token.header, token.claims
        if header.alg not in ALGORITHMS:
            raise Refused(Reason.ALGORITHM)
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise Refused(Reason.ISSUER)
        check_header(issuer.rules, header, claims)
        end = check_claims(issuer.rules, claims, now)
        key = await issuer.keys.find(header.kid, now)
        key.verify(header.alg, token.signed, token.signature)
        binding = binding_of(claims)
        if binding and not self._is_bound(binding, certificate):
            raise Refused(Reason.BINDING)
        return Verified(principal_of(issuer.rules, issuer.names, claims, end), key, binding)

    def _is_bound(self, binding: str, certificate: bytes | None) -> bool:
        """Whether the certificate is the one that the token is bound to (RFC 8705, section 3)."""
        if self._certificates is None or not certificate:
            return False
        try:
            return self._certificates.read(certificate).thumbprint == binding
        except MalformedCertificate:
            return False


def _check_options(
    audiences: frozenset[str], realm: str, clock_skew_seconds: float, max_token_bytes: int, max_known: int
) -> None:
    if "" in audiences:
        raise SettingsError(
            "an audience is empty; name this service as its issuer does, such as https://api.bank.example"
        )
    if not realm or not realm.isascii() or not realm.isprintable() or any(character in '"\\' for character in realm):
        raise SettingsError(f"the realm is {realm!r}; it must be printable ASCII without quotes")
    if not 0 <= clock_skew_seconds <= MAX_CLOCK_SKEW:
        raise SettingsError(
            f"clock_skew_seconds is {clock_skew_seconds:g}; it must be 0 to {MAX_CLOCK_SKEW}: for so long an expired"
            " token is good"
        )
    if max_token_bytes < 256 or max_known < 1:
        raise SettingsError("max_token_bytes must be at least 256 and max_known at least 1")


def _trust(issuer: Issuer, audiences: frozenset[str], clock_skew: float, log: Log | None) -> Trusted:
    if issuer.name.startswith(DEVELOPMENT_ISSUER):
        raise SettingsError(f"{DEVELOPMENT_ISSUER} cannot be named as an issuer; name none to take its tokens")
    if not audiences:
        raise SettingsError(
            f"no audience is named for the tokens of {issuer.name}: one that was made for any other service would be"
            " taken here; name this service, such as audience='https://api.bank.example'"
        )
    rules = Rules(
        issuer=issuer.name,
        audiences=audiences,
        clock_skew=clock_skew,
        max_lifetime=issuer.max_lifetime_seconds,
        typed=issuer.typed,
    )
    return Trusted(rules, issuer.claims, _source(issuer, log))


def _source(issuer: Issuer, log: Log | None) -> KeySource:
    if issuer.keys is not None:
        return GivenKeys(issuer.name, issuer.keys)
    # Not at the top: it loads httpx, which takes a fifth of a second, and development fetches nothing.
    from workhorse.identity.refresh import FetchedKeys  # noqa: PLC0415

    return FetchedKeys(issuer, log)


def _trust_development(settings: Settings, audiences: frozenset[str], clock_skew: float) -> Trusted:
    # Not at the top: production loads neither the development issuer nor the embedded servers.
    from workhorse.identity.development import DevelopmentKeys  # noqa: PLC0415

    keys = DevelopmentKeys(settings)
    rules = Rules(
        issuer=DEVELOPMENT_ISSUER, audiences=audiences | {DEVELOPMENT_AUDIENCE}, clock_skew=clock_skew, typed=True
    )
    return Trusted(rules, ClaimNames(tenant="tenant"), keys)
