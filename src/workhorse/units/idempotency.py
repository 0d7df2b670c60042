"""What an Idempotency-Key means, decided without touching anything.

A key is scoped by its caller, the method and the path, so that nobody is ever sent another caller's reply. The body
that came with it is remembered by its digest, so that one key never stands for two orders. Both follow the IETF
draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header), which says what the client
is told; what is kept, and that it commits with the effects, is Workhorse's.

A key that is older than its reply is refused as stale, where the draft would let it run again: to a payment that is
retried a day late, running again is the very thing that the key was meant to prevent.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.asgi import Reply, Scope
from workhorse.context import CURRENT
from workhorse.errors import PROBLEM_PREFIX, Fault, Problem
from workhorse.units.sealing import CannotOpen, Seal

__all__ = [
    "Caller",
    "Claim",
    "KeyInFlight",
    "KeyMalformed",
    "KeyMissing",
    "KeyReused",
    "KeyStale",
    "ReplyNotKept",
    "answer",
    "authorization_of",
    "caller_of",
    "kept_columns",
    "make_claim",
    "pack_headers",
    "parse_key",
]

Caller = Callable[[Scope], str]
"""Names who sends a request, so that keys of different callers never meet."""

HEADER: Final = "Idempotency-Key"
MAX_KEY: Final = 255
REPLAYED: Final = (b"idempotent-replayed", b"true")

logger = logging.getLogger(__name__)

_VISIBLE: Final = re.compile(rb"[!-~]+").fullmatch
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode


class KeyMissing(Problem):
    """400: the route takes no request without an Idempotency-Key."""

    status = 400
    type = PROBLEM_PREFIX + "idempotency-key-missing"
    title = "This request needs an Idempotency-Key"

    def __init__(self) -> None:
        super().__init__(
            "Send a header Idempotency-Key with a value that no other request of yours has, such as a UUID.",
            faults=[Fault(HEADER, "is missing")],
        )


class KeyMalformed(Problem):
    """400: the key is empty, too long, or holds what is not visible ASCII."""

    status = 400
    type = PROBLEM_PREFIX + "idempotency-key-malformed"
    title = "The Idempotency-Key is malformed"

    def __init__(self) -> None:
        super().__init__(f"A key has 1 to {MAX_KEY} visible ASCII characters.", faults=[Fault(HEADER, "is malformed")])


class KeyReused(Problem):
    """422: the key was used before, for a request with another content."""

    status = 422
    type = PROBLEM_PREFIX + "idempotency-key-reused"
    title = "The Idempotency-Key was used for another request"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this key had another body. Nothing was done. Use a new key for a new request.",
            faults=[Fault(HEADER, "was used before with another body")],
        )


class KeyInFlight(Problem):
    """409: the first request with this key is still under way, for longer than a retry may wait."""

    status = 409
    type = PROBLEM_PREFIX + "idempotency-key-in-flight"
    title = "The first request with this Idempotency-Key is still under way"

    def __init__(self) -> None:
        super().__init__("Send it again later, with the same key.", headers=((b"retry-after", b"1"),))


class KeyStale(Problem):
    """409: the key took effect so long ago that its reply is no longer kept."""

    status = 409
    type = PROBLEM_PREFIX + "idempotency-key-stale"
    title = "The Idempotency-Key is stale"

    def __init__(self) -> None:
        super().__init__(
            "A request with this key took effect, and its reply is no longer kept. Nothing was done again. Look at the"
            " outcome, and use a new key for a new request.",
            faults=[Fault(HEADER, "is stale")],
        )


class ReplyNotKept(Problem):
    """409: the key took effect, but its reply was streamed or too large to be kept."""

    status = 409
    type = PROBLEM_PREFIX + "idempotent-reply-not-kept"
    title = "The request took effect, but its reply was not kept"

    def __init__(self, status: int) -> None:
        super().__init__(f"The first request with this key was answered with status {status}. Nothing was done again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A key on its way through a unit."""

    scope: UUID
    """128-bit digest of caller, method, path and key."""
    digest: bytes
    """SHA-256 of query, content type and body."""

    @property
    def lock_key(self) -> int:
        """The key of the advisory lock, a signed 64-bit number. Two keys that share one merely wait for each other."""
        return int.from_bytes(self.scope.bytes[:8], "big", signed=True)


