"""Which tokens let their bearer in, and for which reason each other one does not."""

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.identity.oidc_server import AUDIENCE, SigningKey, good_claims, hand_made, rsa_private, signing_key
from workhorse.errors import SettingsError
from workhorse.identity import Bearer, ClaimNames, Credentials, Issuer, NotAuthenticated
from workhorse.principal import Kind, Principal

ISSUER = "https://login.example.com"
RSA = SigningKey(rsa_private(), "RS256", "rsa")
EC = signing_key("ES256", "ec")
ED = signing_key("EdDSA", "ed")
WIDE = SigningKey(rsa_private(), "RS256", "wide")  # published without `alg`


def key_set(*jwks: dict[str, Any]) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def bearer(*jwks: dict[str, Any], claims: ClaimNames | None = None, audience: str = AUDIENCE, **options: Any) -> Bearer:
    published = jwks or (RSA.jwk, EC.jwk, ED.jwk, {k: v for k, v in WIDE.jwk.items() if k != "alg"})
    issuer = Issuer(ISSUER, keys=key_set(*published), claims=claims or ClaimNames(), **options)
    return Bearer(issuer, audience=audience)


def verify(scheme: Bearer, token: str | bytes, certificate: bytes | None = None, now: float | None = None) -> Principal:
    text = token.encode() if isinstance(token, str) else token
    credentials = Credentials(authorization=b"Bearer " + text, certificate=certificate)
    return asyncio.run(scheme.verify(credentials, time.time() if now is None else now))


def reason(scheme: Bearer, token: str | bytes, **options: Any) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        verify(scheme, token, **options)
    assert refused.value.headers == ((b"www-authenticate", b'Bearer realm="api", error="invalid_token"'),)
    assert refused.value.reason not in f"{refused.value.detail} {refused.value.title}".split()
    return str(refused.value.reason)


def claims(**changes: Any) -> dict[str, Any]:
    return good_claims(ISSUER, **changes)


def test_a_token_says_who_calls_and_what_they_may() -> None:
    end = time.time() + 60
    token = EC.sign(claims(scope="read write", scp=["pay"], roles=["teller"], jti="t1", exp=end, org={"id": "acme"}))
    principal = verify(bearer(claims=ClaimNames(tenant="org.id")), token)
    assert principal.id == f"{ISSUER}|alice"
    assert principal.kind is Kind.TOKEN
    assert principal.scopes == {"read", "write", "pay"}
    assert principal.roles == {"teller"}
    assert principal.tenant == "acme"
    assert principal.credential == "t1"
    assert principal.expires == pytest.approx(end)
    assert principal.claims["org"] == {"id": "acme"}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_without_an_algorithm_takes_each_of_its_kind(algorithm: str) -> None:
    assert verify(bearer(), WIDE.sign(claims(), alg=algorithm)).subject == "alice"


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA"])
def test_each_curve_signs_with_its_own_algorithm(algorithm: str) -> None:
    key = signing_key(algorithm)
    assert verify(bearer(key.jwk), key.sign(claims())).subject == "alice"


def test_a_name_with_dots_is_a_claim_before_it_is_a_path() -> None:
    names = ClaimNames(roles="https://bank.example/roles", tenant="realm_access.tenant")
    token = EC.sign(claims(**{"https://bank.example/roles": "auditor", "realm_access": {"tenant": "acme"}}))
    principal = verify(bearer(claims=names), token)
    assert principal.roles == {"auditor"}
    assert principal.tenant == "acme"


def test_one_of_several_audiences_is_enough() -> None:
    assert verify(bearer(), EC.sign(claims(aud=["https://other.example", AUDIENCE]))).subject == "alice"


def test_a_set_with_one_key_needs_no_name_of_it() -> None:
    nameless = signing_key("ES256", None)
    assert verify(bearer(nameless.jwk), nameless.sign(claims())).subject == "alice"


def unsigned(**header: Any) -> str:
    return hand_made({"alg": "ES256", "typ": "at+jwt", "kid": "ec", **header}, claims())


def by_hmac_with_the_public_key() -> str:
    """The key confusion of RFC 8725, section 2.1: the public key is no secret."""
    pem = RSA.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = hand_made({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}, claims()).rpartition(".")[0]
    mac = hmac.new(pem, signed.encode(), sha256).digest()
    return f"{signed}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def signed_by_a_stranger(**header: Any) -> str:
    return signing_key("ES256", "ec").sign(claims(), **header)


