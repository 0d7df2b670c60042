"""A code for an ID token, at the issuer's token endpoint (RFC 6749, section 4.1.3; OpenID Connect Core, section 3.1.3).

The client proves itself as the issuer offers it: with a key of its own (`private_key_jwt`), which leaves nothing with
the issuer that could be stolen there; with its secret in a header, or in the form; or, if it has neither, by PKCE
alone. Whatever else comes with the ID token is dropped at once: who is logged in is kept by the session, and a token
that is not kept is not stolen.
"""

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Final
from urllib.parse import quote_plus

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from workhorse.errors import SettingsError
from workhorse.identity.discovery import IssuerAway
from workhorse.identity.login.attempt import Attempt
from workhorse.identity.login.problems import Stop, Stopped
from workhorse.identity.login.provider import ProviderMetadata
from workhorse.identity.login.wire import Wire

__all__ = ["Client", "Tokens", "exchange"]

ASSERTION_SECONDS: Final = 60
MIN_RSA_BITS: Final = 2048
MAX_WORD: Final = 100

SigningKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What of the token endpoint's reply is read (OpenID Connect Core, section 3.1.3.3)."""

    id_token: str
    access_token: str = ""


class TokenError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the token endpoint refused (RFC 6749, section 5.2)."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """This service, as the issuer knows it.

    Raises:
        SettingsError: it has no id, two proofs, or a key that cannot be used.
    """

    client_id: str
    secret: str = ""
    key: SigningKey | None = None
    algorithm: str = ""
    key_id: str = ""

    def __repr__(self) -> str:
        """Without secret and key."""
        return f"<Client {self.client_id}>"

    @classmethod
    def of(cls, client_id: str, *, secret: str, key_pem: bytes, key_id: str) -> "Client":
        """Make one of what the code names.

        Raises:
            SettingsError: see the class.
        """
        if not client_id or not client_id.isprintable():
            raise SettingsError(f"client_id is {client_id!r}; write the id that the issuer gave this service")
        if secret and key_pem:
            raise SettingsError(f"the client {client_id} has a secret and a key; give it one of the two")
        if not key_pem:
            return cls(client_id=client_id, secret=secret)
        key, algorithm = _load(key_pem)
        return cls(client_id=client_id, key=key, algorithm=algorithm, key_id=key_id)

    def proof(self, metadata: ProviderMetadata, *, now: float) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The members of the form and the headers by which the client proves itself."""
        if self.key is not None:
            return {
                "client_id": self.client_id,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self._assertion(metadata.issuer, now),
            }, {}
        if not self.secret:
            return {"client_id": self.client_id}, {}
        offered = metadata.token_endpoint_auth_methods_supported
        if "client_secret_post" in offered and "client_secret_basic" not in offered:
            return {"client_id": self.client_id, "client_secret": self.secret}, {}
        # RFC 6749, section 2.3.1: both are form-encoded first, so that a colon or an umlaut in them survives.
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        return {}, {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def _assertion(self, issuer: str, now: float) -> str:
        # The issuer and nothing else as audience: an assertion for the token endpoint of one issuer was worth
        # something at another that had named the same endpoint (draft-ietf-oauth-rfc7523bis).
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": token_urlsafe(16),
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
        }
        headers = {"kid": self.key_id} if self.key_id else None
        assert self.key is not None
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers=headers)


async def exchange(wire: Wire, client: Client, metadata: ProviderMetadata, attempt: Attempt, code: str) -> Tokens:
    """Give the code for the ID token. The caller sets the deadline.

    Raises:
        Stopped: code.
        IssuerAway: it cannot be told whether the code was good. The text says what is wrong.
    """
    proof, headers = client.proof(metadata, now=time.time())
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": attempt.party.redirect_uri,
        "code_verifier": attempt.verifier,
        **proof,
    }
    answer = await wire.post(metadata.token_endpoint, form, headers)
    if answer.status == 200:
        try:
            return msgspec.json.decode(answer.body, type=Tokens)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise IssuerAway(f"{metadata.token_endpoint} gave no ID token; is the scope openid allowed?") from None
    try:
        error = msgspec.json.decode(answer.body, type=TokenError).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        error = ""
    if answer.status == 400 and error == "invalid_grant":
        raise Stopped(Stop.CODE)
    # Any other is a mistake of ours or trouble of the issuer's: invalid_client, for one, is a wrong secret.
    raise IssuerAway(f"{metadata.token_endpoint} answers with status {answer.status} {error[:MAX_WORD]!r}")


def _load(pem: bytes) -> tuple[SigningKey, str]:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError("client_key is no private key; give it as PEM, in PKCS #8 and without password") from None
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key, "RS256"
    raise SettingsError("client_key is of a kind that is not taken: use P-256, Ed25519, or RSA of 2048 bits or more")
