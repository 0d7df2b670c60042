"""A real OpenID provider on a loopback port: metadata, keys that rotate, and the ways in which providers fail."""

import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

AUDIENCE = "https://api.bank.example"
METADATA = "/.well-known/openid-configuration"
OAUTH_METADATA = "/.well-known/oauth-authorization-server"
KEYS = "/keys"
CURVES: dict[str, Any] = {"ES256": SECP256R1, "ES384": SECP384R1, "ES512": SECP521R1}


class SigningKey:
    """A private key with its name and algorithm."""

    def __init__(self, private: Any, algorithm: str, kid: str | None = "") -> None:
        self.private = private
        self.algorithm = algorithm
        self.kid = uuid4().hex if kid == "" else kid

    @property
    def jwk(self) -> dict[str, Any]:
        """The public part."""
        kind = jwt.get_algorithm_by_name("EdDSA" if self.algorithm == "Ed25519" else self.algorithm)
        public: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**public, **named, "alg": self.algorithm, "use": "sig"}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token. A header of None is left out."""
        own = {"typ": "at+jwt", "kid": self.kid, **header}
        algorithm = own.pop("alg", self.algorithm)
        return jwt.encode(
            dict(claims), self.private, algorithm=algorithm, headers={k: v for k, v in own.items() if v is not None}
        )


@cache
def rsa_private(bits: int = 2048, number: int = 0) -> Any:
    """An RSA key, made once: it takes a tenth of a second."""
    return generate_rsa(65537, bits)


def signing_key(algorithm: str = "ES256", kid: str | None = "") -> SigningKey:
    """A new key; an RSA one is new in name only."""
    if algorithm in CURVES:
        return SigningKey(generate_ec(CURVES[algorithm]()), algorithm, kid)
    if algorithm in {"EdDSA", "Ed25519"}:
        return SigningKey(Ed25519PrivateKey.generate(), algorithm, kid)
    return SigningKey(rsa_private(), algorithm, kid)


def good_claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Claims of an access token. A claim of None is left out."""
    now = time.time()
    claims = {"iss": issuer, "sub": "alice", "aud": AUDIENCE, "iat": int(now), "exp": now + 600, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def hand_made(header: Mapping[str, Any], claims: Mapping[str, Any] | bytes, signature: bytes = b"x" * 64) -> str:
    """A token that no library would make."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    parts = (json.dumps(header).encode(), payload, signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class OidcServer:
    """An issuer. Use it as a context manager."""

    def __init__(self, *, path: str = "", algorithm: str = "ES256", tls: Path | None = None) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        # A reader that does not trust our certificate hangs up.
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._http.daemon_threads = True
        self._http.oidc = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._http.server_address[1]}"
        self.path = path
        self.issuer = self.base + path
        self.keys = [signing_key(algorithm)]
        self.fetches: Counter[str] = Counter()
        self.metadata: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": self.base + KEYS}
        self.metadata_path = f"{path}{METADATA}"
        self.documents: dict[str, bytes] = {}
        """Served in place of what belongs there."""
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.gate = threading.Event()
        """While it is not set, nothing is answered."""
        self.gate.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def rotate(self) -> SigningKey:
        """Sign with a new key from now on, and publish no other."""
        self.keys = [signing_key()]
        return self.keys[0]

    def token(self, **changes: Any) -> str:
        """A good access token, but for `changes` of its claims."""
        return self.keys[-1].sign(good_claims(self.issuer, **changes))

    def answer(self, path: str) -> tuple[int, bytes]:
        """What is served at a path."""
        self.fetches[path] += 1
        self.gate.wait(10)
        status = self.statuses.get(path, 200)
        if path in self.documents:
            return status, self.documents[path]
        if path == self.metadata_path:
            return status, json.dumps(self.metadata).encode()
        if path == KEYS:
            return status, json.dumps({"keys": [key.jwk for key in self.keys]}).encode()
        return 404, b"{}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        oidc: OidcServer = self.server.oidc  # type: ignore[attr-defined]
        status, body = oidc.answer(self.path)
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **oidc.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # the reader had enough

    def log_message(self, *args: Any) -> None:
        """Nothing: the test says what went wrong."""
