"""Credentials, and what issuers and proxies publish of them: tokens, claims, keys, metadata, certificates."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import jwt
import jwt.algorithms
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.harness import Broken, Harness, Splitter, require
from workhorse.errors import SettingsError
from workhorse.identity import Bearer, Credentials, Issuer, NotAuthenticated
from workhorse.identity.certificate import (
    CertificateFormat,
    ClientCertificate,
    MalformedCertificate,
    read_certificate,
)
from workhorse.identity.claims import ClaimNames, Rules, binding_of, check_claims, check_header, principal_of
from workhorse.identity.discovery import IssuerAway, IssuerWrong, check_url, read_metadata
from workhorse.identity.jws import Header, b64url_decode, b64url_encode, read_token
from workhorse.identity.key_text import KeyText, checksum
from workhorse.identity.keys import ALGORITHMS, Key, MalformedKeySet, read_key_set
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import bearer_challenge

__all__ = ["HARNESSES", "TOKEN"]

NOW: Final = 1_800_000_000.0
ISSUER: Final = "https://login.example.com/bank"
AUDIENCE: Final = "https://api.example.com"
MAX_BYTES: Final = 4096
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# A key of known bytes, so that the same input does the same in every run. It opens nothing.
SIGNER: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
JWK: Final[dict[str, Any]] = {
    **json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(SIGNER.public_key())),
    "kid": "k1",
    "alg": "EdDSA",
    "use": "sig",
}
JWKS: Final = json.dumps({"keys": [JWK]}).encode()
CLAIMS: Final[dict[str, Any]] = {
    "iss": ISSUER,
    "aud": [AUDIENCE],
    "sub": "jane",
    "exp": NOW + 300,
    "iat": NOW,
    "scope": "transfers:write accounts:read",
    "roles": ["teller"],
    "jti": "t-1",
}
TOKEN: Final = jwt.encode(CLAIMS, SIGNER, algorithm="EdDSA", headers={"kid": "k1", "typ": "at+jwt"}).encode()
GOOD: Final = re.compile(rb"(?i:bearer) +" + re.escape(TOKEN))
NOT_UTF8: Final = b"Bearer " + b64url_encode(b'{"k\xccd": 1, "alg": "EdDSA"}') + b".e30.AA"
"""In a member that nobody reads, which some readers do not look at."""
KEYS: Final = KeyText()
_KEY_BODY: Final = b"wh_" + b"4mT9kQ2xBv7a" + b"_" + b"0Yt" * 14 + b"Z"
API_KEY: Final = _KEY_BODY + checksum(_KEY_BODY).encode()
RULES: Final = Rules(issuer=ISSUER, audiences=frozenset({AUDIENCE}), clock_skew=30, max_lifetime=3600)
NAMES: Final = ClaimNames(tenant="org.id")
METADATA: Final = json.dumps({"issuer": ISSUER, "jwks_uri": ISSUER + "/keys"}).encode()


def _certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "payments")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=SIGNER.public_key(),
        serial_number=7,
        not_valid_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2046, 1, 1, tzinfo=UTC),
    ).add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://bank.example/payments")]), critical=False
    )
    return builder.sign(SIGNER, None).public_bytes(Encoding.DER)


DER: Final = _certificate()
BEARER: Final = Bearer(Issuer(ISSUER, keys=JWKS), audience=AUDIENCE)


def fuzz_token(data: bytes) -> None:
    """What is read as a token has one spelling only, and another library reads the same in it."""
    try:
        token = read_token(data, max_bytes=MAX_BYTES)
    except Refused as refused:
        require(refused.reason in {Reason.MALFORMED, Reason.TOO_LARGE, Reason.CRITICAL}, "another reason", refused)
        return
    text = data[7:].lstrip(b" ")
    head, payload, signature = text.split(b".")
    require(token.signed == head + b"." + payload, "something else is signed", data)
    for part in (head, payload, signature):
        require(b64url_encode(b64url_decode(part)) == part, "a second spelling", part)
    require(b64url_decode(signature) == token.signature, "another signature", data)
    try:
        other = jwt.api_jws.PyJWS().decode_complete(text, options={"verify_signature": False})
    except jwt.DecodeError as error:
        raise Broken(f"another library does not read {data!r}: {error}") from None
    require(other["header"].get("alg") == token.header.alg, "another library reads another algorithm", data)
    require(other["header"].get("kid") == token.header.kid, "another library reads another key", data)
    require(json.loads(other["payload"]) == token.claims, "another library reads other claims", data)


def fuzz_claims(data: bytes) -> None:
    """Whoever comes out of any claims can be named in a header, a log and a database."""
    split = Splitter(data)
    kind = (None, "JWT", "at+jwt", "logout+jwt")[split.number(4)]
    try:
        claims = msgspec.json.decode(split.rest(), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    try:
        check_header(RULES, Header(alg="EdDSA", typ=kind), claims)
        end = check_claims(RULES, claims, NOW)
        binding_of(claims)
        principal = principal_of(RULES, NAMES, claims, end)
    except Refused:
        return
    require(principal.subject, "a principal without a subject", claims)
    for text in (principal.id, principal.tenant, principal.credential):
        require(not CONTROL.search(text), "a control character", text)
    "".join((principal.id, principal.tenant, *principal.scopes, *principal.roles)).encode()
    require(NOW - 30 < principal.expires <= NOW + 3600 + 30 + 3600, "a principal that does not end", principal.expires)
    require(claims["aud"] == AUDIENCE or AUDIENCE in claims["aud"], "a token for another service", claims)


def fuzz_bearer(data: bytes) -> None:
    """Nobody gets in but by the one token that the key has signed, whatever is changed in it."""
    split = Splitter(data)
    mode = split.number(4)
    given = split.rest()
    if mode:
        # A change of the good token: some bytes replaced, put in or taken out.
        at = Splitter(given).number(len(TOKEN))
        change = given[2:]
        cut = (0, len(change), 1)[mode - 1]
        given = b"Bearer " + TOKEN[:at] + change + TOKEN[at + cut :]
    credentials = Credentials(authorization=given)
    verifying = BEARER.verify(credentials, NOW)
    try:
        verifying.send(None)
    except StopIteration as end:
        require(GOOD.fullmatch(given), "a token that nobody signed is good", given)
        require(end.value.subject == "jane", "it is somebody else's", end.value)
    except NotAuthenticated as refused:
        require(not GOOD.fullmatch(given), "the good token is refused", given, refused.reason)
        require(all(b"\n" not in value for _, value in refused.headers), "the challenge breaks its header")
        require(BEARER.recall(credentials, NOW) is None, "a refused token is recalled", given)
    else:
        verifying.close()
        require(condition=False, what="a verification with given keys waits")


def fuzz_keys(data: bytes) -> None:
    """What is read of a key set is public, of the right size, and for asymmetric algorithms only."""
    try:
        keys = read_key_set(data)
    except MalformedKeySet:
        return
    require(len(keys.keys) + len(keys.faults) <= 100, "too many keys", len(keys.keys))
    for key in keys.keys:
        require(key.algorithms and set(key.algorithms) <= ALGORITHMS, "an algorithm that is not taken", key)
        require(len(key.thumbprint) == 32, "no thumbprint", key)
        for algorithm in key.algorithms:
            require(_refuses(key, algorithm), "a signature of nothing is good", key)
    again = read_key_set(data)
    require([k.thumbprint for k in again.keys] == [k.thumbprint for k in keys.keys], "read twice, two readings", data)
    require(keys.select("no such key") is None or b"no such key" in data, "a key that is not there", data)


def fuzz_metadata(data: bytes) -> None:
    """Keys are fetched from where two URL parsers say that they are, over TLS."""
    try:
        url = read_metadata(ISSUER, data)
    except (IssuerAway, IssuerWrong):
        return
    _check_fetched(url)
    require(url.startswith("https://") or url.lower().startswith("https://"), "keys without TLS", url)


def fuzz_url(data: bytes) -> None:
    """A URL of an issuer that is taken leads the client to the host that was looked at."""
    url = data.decode("utf-8", "replace")
    try:
        check_url(url, "an issuer")
    except SettingsError:
        return
    _check_fetched(url)


def fuzz_certificate(data: bytes) -> None:
    """What a proxy passed on is read or refused, and nothing that the client puts in front changes it."""
    split = Splitter(data)
    form = list(CertificateFormat)[split.number(3)]
    value = split.rest()
    if split.number(2) and form is CertificateFormat.CLIENT_CERT:
        value = b":" + base64.b64encode(value) + b":"
    found = _certificate_in(form, value)
    if found is None:
        return
    require(len(found.sha256) == 32, "no fingerprint", value)
    require(re.fullmatch(r"[A-Za-z0-9_-]{43}", found.thumbprint), "no thumbprint", found)
    if form is CertificateFormat.XFCC and len(value) < 8000:
        for front in (b"Hash=00,", b'Subject="a,', b'By="\\",', b'Cert=a;Subject=\\\\",', b","):
            require(_certificate_in(form, front + value) == found, "the client's own word counts", front, value)


def fuzz_api_key(data: bytes) -> None:
    """A key has one spelling, and no key is left when up to four bytes before the checksum are changed."""
    prefix = KEYS.prefix_of(data)
    if prefix is not None:
        require(re.fullmatch(rb"wh_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", data), "a key of another form", data)
        require(data.startswith(prefix.encode()) and len(prefix) == 15, "another public part", data, prefix)
        require(checksum(data[:-6]).encode() == data[-6:], "a key whose checksum is wrong", data)
    split = Splitter(data)
    at, change = split.number(len(_KEY_BODY) - 3), split.rest()[:4]
    changed = API_KEY[:at] + change + API_KEY[at + len(change) :]
    good = KEYS.prefix_of(changed) is not None
    require(good == (changed == API_KEY), "a changed key is a key", changed)


def fuzz_challenge(data: bytes) -> None:
    """A challenge stands in one header, whatever the scopes are called."""
    scopes = data.decode("utf-8", "replace").split(",")
    challenge = bearer_challenge(realm="api", error="insufficient_scope", scopes=scopes)
    require(
        re.fullmatch(rb'Bearer realm="api", error="insufficient_scope"(, scope="[^"\\]+")?', challenge),
        "malformed",
        challenge,
    )
    require(re.fullmatch(rb"[ -~]+", challenge), "the challenge breaks its header", challenge)


def _certificate_in(form: CertificateFormat, value: bytes) -> ClientCertificate | None:
    try:
        return read_certificate(form, value)
    except MalformedCertificate:
        return None


def _refuses(key: Key, algorithm: str) -> bool:
    try:
        key.verify(algorithm, b"signed", b"\0" * 64)
    except Refused:
        return True
    return False


def _check_fetched(url: str) -> None:
    require(re.fullmatch(r"[!-~]{1,2048}", url), "a URL with more than visible ASCII", url)
    read = httpx.URL(url)
    plain = re.match(r"(?i)https?://(\[[^\]]*\]|[^/?:]*)", url)
    require(
        plain is not None and read.host.lower() == plain[1].strip("[]").lower(), "another host is asked", url, read.host
    )
    require(not read.userinfo and not read.fragment, "a user or a fragment", url)


def _jwk(**changed: object) -> bytes:
    return json.dumps({"keys": [{**JWK, **changed}]}).encode()


HARNESSES: Final = (
    Harness(
        name="credentials.token",
        run=fuzz_token,
        seeds=(b"Bearer " + TOKEN, b"bearer  e30.e30.AA", b"Bearer eyJhbGciOiJub25lIn0.e30.AA", NOT_UTF8),
    ),
    Harness(
        name="credentials.claims",
        run=fuzz_claims,
        seeds=(
            b"\x02" + json.dumps(CLAIMS).encode(),
            b"\x00" + json.dumps({**CLAIMS, "scope": ["a", "b"], "org": {"id": "x"}, "nbf": 1.5}).encode(),
            b"\x01" + json.dumps({**CLAIMS, "cnf": {"x5t#S256": "abc"}, "typ": "Bearer", "nonce": "n"}).encode(),
        ),
    ),
    Harness(
        name="credentials.bearer",
        run=fuzz_bearer,
        seeds=(b"\x00Bearer " + TOKEN, b"\x01\x00\x05A", b"\x02\x00\x40..", b"\x03\x00\x10", b"\x00Basic YTpi"),
    ),
    Harness(
        name="credentials.keys",
        run=fuzz_keys,
        seeds=(JWKS, _jwk(d="x"), _jwk(use="enc"), _jwk(kty="RSA", n="AQAB", e="AQAB"), _jwk(crv="P-256", kty="EC")),
    ),
    Harness(
        name="credentials.metadata",
        run=fuzz_metadata,
        seeds=(METADATA, METADATA.replace(b"/keys", b":8443/keys?a=b"), b'{"issuer": "x"}'),
    ),
    Harness(
        name="credentials.url",
        run=fuzz_url,
        seeds=(
            b"https://login>example.com/keys",
            b"https://a.example/\x7f",
            ISSUER.encode(),
            b"https://a.example:8443/x?y",
            b"http://127.0.0.1:80/",
            b"https://[::1]/",
            b"http://localhost",
        ),
        max_bytes=512,
    ),
    Harness(
        name="credentials.certificate",
        run=fuzz_certificate,
        seeds=(
            b"\x00:" + base64.b64encode(DER) + b":",
            b"\x01By=spiffe://a;Hash=" + b"ab" * 32 + b';Subject="CN=a,O=\\"b\\"";URI=spiffe://x;DNS=a.example',
            b"\x02-----BEGIN%20CERTIFICATE-----%0A" + base64.b64encode(DER) + b"%0A-----END%20CERTIFICATE-----",
            b"\x02" + base64.b64encode(DER),
        ),
    ),
    Harness(name="credentials.api_key", run=fuzz_api_key, seeds=(API_KEY, b"\x05A", b"\x40ABCD"), max_bytes=128),
    Harness(name="credentials.challenge", run=fuzz_challenge, seeds=(b"a:b,c", b'x"y,\\', b"")),
)
