"""Knows callers by their client certificate (mutual TLS), as a trusted proxy passed it on.

A certificate may come with every request of a client, whoever the request is for: a mesh puts one under all calls
between services. So it says who calls only where the request itself does not (see `Identity`).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from workhorse.errors import SettingsError
from workhorse.identity.certificate import CertificateFormat, Certificates, ClientCertificate, MalformedCertificate
from workhorse.identity.reason import Reason
from workhorse.identity.scheme import Credentials, NotAuthenticated
from workhorse.principal import Kind, Principal

__all__ = ["MutualTls"]

CERTIFICATE_ISSUER: Final = "urn:workhorse:mutual-tls"

NameKind = Literal["subject", "uri", "host", "email"]


@dataclass(frozen=True, slots=True)
class Client:
    """A certificate and its owner, who is the same for as long as the certificate is."""

    certificate: ClientCertificate
    principal: Principal


class MutualTls:
    """Makes a caller of a client certificate.

        MutualTls("xfcc", name="uri", callers={"spiffe://bank.example/payments": {"transfers:write"}})

    Args:
        format: how the proxy writes certificates, or a `Certificates` to share with a `Bearer`.
        name: which of its names is the caller's. A certificate that has none of them, or several, is refused.
        callers: who may call, with their scopes. None: whoever has a certificate, without any scope.

    Raises:
        SettingsError: there is no such format or name.
    """

    of_connection: Final = True

    def __init__(
        self,
        format: Certificates | CertificateFormat | str,  # noqa: A002 - the word
        *,
        name: NameKind = "subject",
        callers: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        if name not in {"subject", "uri", "host", "email"}:
            raise SettingsError(f"{name!r} is no kind of name in a certificate; there are subject, uri, host and email")
        self.challenge: Final = b""  # the handshake was the challenge
        self._certificates = format if isinstance(format, Certificates) else Certificates(format)
        self._name: NameKind = name
        self._callers = (
            {caller: frozenset(scopes) for caller, scopes in callers.items()} if callers is not None else None
        )

    def presents(self, credentials: Credentials) -> bool:
        """Whether the proxy passed a certificate on. Several write an empty header where there was none."""
        return bool(credentials.certificate)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """The caller, if the certificate was read before, and is one."""
        certificate = self._certificates.recall(credentials.certificate or b"")
        return self._principal(certificate, now) if certificate is not None else None

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """The caller.

        Raises:
            NotAuthenticated: the certificate cannot be read, has ended, or is nobody's who may call.
        """
        if not credentials.certificate:
            raise NotAuthenticated(Reason.MISSING)
        try:
            certificate = self._certificates.read(credentials.certificate)
        except MalformedCertificate:
            raise NotAuthenticated(Reason.CERTIFICATE) from None
        principal = self._principal(certificate, now)
        if principal is None:
            raise NotAuthenticated(Reason.EXPIRED if now >= certificate.not_after else Reason.UNKNOWN)
        return principal

    async def open(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Nothing is held."""

    def _principal(self, certificate: ClientCertificate, now: float) -> Principal | None:
        names = self._names(certificate)
        if now >= certificate.not_after or len(names) != 1:
            return None
        scopes = self._callers.get(names[0]) if self._callers is not None else frozenset[str]()
        if scopes is None:
            return None
        return Principal(
            subject=names[0],
            kind=Kind.CERTIFICATE,
            issuer=CERTIFICATE_ISSUER,
            scopes=scopes,
            expires=certificate.not_after if math.isfinite(certificate.not_after) else math.inf,
            credential=certificate.sha256.hex()[:16],
        )

    def _names(self, certificate: ClientCertificate) -> tuple[str, ...]:
        if self._name == "uri":
            return certificate.uris
        if self._name == "host":
            return certificate.hosts
        if self._name == "email":
            return certificate.emails
        return (certificate.subject,) if certificate.subject else ()
