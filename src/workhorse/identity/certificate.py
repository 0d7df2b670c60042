"""Reads the client certificate that a proxy has verified and passed on, in the three ways that proxies write it.

The proxy ends the TLS connection, so it alone can check the certificate's chain and that the client has its private
key. What arrives here is a header, worth exactly as much as the sender of the request: the guard hands it over only
where that is a trusted proxy. Nothing is checked here that the proxy must have checked; only what it cannot know is
decided, which is who that is.
"""

import binascii
import math
import re
from base64 import b64decode
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509

from workhorse.errors import SettingsError
from workhorse.identity.jws import b64url_encode
from workhorse.identity.known import Known

__all__ = ["CertificateFormat", "Certificates", "ClientCertificate", "MalformedCertificate", "read_certificate"]

MAX_BYTES: Final = 16 * 1024
"""Longest header value that is read."""
MAX_NAMES: Final = 100

_PEM: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_BARE: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
# One pair of an XFCC element. A value with a comma or semicolon stands in quotes, where a backslash escapes.
_PAIR: Final = re.compile(rb'([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))(;|\Z)', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


class CertificateFormat(StrEnum):
    """How a proxy writes the certificate."""

    CLIENT_CERT = "client-cert"
    """`Client-Cert: :MIIB...:` (RFC 9440): the certificate as a byte sequence of structured fields."""
    XFCC = "xfcc"
    """Envoy's and Istio's `X-Forwarded-Client-Cert: By=...;Hash=...;Subject="..."`."""
    PEM = "pem"
    """URL-encoded PEM, as nginx's `$ssl_client_escaped_cert`, ingress-nginx's `ssl-client-cert` and AWS's
    `X-Amzn-Mtls-Clientcert` have it, or Traefik's bare Base64 in `X-Forwarded-Tls-Client-Cert`."""

    @classmethod
    def of_header(cls, name: str) -> "CertificateFormat":
        """The format that the header of this name has, as far as it has a usual one; else PEM."""
        usual = {"client-cert": cls.CLIENT_CERT, "x-forwarded-client-cert": cls.XFCC}
        return usual.get(name.lower(), cls.PEM)


class MalformedCertificate(ValueError):
    """What the proxy passed on cannot be read. The text says why, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What is known of a client's certificate."""

    sha256: bytes
    """The fingerprint: SHA-256 of its DER form, 32 bytes."""
    subject: str = ""
    """Its distinguished name (RFC 4514), the most special part first."""
    uris: tuple[str, ...] = ()
    """Subject alternative names, such as SPIFFE's `spiffe://bank.example/payments`."""
    hosts: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    not_after: float = math.inf
    """Its end in seconds since 1970. XFCC may not tell: then the proxy's word stands for the moment."""

    @property
    def thumbprint(self) -> str:
        """The fingerprint as a token's `x5t#S256` has it (RFC 8705, section 3.1)."""
        return b64url_encode(self.sha256).decode()


class Certificates:
    """Reads certificates of one format, each only once.

    Args:
        format: how the proxy writes them; a header's name will do.
        max_known: how many are remembered, twice.

    Raises:
        SettingsError: there is no such format.
    """

    def __init__(self, format: CertificateFormat | str, *, max_known: int = 1000) -> None:  # noqa: A002 - the word
        try:
            self._format = CertificateFormat(format)
        except ValueError:
            known = ", ".join(CertificateFormat)
            raise SettingsError(f"{format!r} is no format of client certificates; there are {known}") from None
        self._known: Known[ClientCertificate] = Known(capacity=max_known, max_bytes=MAX_BYTES)

    def recall(self, value: bytes) -> ClientCertificate | None:
        """The certificate, if it was read before."""
        return self._known.find(value)

    def read(self, value: bytes) -> ClientCertificate:
        """The certificate in a header value.

        Raises:
            MalformedCertificate: it cannot be read.
        """
        known = self._known.find(value)
        if known is None:
            known = read_certificate(self._format, value)
            self._known.keep(value, known)
        return known


def read_certificate(format: CertificateFormat, value: bytes) -> ClientCertificate:  # noqa: A002 - the word
    """Read a header value.

    Raises:
        MalformedCertificate: it is longer than 16 KiB, or not of this format, or holds no certificate.
    """
    if len(value) > MAX_BYTES:
        raise MalformedCertificate(f"it has {len(value)} bytes, and at most {MAX_BYTES} are read")
    if format is CertificateFormat.CLIENT_CERT:
        return _from_der(_structured_bytes(value))
    if format is CertificateFormat.XFCC:
        return _from_xfcc(value)
    return _from_der(_pem_bytes(value))


def _from_der(der: bytes) -> ClientCertificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _alternative_names(certificate)
        return ClientCertificate(
            sha256=sha256(der).digest(),
            subject=certificate.subject.rfc4514_string(),
            uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
            hosts=tuple(names.get_values_for_type(x509.DNSName)),
            emails=tuple(names.get_values_for_type(x509.RFC822Name)),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
    except MalformedCertificate:
        raise
    # cryptography has several errors of its own without a common base, and more may come: whatever it cannot read,
    # we do not know.
    except Exception as error:
        raise MalformedCertificate(f"it is no X.509 certificate: {error}") from error


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
    if len(list(names)) > MAX_NAMES:
        raise MalformedCertificate(f"it has more than {MAX_NAMES} names")
    return names


def _structured_bytes(value: bytes) -> bytes:
    """A byte sequence of structured fields (RFC 8941, section 3.3.5)."""
    if len(value) < 3 or not value.startswith(b":") or not value.endswith(b":"):
        raise MalformedCertificate("it does not stand between colons (RFC 9440)")
    return _base64(value[1:-1])


def _pem_bytes(value: bytes) -> bytes:
    """PEM, the first certificate of which is the client's; or Base64 without its frame."""
    text = unquote_to_bytes(value)
    match = _PEM.match(text)
    body = b"".join(match[1].split()) if match is not None else text
    if match is None and not _BARE.fullmatch(text):
        raise MalformedCertificate("it is neither PEM nor Base64")
    return _base64(body)


def _base64(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise MalformedCertificate(f"it is not Base64: {error}") from None


def _from_xfcc(value: bytes) -> ClientCertificate:
    """The last element: that of the peer of the proxy that we trust. What stands before it, others said."""
    pairs = _xfcc_pairs(value[_last_element(value) :].strip(b" "))
    for name in (b"hash", b"subject", b"cert"):
        if len(pairs.get(name, ())) > 1:
            raise MalformedCertificate(f"it has more than one {name.decode().capitalize()}")
    fingerprint = _xfcc_hash(pairs)
    if b"cert" in pairs:
        certificate = _from_der(_pem_bytes(pairs[b"cert"][0]))
        if fingerprint is not None and certificate.sha256 != fingerprint:
            raise MalformedCertificate("its Hash is not that of its Cert")
        return certificate
    if fingerprint is None:
        raise MalformedCertificate("it has neither Hash nor Cert")
    try:
        texts = {name: tuple(value.decode() for value in values if value) for name, values in pairs.items()}
    except UnicodeDecodeError:
        raise MalformedCertificate("it is not UTF-8") from None
    return ClientCertificate(
        sha256=fingerprint,
        subject="".join(texts.get(b"subject", ())),
        uris=texts.get(b"uri", ()),
        hosts=texts.get(b"dns", ()),
    )


def _xfcc_hash(pairs: dict[bytes, list[bytes]]) -> bytes | None:
    if b"hash" not in pairs:
        return None
    try:
        fingerprint = binascii.unhexlify(pairs[b"hash"][0])
    except binascii.Error:
        fingerprint = b""
    if len(fingerprint) != sha256().digest_size:
        raise MalformedCertificate("its Hash is no SHA-256")
    return fingerprint


def _xfcc_pairs(element: bytes) -> dict[bytes, list[bytes]]:
    pairs: dict[bytes, list[bytes]] = {}
    position, more = 0, True
    while more:
        match = _PAIR.match(element, position)
        if match is None:
            raise MalformedCertificate("it is not written as X-Forwarded-Client-Cert is")
        name, quoted, plain, separator = match.groups()
        pairs.setdefault(name.lower(), []).append(_ESCAPED.sub(rb"\1", quoted) if quoted is not None else plain)
        position, more = match.end(), bool(separator)
    return pairs


def _last_element(value: bytes) -> int:
    """Where the last element begins.

    It is looked for from the right, counting quotes: from the left, an open quote of the client's would swallow what
    the proxy wrote behind it.
    """
    quoted = False
    for position in range(len(value) - 1, -1, -1):
        if value[position] == 0x22:
            start = position
            while start > 0 and value[start - 1] == 0x5C:
                start -= 1
            quoted ^= (position - start) % 2 == 0
        elif value[position] == 0x2C and not quoted:
            return position + 1
    return 0
