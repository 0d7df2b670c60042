"""An issuer of tokens, because the bank runs under production's rules, which take no development tokens.

As small as an issuer can be: its metadata and its key, over HTTP on this machine, which a `Bearer` asks for as it
would ask any other's (OpenID Connect Discovery 1.0). It signs with RS256, as most issuers do; a bank that knows a
token does not verify it again, so the algorithm weighs little.
"""

import contextlib
import json
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from benchmarks.processes import HOST

__all__ = ["AUDIENCE", "TOKENS", "Issuer", "run_issuer"]

AUDIENCE: Final = "https://api.bank.example"
TOKENS: Final = 1_000
"""Callers of the load, each with a token of its own."""
# Longer than any run.
LIFE_SECONDS: Final = 7 * 86_400
SCOPES: Final = "accounts:read transfers:read transfers:write"


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer that answers."""

    name: str
    """Its `iss`, which is its URL."""
    key: RSAPrivateKey

    def mint(self, count: int = TOKENS) -> tuple[str, ...]:
        """Sign tokens of `count` different callers."""
        now = int(time.time())
        common = {"iss": self.name, "aud": AUDIENCE, "iat": now, "exp": now + LIFE_SECONDS, "scope": SCOPES}
        headers = {"kid": "k1", "typ": "at+jwt"}
        return tuple(
            jwt.encode(
                {**common, "sub": f"caller-{number}", "jti": f"{number:032x}"}, self.key, "RS256", headers=headers
            )
            for number in range(count)
        )


@contextlib.contextmanager
def run_issuer() -> Generator[Issuer]:
    """Serve an issuer's documents as long as the context lasts."""
    documents: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path)
            self.send_response(404 if document is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(document or b"")))
            self.end_headers()
            self.wfile.write(document or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the names are the library's
            """Say nothing: what is asked here is no part of what is printed."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        name = f"http://{HOST}:{server.server_address[1]}"
        key = generate_private_key(65_537, 2_048)
        public = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1", "alg": "RS256", "use": "sig"}
        documents["/.well-known/openid-configuration"] = json.dumps(
            {"issuer": name, "jwks_uri": f"{name}/keys"}
        ).encode()
        documents["/keys"] = json.dumps({"keys": [public]}).encode()
        thread = threading.Thread(target=server.serve_forever, name="issuer", daemon=True)
        thread.start()
        try:
            yield Issuer(name, key)
        finally:
            server.shutdown()
            thread.join()