def with_other_claims_behind_the_signature() -> str:
    head, _, signature = EC.sign(claims()).split(".")
    return f"{head}.{EC.sign(claims(sub='mallory')).split('.')[1]}.{signature}"


def with_a_spare_bit_in_the_signature() -> str:
    token = EC.sign(claims())  # 64 bytes: four bits of the last character mean nothing
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


HOSTILE: dict[str, tuple[str, Callable[[], str]]] = {
    "unsigned, and says so": ("algorithm", lambda: hand_made({"alg": "none"}, claims(), b"") + "AA"),
    "unsigned, and says nOnE": ("algorithm", lambda: hand_made({"alg": "nOnE", "kid": "ec"}, claims())),
    "no signature at all": ("malformed", lambda: hand_made({"alg": "none"}, claims(), b"")),
    "the public RSA key as the secret of an HMAC": ("algorithm", by_hmac_with_the_public_key),
    "an algorithm that nobody knows": ("algorithm", lambda: unsigned(alg="ES256K")),
    "an RSA algorithm for an EC key": ("algorithm", lambda: RSA.sign(claims(), kid="ec")),
    "an algorithm that is not the key's own": ("algorithm", lambda: RSA.sign(claims(), alg="RS512")),
    "PSS for a key that is for PKCS 1": ("algorithm", lambda: RSA.sign(claims(), alg="PS256")),
    "a stranger's key under a known name": ("signature", signed_by_a_stranger),
    "a key in the header": ("signature", lambda: signed_by_a_stranger(jwk=signing_key("ES256").jwk)),
    "a URL of keys in the header": ("signature", lambda: signed_by_a_stranger(jku="https://evil.example/keys")),
    "a certificate in the header": ("signature", lambda: signed_by_a_stranger(x5c=["MIIB"], x5u="https://evil")),
    "a key that is not published": ("unknown_key", lambda: signing_key("ES256", "other").sign(claims())),
    "a name of a key that is a path": ("unknown_key", lambda: EC.sign(claims(), kid="../../dev/null")),
    "no name of the key, with several published": ("unknown_key", lambda: EC.sign(claims(), kid=None)),
    "claims of another token": ("signature", with_other_claims_behind_the_signature),
    "an empty signature of EC": ("signature", lambda: hand_made({"alg": "ES256", "kid": "ec"}, claims(), b"\0" * 64)),
    "the same signature in other letters": ("malformed", with_a_spare_bit_in_the_signature),
    "a critical extension": ("critical", lambda: EC.sign(claims(), crit=["exp"])),
    "an empty list of critical extensions": ("critical", lambda: EC.sign(claims(), crit=[])),
    "an unencoded payload": ("critical", lambda: unsigned(b64=True)),
    "an encrypted token": ("malformed", lambda: "e30.e30.e30.e30.e30"),
    "a header that is no JSON": ("malformed", lambda: "e3.e30.e30"),
    "a header that is a list": ("malformed", lambda: "W10.e30.e30"),
    "a name of the key that is a number": ("malformed", lambda: unsigned(kid=1)),
    "claims that are a list": ("malformed", lambda: hand_made({"alg": "ES256", "kid": "ec"}, b"[]")),
    "claims that are nested beyond end": (
        "malformed",
        lambda: hand_made({"alg": "ES256"}, b'{"a":' + b"[" * 5000, b"x"),
    ),
    "a token over the size": ("too_large", lambda: EC.sign(claims(padding="x" * 8192))),
    "a logout token": ("type", lambda: EC.sign(claims(), typ="logout+jwt")),
    "a security event": ("type", lambda: EC.sign(claims(events={}), typ="JWT")),
    "an ID token, by its nonce": ("type", lambda: EC.sign(claims(nonce="n"), typ=None)),
    "an ID token, by its hash": ("type", lambda: EC.sign(claims(at_hash="h"), typ="JWT")),
    "Keycloak's ID token": ("type", lambda: EC.sign(claims(typ="ID"), typ="JWT")),
    "Keycloak's refresh token": ("type", lambda: EC.sign(claims(typ="Refresh"), typ="JWT")),
    "Cognito's ID token": ("type", lambda: EC.sign(claims(token_use="id"), typ=None)),
    "another issuer": ("issuer", lambda: EC.sign(claims(iss="https://evil.example"))),
    "the issuer with a slash": ("issuer", lambda: EC.sign(claims(iss=ISSUER + "/"))),
    "no issuer": ("issuer", lambda: EC.sign(claims(iss=None))),
    "a list of issuers": ("issuer", lambda: hand_made({"alg": "ES256", "kid": "ec"}, claims(iss=[ISSUER]))),
    "another audience": ("audience", lambda: EC.sign(claims(aud="https://other.example"))),
    "an audience that begins the same": ("audience", lambda: EC.sign(claims(aud=AUDIENCE + ".evil.example"))),
    "no audience": ("audience", lambda: EC.sign(claims(aud=None))),
    "audiences that are no strings": ("audience", lambda: EC.sign(claims(aud=[{}, None]))),
    "expired": ("expired", lambda: EC.sign(claims(exp=time.time() - 31))),
    "without an end": ("claims", lambda: EC.sign(claims(exp=None))),
    "an end in milliseconds": ("claims", lambda: EC.sign(claims(exp=time.time() * 1000))),
    "an end that is no number": ("claims", lambda: hand_made({"alg": "ES256", "kid": "ec"}, claims(exp="soon"))),
    "an end that is true": ("claims", lambda: EC.sign(claims(exp=True))),
    "not yet good": ("not_yet", lambda: EC.sign(claims(nbf=time.time() + 60))),
    "issued in the future": ("not_yet", lambda: EC.sign(claims(iat=time.time() + 60))),
    "no subject": ("claims", lambda: EC.sign(claims(sub=None))),
    "an empty subject": ("claims", lambda: EC.sign(claims(sub=""))),
    "a subject with a NUL": ("claims", lambda: EC.sign(claims(sub="alice\0"))),
    "scopes that are a number": ("claims", lambda: EC.sign(claims(scope=1))),
    "roles that are numbers": ("claims", lambda: EC.sign(claims(roles=[1]))),
    "bound to a certificate": ("binding", lambda: EC.sign(claims(cnf={"x5t#S256": "abc"}))),
    "bound to a DPoP key": ("binding", lambda: EC.sign(claims(cnf={"jkt": "abc"}))),
    "bound to both": ("binding", lambda: EC.sign(claims(cnf={"jkt": "abc", "x5t#S256": "abc"}))),
    "bound to nothing in particular": ("binding", lambda: EC.sign(claims(cnf={}))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_this_token_is_refused(name: str) -> None:
    expected, make = HOSTILE[name]
    assert reason(bearer(), make()) == expected


HARMLESS: dict[str, Callable[[], str]] = {
    "the type at+jwt in full": lambda: EC.sign(claims(), typ="application/AT+JWT"),
    "the type JWT": lambda: EC.sign(claims(), typ="JWT"),
    "no type": lambda: EC.sign(claims(), typ=None),
    "a nonce in an access token of Keycloak": lambda: EC.sign(claims(nonce="n", typ="Bearer"), typ="JWT"),
    "a nonce in a typed access token": lambda: EC.sign(claims(nonce="n")),
    "a `typ` of somebody's own": lambda: EC.sign(claims(typ="customer"), typ="JWT"),
    "a clock that is behind": lambda: EC.sign(claims(exp=time.time() - 29)),
    "a clock that is ahead": lambda: EC.sign(claims(nbf=time.time() + 29)),
    "claims that are null": lambda: EC.sign({**claims(), "scope": None, "nbf": None, "cnf": None}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_this_token_is_taken(name: str) -> None:
    assert verify(bearer(), HARMLESS[name]()).subject == "alice"


def test_claims_nested_deeper_than_the_decoder_goes_are_malformed() -> None:
    scheme = Bearer(Issuer(ISSUER, keys=key_set(EC.jwk)), audience=AUDIENCE, max_token_bytes=400_000)
    assert reason(scheme, hand_made({"alg": "ES256"}, b'{"a":' + b"[" * 200_000)) == "malformed"


def test_an_issuer_with_typed_tokens_takes_no_others() -> None:
    assert reason(bearer(typed=True), EC.sign(claims(), typ="JWT")) == "type"
    assert verify(bearer(typed=True), EC.sign(claims())).subject == "alice"


def test_a_longest_lifetime_is_kept_with_and_without_the_time_of_issue() -> None:
    scheme = bearer(max_lifetime_seconds=900)
    assert verify(scheme, EC.sign(claims())).subject == "alice"
    assert reason(scheme, EC.sign(claims(exp=time.time() + 1000))) == "lifetime"
    assert reason(scheme, EC.sign(claims(exp=time.time() + 1000, iat=None))) == "lifetime"


UNUSABLE: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "an RSA key of 1024 bits": ("1024 bits", lambda: SigningKey(rsa_private(1024), "RS256", "k").jwk),
    "an RSA key with the exponent 3": (
        "exponent is 3",
        lambda: {**SigningKey(rsa_private(), "RS256", "k").jwk, "e": "Aw"},
    ),
    "a private key": ("private part", lambda: {**EC.jwk, "d": "AQ"}),
    "a point beside the curve": ("cannot be read", lambda: {**EC.jwk, "x": EC.jwk["y"]}),
    "a coordinate that is a number": ("Expected `str`", lambda: {**EC.jwk, "x": 1}),
    "no coordinates": ("cannot be read", lambda: {"kty": "EC", "crv": "P-256"}),
    "a shared secret": ("asymmetric", lambda: {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
    "a key for encryption": ("asymmetric", lambda: {**EC.jwk, "use": "enc"}),
    "a key that may only sign": ("asymmetric", lambda: {**EC.jwk, "key_ops": ["sign"]}),
    "a P-256 key with P-384's algorithm": ("asymmetric", lambda: {**EC.jwk, "alg": "ES384"}),
    "an EC key with an HMAC's algorithm": ("asymmetric", lambda: {**EC.jwk, "alg": "HS256"}),
    "a curve that is not taken": ("asymmetric", lambda: {**EC.jwk, "crv": "secp256k1"}),
    "a curve that is a list": ("Expected `str`", lambda: {**EC.jwk, "crv": []}),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_this_key_is_not_used(name: str) -> None:
    fault, make = UNUSABLE[name]
    with pytest.raises(SettingsError, match=fault):
        bearer(make())


def test_an_unusable_key_does_not_spoil_the_others() -> None:
    weak = SigningKey(rsa_private(1024), "RS256", "weak").jwk
    assert verify(bearer(weak, {"kty": "future"}, EC.jwk), EC.sign(claims())).subject == "alice"


def test_two_keys_of_one_name_are_none() -> None:
    twin = signing_key("ES256", "ec")
    assert reason(bearer(EC.jwk, twin.jwk), EC.sign(claims())) == "unknown_key"


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000])
def test_what_is_no_set_of_keys_is_said(document: bytes) -> None:
    with pytest.raises(SettingsError, match=r"no JWK Set: it "):
        Bearer(Issuer(ISSUER, keys=document), audience=AUDIENCE)


def test_one_issuers_keys_do_not_sign_for_another() -> None:
    other = signing_key("ES256", "ec")
    scheme = Bearer(
        Issuer(ISSUER, keys=key_set(EC.jwk)),
        Issuer("https://other.example", keys=key_set(other.jwk)),
        audience=AUDIENCE,
    )
    assert verify(scheme, other.sign(good_claims("https://other.example"))).issuer == "https://other.example"
    assert reason(scheme, other.sign(claims())) == "signature"


FUZZED = bearer()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_raise_nothing_else(text: bytes) -> None:
    for authorization in (text, b"Bearer " + text):
        credentials = Credentials(authorization=authorization)
        FUZZED.presents(credentials)
        assert FUZZED.recall(credentials, 0) is None
        with pytest.raises(NotAuthenticated):
            asyncio.run(FUZZED.verify(credentials, time.time()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), JSON),
    st.dictionaries(st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "cnf", "typ", "nonce", "sub"]), JSON),
    st.binary(max_size=80),
)
def test_any_unsigned_claims_are_refused_and_raise_nothing_else(
    header: dict[str, Any], said: dict[str, Any], signature: bytes
) -> None:
    token = hand_made({"alg": "ES256", "kid": "ec", **header}, {**claims(), **said}, signature)
    with pytest.raises(NotAuthenticated):
        verify(FUZZED, token)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["aud", "exp", "iat", "cnf", "typ", "scope", "scp", "roles", "sub"]), JSON))
def test_a_signed_token_with_any_claims_makes_a_principal_or_is_refused(said: dict[str, Any]) -> None:
    try:
        principal = verify(FUZZED, EC.sign({**claims(), **said}))
    except NotAuthenticated:
        return
    assert principal.subject == said.get("sub", "alice")
    assert all(isinstance(scope, str) for scope in principal.scopes | principal.roles)


VALID = {key.kid: key.sign(claims(exp=time.time() + 86_400)).encode() for key in (RSA, EC, ED)}


@settings(deadline=None)
@given(st.sampled_from(sorted(VALID, key=str)), st.data())
def test_any_other_byte_anywhere_makes_a_token_worthless(kid: str, data: st.DataObject) -> None:
    token = VALID[kid]
    position = data.draw(st.integers(0, len(token) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[position]))
    assert reason(FUZZED, token[:position] + bytes([byte]) + token[position + 1 :])
    assert verify(FUZZED, token).subject == "alice"
