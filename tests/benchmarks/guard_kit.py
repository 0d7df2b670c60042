"""What the tests of the guard's benchmark share: credentials made without the peers' libraries."""

import base64
import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.guard.traffic import Credentials

ISSUER = "https://idp.example.com/"


def make_credentials(count: int = 2) -> Credentials:
    key = generate_private_key(65_537, 2_048)
    public = key.public_key()
    numbers = public.public_numbers()

    def text(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()

    jwk = {"kty": "RSA", "n": text(numbers.n), "e": text(numbers.e), "kid": "k1", "alg": "RS256", "use": "sig"}
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "api", "iat": now, "exp": now + 3600, "scope": "items:read items:write"}
    return Credentials(
        public_key=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        key_set=json.dumps({"keys": [jwk]}),
        issuer=ISSUER,
        audience="api",
        tokens=tuple(
            jwt.encode({**claims, "sub": f"user-{n}"}, key, algorithm="RS256", headers={"kid": "k1"})
            for n in range(count)
        ),
        session="s" * 80,
        csrf="c" * 200,
    )
