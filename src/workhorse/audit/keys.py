"""Ed25519 keys with a name, as C2SP signed-note writes them: one line each, for files and settings.

    PRIVATE+KEY+bank.example/audit+1a2b3c4d+AeM9…    the signer's, secret
    bank.example/audit+1a2b3c4d+AUxb…                the verifier's, to hand out

The eight hexadecimal digits are the key's id: it says which of the known keys signed, and proves nothing. It covers the
kind of signature, so one key can never be taken for another kind: a log signs a note (kind 1), a witness signs that it
saw a tree at a time (kind 4).
"""

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workhorse.audit.faults import Malformed

__all__ = ["COSIGNATURE", "ED25519", "Signer", "Verifier", "check_key_name", "new_signer", "read_base64"]

ED25519: Final = 1
"""The kind of a log's signature: over the text of the note."""
COSIGNATURE: Final = 4
"""The kind of a witness's signature: over the text and the time (C2SP tlog-cosignature, v1)."""

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
TIMESTAMP_BYTES: Final = 8
MAX_TIMESTAMP: Final = 2**63 - 1
MAX_KEY_TEXT: Final = 1_000

_PRIVATE: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name."""

    name: str
    kind: int
    """`ED25519` or `COSIGNATURE`."""
    public_key: bytes
    """32 bytes (RFC 8032)."""

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if self.kind not in {ED25519, COSIGNATURE} or len(self.public_key) != SEED_BYTES:
            raise Malformed(f"the key {self.name!r} is no Ed25519 key of kind {ED25519} or {COSIGNATURE}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key.

        Raises:
            Malformed: it is none, or its id is not that of its key.
        """
        name, id_, kind, key = _parse(text)
        verifier = cls(name, kind, key)
        if verifier.id != id_:
            raise Malformed(f"the key {name!r} has the id {verifier.id.hex()}, not {id_.hex()}")
        return verifier

    @property
    def id(self) -> bytes:
        """Four bytes that name the key among others."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key).digest()[:4]

    def __str__(self) -> str:
        material = b64encode(bytes([self.kind]) + self.public_key).decode()
        return f"{self.name}+{self.id.hex()}+{material}"

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Whether this key signed this text of a note."""
        if self.kind == COSIGNATURE:
            if len(signature) != TIMESTAMP_BYTES + SIGNATURE_BYTES:
                return False
            seconds = signed_at(signature)
            if seconds > MAX_TIMESTAMP:
                return False
            text, signature = cosigned_message(text, seconds), signature[TIMESTAMP_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its name."""

    name: str
    kind: int
    seed: bytes = field(repr=False)
    """32 bytes (RFC 8032)."""

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if self.kind not in {ED25519, COSIGNATURE} or len(self.seed) != SEED_BYTES:
            raise Malformed(f"the private key {self.name!r} is no Ed25519 key of kind {ED25519} or {COSIGNATURE}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a signer key. The text never appears in a message.

        Raises:
            Malformed: it is none, or its id is not that of its key.
        """
        if not text.startswith(_PRIVATE):
            raise Malformed(f"a private key begins with {_PRIVATE}; this may be a verifier's")
        name, id_, kind, seed = _parse(text.removeprefix(_PRIVATE))
        signer = cls(name, kind, seed)
        if signer.verifier.id != id_:
            raise Malformed(f"the private key {name!r} has not the id that it says")
        return signer

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return Verifier(self.name, self.kind, public)

    def reveal(self) -> str:
        """The text to keep secret."""
        material = b64encode(bytes([self.kind]) + self.seed).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{material}"

    def sign(self, text: bytes, *, seconds: int | None = None) -> bytes:
        """Sign the text of a note.

        Args:
            text: with its last newline.
            seconds: of a cosignature alone, which needs it: when, since 1970.

        Raises:
            ValueError: the kind of the key and the time do not go together.
        """
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        if self.kind == ED25519:
            if seconds is not None:
                raise ValueError("a log's signature has no time; a cosignature has")
            return key.sign(text)
        if seconds is None or not 0 <= seconds <= MAX_TIMESTAMP:
            raise ValueError(f"a cosignature needs its time in seconds since 1970, not {seconds}")
        return seconds.to_bytes(TIMESTAMP_BYTES, "big") + key.sign(cosigned_message(text, seconds))


def new_signer(name: str, *, kind: int = ED25519, random: Callable[[int], bytes]) -> Signer:
    """Make a key.

    Args:
        name: who signs, such as `bank.example/audit`; no spaces and no `+`.
        kind: `ED25519` for a log, `COSIGNATURE` for a witness.
        random: gives so many bytes that nobody can guess, such as `secrets.token_bytes`.

    Raises:
        Malformed: the name cannot be one.
    """
    return Signer(name, kind, random(SEED_BYTES))


def check_key_name(name: str) -> None:
    """Raise Malformed unless this may be the name of a key."""
    if not name or "+" in name or any(one.isspace() or ord(one) < 0x20 or 0xD800 <= ord(one) < 0xE000 for one in name):
        raise Malformed(f"{name[:100]!r} is no name of a key: it has no spaces and no +, such as bank.example/audit")


def signed_at(signature: bytes) -> int:
    """When a cosignature was made, in seconds since 1970."""
    return int.from_bytes(signature[:TIMESTAMP_BYTES], "big")


def cosigned_message(text: bytes, seconds: int) -> bytes:
    """What a witness signs: the text of a checkpoint, and when it was the largest that it had seen."""
    return b"cosignature/v1\ntime %d\n" % seconds + text


def read_base64(text: str) -> bytes:
    """Read standard base64 with padding, of which each value has one spelling.

    Raises:
        Malformed: it is none, or not that spelling.
    """
    try:
        raw = a2b_base64(text, strict_mode=True) if text else b""
    except (Base64Error, ValueError) as error:
        raise Malformed(f"{text[:80]!r} is not base64: {error}") from error
    if b64encode(raw).decode() != text:
        raise Malformed(f"{text[:80]!r} is not the base64 that its bytes have")
    return raw


def _parse(text: str) -> tuple[str, bytes, int, bytes]:
    """The name, id, kind and key material of a key's text. Its material is in no message: it may be private."""
    name, _, rest = text.partition("+")
    id_, _, material = rest.partition("+")
    check_key_name(name)
    if len(text) > MAX_KEY_TEXT or len(id_) != 8 or not set(id_) <= set("0123456789abcdef"):
        raise Malformed(f"the key {name[:100]!r} is not NAME+ID+KEY, with an id of 8 lower hexadecimal digits")
    try:
        raw = read_base64(material)
    except Malformed:
        raise Malformed(f"the key {name[:100]!r} is not base64") from None
    if len(raw) != 1 + SEED_BYTES or raw[0] not in {ED25519, COSIGNATURE}:
        raise Malformed(f"the key {name[:100]!r} is no Ed25519 key of kind {ED25519} or {COSIGNATURE}")
    return name, bytes.fromhex(id_), raw[0], raw[1:]
