"""Signatures of webhooks, as Standard Webhooks has them (https://www.standardwebhooks.com, version 1.0.0).

What is signed is `id.timestamp.body`: so neither can the body be changed, nor an old message be sent again as a new
one. A secret `whsec_...` is symmetric (HMAC-SHA-256, signature `v1`), a key `whsk_...` is an Ed25519 private key
(signature `v1a`), whose `whpk_...` the receiver may know without being able to sign. While a secret is changed there
are two, and a message carries both signatures: a receiver takes it for good if one of them is.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from workhorse.errors import SettingsError

__all__ = ["TOLERANCE_SECONDS", "SignatureWrong", "check_secret", "sign", "verify"]

TOLERANCE_SECONDS: Final = 300
SYMMETRIC: Final = "whsec_"
PRIVATE: Final = "whsk_"
PUBLIC: Final = "whpk_"
MIN_SECRET_BYTES: Final = 24
MAX_SECRET_BYTES: Final = 64
SEED_BYTES: Final = 32
MAX_SIGNATURES: Final = 16


class SignatureWrong(ValueError):
    """A message is not what somebody who has the secret has signed, or it is too old."""


def sign(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one message, with a signature by each of `secrets`.

    Args:
        secrets: `whsec_` and base64 of 24 to 64 random bytes, or `whsk_` and base64 of an Ed25519 seed.
        message_id: the same at each attempt.
        timestamp: of this attempt, in seconds since 1970.
        body: as it is sent.
    """
    signed = _signed(message_id, timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> str:
    """Check a message, for who receives it. Returns its id, by which a repeat is told.

    Args:
        secrets: any of them may have signed: `whsec_...`, or `whpk_...` of an Ed25519 key.
        headers: of the request, their names in lower case.
        body: as it came.
        now: in seconds since 1970.
        tolerance_seconds: how far the sender's clock may be away.

    Raises:
        SignatureWrong: it is not signed by any of them, or not now.
    """
    try:
        message_id, given = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"].split(" ")[:MAX_SIGNATURES]
    except KeyError as error:
        raise SignatureWrong(f"the message has no header {error}") from None
    if not given.isascii() or not given.isdigit() or abs(now - int(given)) > tolerance_seconds:
        raise SignatureWrong(f"the message is of {given[:20]!r}, which is not within {tolerance_seconds:g} s of now")
    signed = _signed(message_id, int(given), body)
    for signature in signatures:
        if any(_is_by(secret, signature, signed) for secret in secrets):
            return message_id
    raise SignatureWrong("no signature of the message is by a secret that is known here")


def check_secret(secret: str) -> None:
    """See that it is one to sign with.

    Raises:
        SettingsError: it is not. The message does not show it.
    """
    try:
        length = len(b64decode(secret.partition("_")[2], validate=True))
    except ValueError:
        length = 0
    if secret.startswith(SYMMETRIC) and MIN_SECRET_BYTES <= length <= MAX_SECRET_BYTES:
        return
    if secret.startswith(PRIVATE) and length == SEED_BYTES:
        return
    raise SettingsError(
        f"a webhook's secret of {len(secret)} characters is neither {SYMMETRIC} and base64 of {MIN_SECRET_BYTES} to"
        f" {MAX_SECRET_BYTES} bytes, nor {PRIVATE} and base64 of the {SEED_BYTES} bytes of an Ed25519 key; make one:"
        f" echo {SYMMETRIC}$(openssl rand -base64 32)"
    )


def _signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


def _signature(secret: str, signed: bytes) -> str:
    key = b64decode(secret.partition("_")[2])
    if secret.startswith(PRIVATE):
        return "v1a," + b64encode(_ed25519().Ed25519PrivateKey.from_private_bytes(key).sign(signed)).decode()
    return "v1," + b64encode(hmac.digest(key, signed, sha256)).decode()


def _is_by(secret: str, signature: str, signed: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    try:
        given, key = b64decode(encoded, validate=True), b64decode(secret.partition("_")[2], validate=True)
    except ValueError:
        return False
    if version == "v1" and secret.startswith(SYMMETRIC):
        return hmac.compare_digest(given, hmac.digest(key, signed, sha256))
    if version == "v1a" and secret.startswith(PUBLIC):
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as below

        try:
            _ed25519().Ed25519PublicKey.from_public_bytes(key).verify(given, signed)
        except (InvalidSignature, ValueError):
            return False
        return True
    return False


def _ed25519() -> Any:
    # Only here: whoever signs by HMAC needs no cryptography.
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    return ed25519
