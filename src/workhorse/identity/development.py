"""An issuer for development and tests, so that an app is guarded from its first day without an account anywhere.

Its key is an Ed25519 key in the folder of the embedded servers, made by the first process that wants it and read by
the others. `workhorse token alice` signs with it, and a `Bearer` that names no issuer takes what it signed. There is
no server: who can read the file can be anybody, which on a developer's machine is the developer.

In production its tokens are worth nothing, also to somebody who has the file: there no `Bearer` reads it, the name of
this issuer cannot be given to one, and `workhorse token` refuses.
"""

import contextlib
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_urlsafe
from time import time
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workhorse.embedded.folder import Folder
from workhorse.errors import SettingsError, StartupError
from workhorse.identity.issuer import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
from workhorse.identity.jws import b64url_encode
from workhorse.identity.keys import Key, KeySet, read_key_set, thumbprint
from workhorse.identity.reason import Reason, Refused
from workhorse.settings import Settings, UnsafeSetting

__all__ = [
    "DevelopmentIssuer",
    "DevelopmentKeys",
    "no_issuer",
    "refuse_in_production",
]

FILE_NAME: Final = "development-issuer.pem"
MAX_FILE_BYTES: Final = 4096
OWN_CLAIMS: Final = frozenset({"iss", "sub", "aud", "exp", "iat", "jti", "scope"})


class DevelopmentIssuer:
    """Makes tokens for development and tests.

    Args:
        settings: the project's settings, which say where the key is.

    Raises:
        SettingsError: the environment is production.
        StartupError: the key cannot be made or read; the message says what to do.
    """

    def __init__(self, settings: Settings) -> None:
        refuse_in_production(settings)
        self._private = _load_or_make(settings.embedded_folder)
        self._public = _public_members(self._private)
        self._kid = b64url_encode(thumbprint(self._public)).decode()

    @property
    def key_set(self) -> bytes:
        """Its public key, as a JWK Set."""
        return msgspec.json.encode({"keys": [{**self._public, "kid": self._kid, "alg": "EdDSA", "use": "sig"}]})

    def mint(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        audience: str = DEVELOPMENT_AUDIENCE,
        lifetime_seconds: float = 3600,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign an access token (RFC 9068).

        Args:
            subject: who it is for.
            scopes: what it allows.
            audience: whom it is to be shown to.
            lifetime_seconds: how long it is good for from now; negative: it has ended already.
            claims: further claims, such as `roles` and `tenant`.

        Raises:
            SettingsError: the subject is empty, a scope has a space, or a claim is one that has an argument of its own.
        """
        further = dict(claims or {})
        words = list(scopes)
        if not subject or any(not word or " " in word for word in words):
            raise SettingsError("a token has a subject, and scopes without spaces")
        if taken := sorted(OWN_CLAIMS.intersection(further)):
            raise SettingsError(f"these claims are not given as such, but as arguments: {', '.join(taken)}")
        now = time()
        own = {
            "iss": DEVELOPMENT_ISSUER,
            "sub": subject,
            "aud": audience,
            "iat": math.floor(now),
            "exp": math.ceil(now + lifetime_seconds),
            "jti": token_urlsafe(12),
            "scope": " ".join(words),
        }
        return jwt.encode(
            {**further, **own}, self._private, algorithm="EdDSA", headers={"kid": self._kid, "typ": "at+jwt"}
        )


class DevelopmentKeys:
    """The public key of the development issuer, as `Bearer` asks for it.

    It is read when the first token comes, so that an app which is only looked at makes no files; and again when a
    token names another key, because `workhorse services reset` makes a new one.
    """

    def __init__(self, settings: Settings) -> None:
        refuse_in_production(settings)
        self._settings = settings
        self._keys = KeySet()

    async def open(self) -> None:
        """Make the key, if there is none yet.

        Raises:
            StartupError: it cannot be made or read.
        """
        self._read()

    async def find(self, kid: str | None, now: float) -> Key:
        """The key, if a token names it.

        Raises:
            Refused: unknown_key.
        """
        del now  # it does not age
        key = self._keys.select(kid)
        if key is None:
            self._read()
            key = self._keys.select(kid)
        if key is None:
            raise Refused(Reason.UNKNOWN_KEY)
        return key

    async def close(self) -> None:
        """Nothing is under way."""

    def _read(self) -> None:
        self._keys = read_key_set(DevelopmentIssuer(self._settings).key_set).succeed(self._keys)
        self._keys.extend(math.inf)


def no_issuer() -> UnsafeSetting:
    """What production is told where no issuer is named."""
    return UnsafeSetting(
        "identity.issuers",
        "no issuer of tokens is named, and the development issuer is for development",
        'name yours: WORKHORSE_IDENTITY__ISSUERS="https://login.example.com"',
    )


def refuse_in_production(settings: Settings) -> None:
    """Refuse the development issuer where real data is at stake.

    Raises:
        SettingsError: the environment is production.
    """
    if settings.production:
        raise SettingsError(
            "the development issuer is not for production, where its tokens are worth nothing: name the issuer of"
            ' your tokens, as in Bearer("https://login.example.com", audience="https://api.example.com")'
        )


def _load_or_make(folder: Path) -> Ed25519PrivateKey:
    home = Folder.at(folder)
    home.prepare()
    path = home.path / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        pem = _read_private(path)
        key = serialization.load_pem_private_key(pem, password=None)
    except OSError as error:
        raise StartupError(f"the key of the development issuer, {path}, cannot be used: {error}") from error
    except (ValueError, TypeError) as error:
        raise StartupError(f"{path} holds no private key: delete it, and a new one is made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StartupError(f"{path} holds a key of another kind than Ed25519: delete it, and a new one is made")
    return key


def _make(path: Path) -> None:
    """Make the file whole or not at all, and only once: a link fails where the name is taken, a rename does not."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()


def _read_private(path: Path) -> bytes:
    """Read a file that nobody else may read or write."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise StartupError(
                f"{path} belongs to another user, or others may use it: delete it, and a new one is made"
            )
        return file.read(MAX_FILE_BYTES)


def _public_members(private: Ed25519PrivateKey) -> Mapping[str, str]:
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": b64url_encode(raw).decode()}
