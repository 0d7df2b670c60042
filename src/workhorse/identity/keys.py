"""The public keys of an issuer (JWK Set, RFC 7517), and which algorithms each of them may be used with.

The algorithm belongs to the key, never to the token. A key is read once into a verifier that is bound to its own kind:
an RSA key cannot be taken for the secret of an HMAC, nor a P-256 key be used with P-384's digest, whatever a token's
header says, because no such pair is in the table. There is no entry for `none` and none for a symmetric algorithm.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple

import jwt.algorithms
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.exceptions import PyJWTError

from workhorse.identity.reason import Reason, Refused

__all__ = ["ALGORITHMS", "Key", "KeySet", "MalformedKeySet", "read_key_set", "thumbprint"]

MIN_RSA_BITS: Final = 2048
MIN_RSA_EXPONENT: Final = 65537
"""FIPS 186-5, section 5.4; and decision 0016 rests on it."""
"""RFC 7518, section 3.3; NIST SP 800-131A."""
MAX_RSA_BITS: Final = 8192
"""A longer one makes each verification cost milliseconds."""
MAX_KEYS: Final = 100

_DEFAULTS: Final = jwt.algorithms.get_default_algorithms()
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# RFC 7518, section 3.4, binds each algorithm to one curve; RFC 8037 and RFC 9864 name Ed25519.
_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA", "Ed25519")}
_VERIFIERS: Final = {
    **{name: _DEFAULTS[name] for name in (*_RSA, "ES256", "ES384", "ES512", "EdDSA")},
    "Ed25519": _DEFAULTS["EdDSA"],
}

ALGORITHMS: Final = frozenset(_VERIFIERS)
"""What a token may be signed with: all of them asymmetric."""

Check = Callable[[bytes, bytes], bool]


class MalformedKeySet(ValueError):
    """A document is no JWK Set. The text says why, for the operator."""


class Key:
    """One public key. It is the same object for as long as its issuer publishes it."""

    __slots__ = ("_checks", "good_until", "kid", "thumbprint")

    def __init__(self, *, kid: str, thumbprint: bytes, checks: Mapping[str, Check]) -> None:
        self.kid = kid
        self.thumbprint = thumbprint
        """SHA-256 of the key's own members (RFC 7638)."""
        self._checks = checks
        self.good_until = 0.0
        """Until when tokens of this key may be recalled, in seconds since 1970; 0 once it is no longer published."""

    def __repr__(self) -> str:
        return f"<Key {self.kid or '(no kid)'} for {', '.join(self.algorithms)}>"

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What it may be used with."""
        return tuple(self._checks)

    def is_same(self, other: "Key") -> bool:
        """Whether `other` is this key, under the same name and for the same use."""
        return (self.kid, self.thumbprint, self.algorithms) == (other.kid, other.thumbprint, other.algorithms)

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> None:
        """Check a signature.

        Raises:
            Refused: algorithm, or signature.
        """
        check = self._checks.get(algorithm)
        if check is None:
            raise Refused(Reason.ALGORITHM)
        if not check(signed, signature):
            raise Refused(Reason.SIGNATURE)


class KeySet(NamedTuple):
    """The keys of an issuer that can be used, and what is wrong with the others."""

    keys: Sequence[Key] = ()
    faults: Sequence[str] = ()

    def select(self, kid: str | None) -> Key | None:
        """The key that a token means; None if that is none of these.

        A token that does not say is understood where there is one key only. Two keys of one name are none.
        """
        found = self.keys if kid is None else [key for key in self.keys if key.kid == kid]
        return found[0] if len(found) == 1 else None

    def succeed(self, earlier: "KeySet") -> "KeySet":
        """These keys, being the same objects where they were there before. Those that are gone are good no longer."""
        keys = [next((known for known in earlier.keys if known.is_same(key)), key) for key in self.keys]
        for gone in earlier.keys:
            if gone not in keys:
                gone.good_until = 0.0
        return KeySet(keys, self.faults)

    def extend(self, until: float) -> None:
        """Let tokens of these keys be recalled until then."""
        for key in self.keys:
            key.good_until = until


def read_key_set(document: bytes) -> KeySet:
    """Read a JWK Set. A key that is not for us is left out, and one that must not be used is named in `faults`.

    Raises:
        MalformedKeySet: it is not JSON, has no list of keys, or has more than 100.
    """
    try:
        decoded: Any = msgspec.json.decode(document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedKeySet(f"it is not JSON ({error})") from None
    members: Any = decoded.get("keys") if isinstance(decoded, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(members, list):
        raise MalformedKeySet("it has no list `keys` (RFC 7517, section 5)")
    jwks: list[Any] = members  # pyright: ignore[reportUnknownVariableType]
    if len(jwks) > MAX_KEYS:
        raise MalformedKeySet(f"it has {len(jwks)} keys, and at most {MAX_KEYS} are read")
    keys: list[Key] = []
    faults: list[str] = []
    for position, jwk in enumerate(jwks):
        try:
            key = _read_key(msgspec.convert(jwk, Jwk))
        except (UnusableKey, msgspec.ValidationError) as error:
            faults.append(f"key {position + 1}: {error}")
        else:
            keys += [key] if key is not None else []
    return KeySet(keys, faults)


class Jwk(msgspec.Struct, frozen=True):
    """The members of a key that are read. Certificates beside it (`x5c`) are not: the document's own TLS vouches."""

    kty: str
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    kid: Annotated[str, msgspec.Meta(max_length=512)] | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    d: Any = msgspec.UNSET


