"""Notices that a client has gone away while the app works for it, for routes that ask to be ended then.

ASGI tells of it in the same stream as the body, and an app that is at work does not read that. Here a task reads
ahead: by one message, so that a client cannot fill the memory while the app does not read. It is noticed once the body
has been read.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from workhorse.asgi import Message, Receive

__all__ = ["ReadAhead"]


class ReadAhead:
    """Reads the messages of one request for the app.

    Args:
        receive: where they come from.
        gone: called once when the client is gone.
    """

    def __init__(self, receive: Receive, gone: Callable[[], None]) -> None:
        self._source = receive
        self._gone = gone
        # One message, and beside it the last word: that the client is gone, or what ended the reading.
        self._messages: asyncio.Queue[Message | Exception] = asyncio.Queue(maxsize=2)
        self._last: Message | Exception | None = None
        self.waiting = False
        """Whether the app waits for the client: the reading ahead itself is no waiting of the app's."""
        self.waited_seconds = 0.0
        self._task = asyncio.create_task(self._read(), name="read ahead")

    async def receive(self) -> Message:
        """The next message. After the last one, that again."""
        given = self._last if self._last is not None else await self._next()
        if isinstance(given, Exception):
            self._last = given
            raise given
        if given["type"] == "http.disconnect":
            self._last = given
        return given

    async def _next(self) -> Message | Exception:
        self.waiting, began = True, monotonic()
        try:
            return await self._messages.get()
        finally:
            self.waited_seconds += monotonic() - began
            self.waiting = False

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        # Not `await self._task`: a cancellation of the request that arrives here would be taken for the task's.
        await asyncio.wait({self._task})

    async def _read(self) -> None:
        while True:
            try:
                message = await self._source()
            except Exception as error:  # noqa: BLE001 - raised where the app reads
                await self._messages.put(error)
                return
            if message["type"] == "http.disconnect":
                self._gone()
                await self._messages.put(message)
                return
            await self._messages.put(message)
