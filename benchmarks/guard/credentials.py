"""Makes what proves who calls: an issuer's key, a thousand signed tokens, and the cookies of the peers' sessions."""

import base64
import importlib
import json
import secrets
import time
from typing import Final

from benchmarks.guard.traffic import Credentials

__all__ = ["AUDIENCE", "ISSUER", "SECRET", "TOKENS", "make_credentials"]

ISSUER: Final = "https://idp.example.com/"
AUDIENCE: Final = "api"
TOKENS: Final = 1_000
SECRET: Final = "benchmark"  # noqa: S105 - guards nothing
LIFE_SECONDS: Final = 86_400


def make_credentials(count: int = TOKENS) -> Credentials:
    """Make a key and `count` tokens, each of another user.

    The libraries are the peers', which are in the benchmarks' environment only; so they are imported here.
    """
    jwt = importlib.import_module("jwt")
    algorithms = importlib.import_module("jwt.algorithms")
    rsa = importlib.import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    itsdangerous = importlib.import_module("itsdangerous")
    url_safe = importlib.import_module("itsdangerous.url_safe")

    key = rsa.generate_private_key(65_537, 2_048)
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    jwk = {**json.loads(algorithms.RSAAlgorithm.to_jwk(public)), "kid": "k1", "alg": "RS256", "use": "sig"}
    now = int(time.time())
    tokens = tuple(
        jwt.encode(
            {
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": f"user-{number:05d}",
                "jti": f"{number:032x}",
                "iat": now,
                "exp": now + LIFE_SECONDS,
                "scope": "items:read items:write",
                "tenant": f"t{number % 20}",
                "roles": ["clerk"],
            },
            key,
            algorithm="RS256",
            headers={"kid": "k1", "typ": "at+jwt"},
        )
        for number in range(count)
    )
    session = base64.b64encode(json.dumps({"uid": 42, "locale": "en"}).encode())
    return Credentials(
        public_key=pem,
        key_set=json.dumps({"keys": [jwk]}),
        issuer=ISSUER,
        audience=AUDIENCE,
        tokens=tokens,
        session=itsdangerous.TimestampSigner(SECRET).sign(session).decode(),
        csrf=url_safe.URLSafeSerializer(SECRET, "csrftoken").dumps(secrets.token_urlsafe(128)),
    )