class UnusableKey(Exception):  # not a WorkhorseError: it becomes a line of `KeySet.faults`
    """A key that is meant for signatures and must not be used."""


def _read_key(jwk: Jwk) -> Key | None:
    """A key; None for one that is not for checking signatures with an algorithm of ours."""
    if jwk.use not in {None, "sig"} or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        return None
    public, fitting = _shape(jwk)
    algorithms = tuple(name for name in fitting if jwk.alg in {None, name})
    if not algorithms:
        return None
    if jwk.d is not msgspec.UNSET:
        raise UnusableKey("its private part is published, so that anybody can sign with it: replace it at once")
    try:
        loaded: Any = _VERIFIERS[algorithms[0]].from_jwk(dict(public))
    except (PyJWTError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"it cannot be read ({error})") from None
    if isinstance(loaded, RSAPublicKey) and not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
        raise UnusableKey(f"its modulus has {loaded.key_size} bits, and {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken")
    if isinstance(loaded, RSAPublicKey) and loaded.public_numbers().e < MIN_RSA_EXPONENT:
        raise UnusableKey(f"its exponent is {loaded.public_numbers().e}, and {MIN_RSA_EXPONENT} or more is taken")
    return Key(
        kid=jwk.kid or "", thumbprint=thumbprint(public), checks={name: _check(name, loaded) for name in algorithms}
    )


def _shape(jwk: Jwk) -> tuple[Mapping[str, str], Sequence[str]]:
    """The members that are the key itself (RFC 7638, section 3.2), and the algorithms that it fits."""
    if jwk.kty == "RSA":
        return {"e": jwk.e, "kty": "RSA", "n": jwk.n}, _RSA
    if jwk.kty == "EC" and jwk.crv in {"P-256", "P-384", "P-521"}:
        return {"crv": jwk.crv, "kty": "EC", "x": jwk.x, "y": jwk.y}, _CURVES[jwk.crv]
    if jwk.kty == "OKP" and jwk.crv == "Ed25519":
        return {"crv": jwk.crv, "kty": "OKP", "x": jwk.x}, _CURVES[jwk.crv]
    return {}, ()


def thumbprint(public: Mapping[str, str]) -> bytes:
    """SHA-256 of the members that are the key itself (RFC 7638, section 3)."""
    return sha256(msgspec.json.encode(public, order="sorted")).digest()


def _check(algorithm: str, public: Any) -> Check:
    verify = _VERIFIERS[algorithm].verify
    return lambda signed, signature: bool(verify(signed, public, signature))
