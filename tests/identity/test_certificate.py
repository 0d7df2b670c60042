"""Client certificates: what proxies write, who that is, and what cannot be meant."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.identity.certificates import certificate, der, escaped_pem, pem
from tests.identity.oidc_server import AUDIENCE, good_claims, signing_key
from workhorse.errors import SettingsError
from workhorse.identity import (
    Bearer,
    CertificateFormat,
    Certificates,
    Credentials,
    Identity,
    Issuer,
    MutualTls,
    NotAuthenticated,
)
from workhorse.identity.certificate import MalformedCertificate, read_certificate
from workhorse.principal import ANONYMOUS, Kind, Principal

SPIFFE = "spiffe://bank.example/payments"
CERTIFICATE = certificate("payments", uris=[SPIFFE], hosts=["payments.bank.example"], emails=["ops@bank.example"])
HASH = sha256(der(CERTIFICATE)).hexdigest().encode()
STRUCTURED = b":" + b64encode(der(CERTIFICATE)) + b":"
XFCC = b'By=spiffe://bank.example/api;Hash=%b;Subject="CN=payments,O=Bank";URI=%b' % (HASH, SPIFFE.encode())


WRITTEN: dict[str, tuple[str, bytes]] = {
    "RFC 9440": ("client-cert", STRUCTURED),
    "nginx": ("pem", escaped_pem(CERTIFICATE)),
    "AWS": ("pem", quote(pem(CERTIFICATE), safe="+=/").encode()),
    "with its chain": ("pem", escaped_pem(CERTIFICATE) + escaped_pem(certificate("authority"))),
    "Traefik": ("pem", b64encode(der(CERTIFICATE))),
    "Envoy": ("xfcc", b'Hash=%b;Cert="%b"' % (HASH, escaped_pem(CERTIFICATE))),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_each_way_to_write_a_certificate_says_the_same(name: str) -> None:
    kind, value = WRITTEN[name]
    read = read_certificate(CertificateFormat(kind), value)
    assert read.sha256.hex().encode() == HASH
    assert read.subject == "CN=payments,O=Bank"
    assert read.uris == (SPIFFE,)
    assert read.hosts == ("payments.bank.example",)
    assert read.emails == ("ops@bank.example",)
    assert read.not_after == CERTIFICATE.not_valid_after_utc.timestamp()


def test_envoy_may_tell_only_the_names() -> None:
    read = read_certificate(CertificateFormat.XFCC, XFCC + b";DNS=a.example;DNS=b.example")
    assert (read.sha256.hex().encode(), read.uris, read.hosts) == (HASH, (SPIFFE,), ("a.example", "b.example"))
    assert read.subject == "CN=payments,O=Bank"


# What a client may send for the proxy to append to, trying to hide that, or to be the last element itself.
PREFIXES = {
    "another element": XFCC.replace(b"payments", b"mallory"),
    "an open quote": b'Subject="',
    "an open quote after a hash": b'Hash=%b;Subject="' % (b"0" * 64),
    "an open quote and a backslash": b'Subject="\\',
    "an odd number of quotes": b'a="b";c="',
    "nothing": b"",
    "rubbish": b"\xff;;==,,",
}


@pytest.mark.parametrize("name", PREFIXES)
def test_what_a_client_wrote_before_the_proxy_does_not_count(name: str) -> None:
    assert read_certificate(CertificateFormat.XFCC, PREFIXES[name] + b"," + XFCC).uris == (SPIFFE,)


def test_a_name_with_quotes_commas_and_backslashes_is_read_whole() -> None:
    value = b'Hash=%b;Subject="CN=\\"a\\",O=b\\\\;c";URI=' % HASH
    read = read_certificate(CertificateFormat.XFCC, b"Hash=x," + value)
    assert read.subject == 'CN="a",O=b\\;c'
    assert read.uris == ()
    odd = read_certificate(CertificateFormat.XFCC, b'Hash=x,Hash=%b;Subject="CN=\\"a,O=b"' % HASH)
    assert odd.subject == 'CN="a,O=b'


MALFORMED: dict[str, tuple[str, bytes]] = {
    "no colons": ("client-cert", STRUCTURED.strip(b":")),
    "one colon": ("client-cert", b":"),
    "nothing between colons": ("client-cert", b"::"),
    "foreign characters": ("client-cert", b":%b!:" % STRUCTURED[1:-1]),
    "a cut certificate": ("client-cert", b":" + b64encode(der(CERTIFICATE)[:-1]) + b":"),
    "a longer certificate": ("client-cert", b":" + b64encode(der(CERTIFICATE) + b"x") + b":"),
    "no certificate": ("client-cert", b":" + b64encode(b"hello") + b":"),
    "over the size": ("xfcc", XFCC + b";URI=" + b"a" * 16_384),
    "nginx says that there is none": ("pem", b"(null)"),
    "the start of a PEM only": ("pem", quote("-----BEGIN CERTIFICATE-----\nMIIB").encode()),
    "a private key": ("pem", quote("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----").encode()),
    "Envoy without a fingerprint": ("xfcc", b"URI=" + SPIFFE.encode()),
    "Envoy with two": ("xfcc", b"Hash=%b;Hash=%b" % (HASH, HASH)),
    "Envoy with a short one": ("xfcc", b"Hash=abcd"),
    "Envoy with another's": ("xfcc", b'Hash=%b;Cert="%b"' % (b"0" * 64, escaped_pem(CERTIFICATE))),
    "Envoy with two subjects": ("xfcc", XFCC + b';Subject="CN=mallory"'),
    "Envoy with an open quote": ("xfcc", XFCC + b';Subject="'),
    "Envoy with a trailing comma": ("xfcc", XFCC + b","),
    "Envoy with what is no text": ("xfcc", XFCC + b";URI=\xff"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_this_is_refused(name: str) -> None:
    kind, value = MALFORMED[name]
    with pytest.raises(MalformedCertificate):
        read_certificate(CertificateFormat(kind), value)
    scheme = MutualTls(kind)
    with pytest.raises(NotAuthenticated) as refused:
        verify(scheme, value)
    assert refused.value.reason == "certificate"


@settings(deadline=None)
@given(
    st.sampled_from(CertificateFormat), st.binary(max_size=200) | st.text('",;=\\aURIHash', max_size=60).map(str.encode)
)
def test_any_bytes_are_a_certificate_or_malformed(kind: CertificateFormat, value: bytes) -> None:
    try:
        read = read_certificate(kind, value)
    except MalformedCertificate:
        return
    assert len(read.sha256) == 32


def test_a_header_full_of_quotes_is_read_in_no_time() -> None:
    begun = time.process_time()
    for value in (b'"' * 16_384, b'\\"' * 8192, b"\\" * 16_384, b'"",' * 5000):
        with pytest.raises(MalformedCertificate):
            read_certificate(CertificateFormat.XFCC, value)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Client-Cert", CertificateFormat.CLIENT_CERT),
        ("x-forwarded-client-cert", CertificateFormat.XFCC),
        ("ssl-client-cert", CertificateFormat.PEM),
    ],
)
def test_the_usual_headers_have_usual_formats(header: str, kind: CertificateFormat) -> None:
    assert CertificateFormat.of_header(header) is kind


def verify(scheme: MutualTls, value: bytes, now: float | None = None) -> Principal:
    return asyncio.run(scheme.verify(Credentials(certificate=value), time.time() if now is None else now))


NAMES: dict[str, Callable[[], MutualTls]] = {
    "CN=payments,O=Bank": lambda: MutualTls("client-cert"),
    SPIFFE: lambda: MutualTls("client-cert", name="uri"),
    "payments.bank.example": lambda: MutualTls("client-cert", name="host"),
    "ops@bank.example": lambda: MutualTls("client-cert", name="email"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_caller_is_one_of_the_certificates_names(name: str) -> None:
    principal = verify(NAMES[name](), STRUCTURED)
    assert (principal.kind, principal.subject) == (Kind.CERTIFICATE, name)
    assert principal.id != name  # never the same as an API key's owner of that name
    assert principal.expires == CERTIFICATE.not_valid_after_utc.timestamp()
    assert principal.scopes == frozenset()


def test_callers_have_the_scopes_that_they_were_given_and_others_are_refused() -> None:
    scheme = MutualTls("xfcc", name="uri", callers={SPIFFE: ["transfers:write"]})
    assert verify(scheme, XFCC).scopes == {"transfers:write"}
    with pytest.raises(NotAuthenticated) as refused:
        verify(scheme, XFCC.replace(b"payments", b"mallory"))
    assert refused.value.reason == "unknown"


def test_a_certificate_with_no_such_name_or_several_is_nobodys() -> None:
    scheme = MutualTls("client-cert", name="host")
    for hosts in ([], ["a.example", "b.example"]):
        with pytest.raises(NotAuthenticated) as refused:
            verify(scheme, b":" + b64encode(der(certificate(hosts=hosts))) + b":")
        assert refused.value.reason == "unknown"


def test_a_certificate_is_recalled_until_its_end() -> None:
    scheme, end = MutualTls("client-cert"), CERTIFICATE.not_valid_after_utc.timestamp()
    credentials = Credentials(certificate=STRUCTURED)
    assert scheme.recall(credentials, end - 1) is None
    asyncio.run(scheme.verify(credentials, end - 1))
    assert scheme.recall(credentials, end - 1) is not None
    assert scheme.recall(credentials, end) is None
    with pytest.raises(NotAuthenticated) as refused:
        verify(scheme, STRUCTURED, end)
    assert refused.value.reason == "expired"


def test_an_empty_header_is_no_certificate() -> None:
    identity = Identity(MutualTls("pem"))
    assert identity.recall(Credentials(certificate=b""), 0) is ANONYMOUS


@pytest.mark.parametrize("options", [("jks",), ("",)])
def test_a_format_that_does_not_exist_is_said(options: tuple[str]) -> None:
    with pytest.raises(SettingsError, match="client-cert, xfcc, pem"):
        MutualTls(*options)


ISSUER = "https://login.example.com"
KEY = signing_key()


def bound_scheme(certificates: Certificates | None) -> Bearer:
    keys = b'{"keys":[' + json.dumps(KEY.jwk).encode() + b"]}"
    return Bearer(Issuer(ISSUER, keys=keys), audience=AUDIENCE, certificates=certificates)


def bound_credentials(thumbprint: str, value: bytes | None) -> Credentials:
    token = KEY.sign(good_claims(ISSUER, cnf={"x5t#S256": thumbprint}))
    return Credentials(authorization=b"Bearer " + token.encode(), certificate=value)


def test_a_bound_token_is_good_with_its_certificate_only_also_when_it_is_known() -> None:
    scheme = bound_scheme(Certificates("client-cert"))
    thumbprint = read_certificate(CertificateFormat.CLIENT_CERT, STRUCTURED).thumbprint
    good = bound_credentials(thumbprint, STRUCTURED)
    other = b":" + b64encode(der(certificate("mallory"))) + b":"
    now = time.time()
    assert asyncio.run(scheme.verify(good, now)).subject == "alice"
    assert scheme.recall(good, now) is not None
    for value in (None, b"", other, b"rubbish"):
        stolen = msgspec.structs.replace(good, certificate=value)
        assert scheme.recall(stolen, now) is None
        with pytest.raises(NotAuthenticated) as refused:
            asyncio.run(scheme.verify(stolen, now))
        assert refused.value.reason == "binding"
    assert scheme.recall(good, now) is not None


def test_a_bound_token_is_refused_where_no_certificates_are_read() -> None:
    thumbprint = read_certificate(CertificateFormat.CLIENT_CERT, STRUCTURED).thumbprint
    with pytest.raises(NotAuthenticated) as refused:
        asyncio.run(bound_scheme(None).verify(bound_credentials(thumbprint, STRUCTURED), time.time()))
    assert refused.value.reason == "binding"


def test_a_token_that_is_bound_to_a_key_as_well_is_refused_though_its_certificate_is_there() -> None:
    thumbprint = read_certificate(CertificateFormat.CLIENT_CERT, STRUCTURED).thumbprint
    token = KEY.sign(good_claims(ISSUER, cnf={"x5t#S256": thumbprint, "jkt": "abc"}))
    credentials = Credentials(authorization=b"Bearer " + token.encode(), certificate=STRUCTURED)
    with pytest.raises(NotAuthenticated) as refused:
        asyncio.run(bound_scheme(Certificates("client-cert")).verify(credentials, time.time()))
    assert refused.value.reason == "binding"
