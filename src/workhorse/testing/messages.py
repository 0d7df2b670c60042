"""Cuts the bytes of Postgres' frontend/backend protocol 3 into its messages.

Source: PostgreSQL documentation, "Message Formats". A message is a type byte, a length of four bytes that counts
itself and the body, and the body. What a client says first has no type byte: its start-up message, or a request for
encryption or cancellation, which only a number in it tells apart.

Pure: bytes in, whole messages out, however the bytes were chopped. Each message keeps its bytes as they came, so that
who passes all of them on has changed nothing.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from workhorse.errors import WorkhorseError

__all__ = ["MAX_MESSAGE_BYTES", "Message", "MessageReader", "Opening", "WireError"]

MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
"""The longest message that is taken; a longer one is held to be a misread length."""
MAX_OPENING_BYTES: Final = 10_000
"""The server's own limit on a start-up packet (MAX_STARTUP_PACKET_LENGTH)."""
_LENGTH: Final = struct.Struct("!I")


class WireError(WorkhorseError):
    """The bytes are not of Postgres' protocol."""


class Opening(IntEnum):
    """The numbers by which a client asks for something else than to be let in."""

    CANCEL = 80877102
    TLS = 80877103
    GSS = 80877104


class Message(NamedTuple):
    """One message.

    `kind` is its type byte, and empty for what a client says first; `data` is all of its bytes.
    """

    kind: bytes
    data: bytes

    @property
    def body(self) -> bytes:
        """What follows the length."""
        return self.data[len(self.kind) + 4 :]

    @property
    def opening(self) -> int:
        """The number that a message without a type begins with: an `Opening`, or else a version of the protocol."""
        number: int = _LENGTH.unpack_from(self.data, 4)[0]
        return number


class MessageReader:
    """Collects the bytes of one direction, and gives back whole messages.

    Args:
        opening: whether it is the client's side, which begins with messages that have no type byte.
    """

    __slots__ = ("_opening", "_pending")

    def __init__(self, *, opening: bool = False) -> None:
        self._pending = bytearray()
        self._opening = opening

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Message]:
        """Take further bytes; return the messages that they complete.

        Raises:
            WireError: a length is impossible.
        """
        pending = self._pending
        pending += data
        messages: list[Message] = []
        start = 0
        while (size := self._size(pending, start)) and len(pending) - start >= size:
            kind = b"" if self._opening else bytes(pending[start : start + 1])
            message = Message(kind, bytes(pending[start : start + size]))
            messages.append(message)
            start += size
            if self._opening and message.opening not in {Opening.TLS, Opening.GSS}:
                self._opening = False
        del pending[:start]
        return messages

    def _size(self, pending: bytearray, start: int) -> int:
        """How long the message at `start` is, type and all; 0 while its length has not come."""
        type_bytes = 0 if self._opening else 1
        if len(pending) - start < type_bytes + 4:
            return 0
        length: int = _LENGTH.unpack_from(pending, start + type_bytes)[0]
        shortest, longest = (8, MAX_OPENING_BYTES) if self._opening else (4, MAX_MESSAGE_BYTES)
        if not shortest <= length <= longest:
            raise WireError(
                f"a message of Postgres' protocol cannot be {length} bytes long, but {shortest} to {longest}:"
                " is this another protocol, or is it encrypted?"
            )
        return type_bytes + length
