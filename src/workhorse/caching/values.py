"""A value as the store keeps it: ten bytes that say how it was made, and the value encoded."""

import struct
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec
import msgspec.inspect

from workhorse.contracts import CacheHit
from workhorse.errors import SettingsError

__all__ = ["Codec", "Found", "Kept", "codec_of", "open_kept", "seal"]

T = TypeVar("T")

FORM: Final = 1
"""Of the head. What has another one is not read."""

VALUE: Final = 0
ABSENT: Final = 1

HEAD: Final = struct.Struct("<BBII")
"""Form, kind, and in milliseconds: how long making took, and how long the value may be given when it is over."""

MOST_MS: Final = 2**32 - 1


class Codec(NamedTuple, Generic[T]):
    """How values become bytes.

    For a pydantic model `Price`:

        Codec(lambda price: price.model_dump_json().encode(), Price.model_validate_json)

    `decode` raises ValueError for bytes that are no such value; then the entry counts as missing.
    """

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


class Kept(NamedTuple):
    """An entry, opened as far as the head. The value is decoded when it is wanted."""

    payload: bytes
    absent: bool
    make_seconds: float
    left_seconds: float
    """Until the value is over; below 0 where it is already, and may be given while another is made."""

    @property
    def fresh(self) -> bool:
        """Whether it is not over."""
        return self.left_seconds > 0


class Found(NamedTuple, Generic[T]):
    """A value that is there; None where it is known to be absent."""

    value: T | None
    absent: bool


def codec_of(kind: type[T]) -> Codec[T]:
    """Bytes as they are; anything else that msgspec knows, as MessagePack, checked against the type when it is read.

    Raises:
        SettingsError: msgspec does not know the type.
    """
    if kind is bytes:
        # Bytes are their own encoding.
        return cast("Codec[T]", Codec[bytes](bytes, bytes))
    if isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
        raise SettingsError(f"a cache does not know how {kind!r} becomes bytes: give `open` a codec for it")
    decoder: Any = msgspec.msgpack.Decoder(kind)
    return Codec(msgspec.msgpack.Encoder().encode, decoder.decode)


def seal(payload: bytes | None, *, make_seconds: float, stale_seconds: float) -> bytes:
    """The bytes to keep. No payload: the value is absent."""
    kind = ABSENT if payload is None else VALUE
    return HEAD.pack(FORM, kind, milliseconds(make_seconds), milliseconds(stale_seconds)) + (payload or b"")


def open_kept(hit: CacheHit | None) -> Kept | None:
    """The entry; None if there is none, or it is not one of ours."""
    if hit is None or len(hit.data) < HEAD.size:
        return None
    form, kind, make_ms, stale_ms = HEAD.unpack_from(hit.data)
    if form != FORM or kind not in {VALUE, ABSENT}:
        return None
    left_seconds = hit.left_seconds - stale_ms / 1000
    return Kept(hit.data[HEAD.size :], kind == ABSENT, make_ms / 1000, left_seconds)


def milliseconds(seconds: float) -> int:
    """As much of it as the head has room for."""
    return min(max(0, round(seconds * 1000)), MOST_MS)
