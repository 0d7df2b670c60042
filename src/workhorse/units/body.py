"""A request's body, remembered while its request may have to be run again."""

from typing import Final

from workhorse.asgi import Message, Receive

__all__ = ["Body", "ClientGone"]

# A longer body is not remembered, and its request not repeated by itself.
REPEATABLE_BYTES: Final = 1024 * 1024


class Body:
    """The request's messages as the app reads them, remembered so that they can be read again."""

    __slots__ = ("_bytes", "_next", "_receive", "_taken", "broken", "repeatable")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._taken: list[Message] = []
        self._bytes = 0
        self._next = 0
        self.repeatable = True
        self.broken: Exception | None = None
        """What ended the reading, such as the guard's refusal of a body that is too large."""

    async def receive(self) -> Message:
        """Give the next message: a remembered one, else the server's."""
        if self._next < len(self._taken):
            self._next += 1
            return self._taken[self._next - 1]
        try:
            message = await self._receive()
        except Exception as error:
            self.broken = error
            raise
        if self.repeatable and message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > REPEATABLE_BYTES:
                self.repeatable = False
                self._taken.clear()
                self._next = 0
            else:
                self._taken.append(message)
                self._next += 1
        return message

    @property
    def taken(self) -> bytes | None:
        """What the app has read of it so far; None where it was too long to be remembered."""
        if not self.repeatable:
            return None
        return b"".join(message.get("body", b"") for message in self._taken)

    def rewind(self) -> None:
        """Begin again with the first message."""
        self._next = 0

    async def read(self) -> bytes:
        """Read the whole body, which the guard has bounded, and keep it for the app."""
        chunks: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        body = b"".join(chunks)
        self._taken = [{"type": "http.request", "body": body, "more_body": False}]
        return body


class ClientGone(Exception):
    """The client went away before its request was complete. There is nobody to answer."""