def parse_key(value: bytes) -> str:
    """Read the header's value: a quoted string as in the draft, or the bare key that most clients send.

    Raises:
        KeyMalformed: it is neither.
    """
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    if len(value) > MAX_KEY or _VISIBLE(value) is None:
        raise KeyMalformed
    return value.decode("ascii")


def caller_of(scope: Scope) -> str:
    """The caller as the guard's identity knows it; where it knows none, as `authorization_of` names it."""
    request = CURRENT.get(None)
    if request is not None and request.principal.is_authenticated:
        return f"principal {request.principal.key}"
    return authorization_of(scope)


def authorization_of(scope: Scope) -> str:
    """The caller as its Authorization header names it; callers without one share the empty name.

    An app whose callers are known by a cookie, or whose tokens are renewed between two tries, gives `Service` a
    `caller` of its own.
    """
    for name, value in scope["headers"]:
        if name == b"authorization":
            return sha256(value).hexdigest()
    return ""


def make_claim(scope: Scope, *, caller: str, key: str, body: bytes) -> Claim:
    """Digest a request. Each part is preceded by its length, so that no two requests share one digest's input."""
    content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    # Half a surrogate pair, which an issuer's JSON can hold, is taken as it is: nobody ever reads these bytes back.
    place = _framed(*(part.encode("utf-8", "surrogatepass") for part in (caller, scope["method"], scope["path"], key)))
    return Claim(
        scope=UUID(bytes=blake2b(place, digest_size=16).digest()),
        digest=sha256(_framed(scope.get("query_string", b""), content_type, body)).digest(),
    )


def answer(claim: Claim, row: Sequence[Any], seal: Seal | None = None) -> Reply | Problem:
    """What a request gets whose key has taken effect before. `row` is that of the query `claim_reply`."""
    digest, status, headers, body, stale, *key_id = row
    if bytes(digest) != claim.digest:
        return KeyReused()
    if stale:
        return KeyStale()
    if body is None:
        return ReplyNotKept(status)
    headers, body = bytes(headers), bytes(body)
    if key_id and key_id[0] is not None:
        if seal is None:
            logger.error("a kept reply is encrypted, and no key for kept replies is configured; nothing was run again")
            return ReplyNotKept(status)
        try:
            headers = seal.open(bytes(key_id[0]), claim.scope, b"headers", headers)
            body = seal.open(bytes(key_id[0]), claim.scope, b"body", body)
        except CannotOpen:
            logger.exception("the reply kept for a retried Idempotency-Key cannot be opened; nothing was run again")
            return ReplyNotKept(status)
    return Reply(status=status, headers=(*_unpack(headers), REPLAYED), body=body)


def kept_columns(
    claim: Claim, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes | None, seal: Seal | None = None
) -> tuple[UUID, bytes, int, bytes, bytes | None, bytes | None]:
    """The parameters of the query `keep_reply`: a reply as it is kept, encrypted if there is a seal."""
    packed = pack_headers(headers)
    if seal is None:
        return claim.scope, claim.digest, status, packed, body, None
    packed = seal.seal(claim.scope, b"headers", packed)
    sealed = None if body is None else seal.seal(claim.scope, b"body", body)
    return claim.scope, claim.digest, status, packed, sealed, seal.key_id


def pack_headers(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are kept: without cookies, which are for the one client that the first reply went to."""
    return _pack([(bytes(name), bytes(value)) for name, value in headers if name.lower() != b"set-cookie"])


def _framed(*parts: bytes) -> bytes:
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
