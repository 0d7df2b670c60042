"""Gathers what arrives while others are under way, without a timer.

A lane that is free takes everything that waits, up to a bound, and is busy until that is done. With nobody about, a
single item leaves at once; under load, the batches grow by themselves to what arrives during one round. A pause to let
more arrive never made anything faster, it only made the first one wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, Protocol, TypeVar

__all__ = ["Item", "Lanes"]


class Item(Protocol):
    """What waits for a lane."""

    @property
    def alone(self) -> bool:
        """Whether it has to be a batch of its own."""
        ...

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more, so that it is passed over."""
        ...


T = TypeVar("T", bound=Item)


class Lanes(Generic[T]):
    """A queue, and the batches that are under way. For one event loop.

    Args:
        run: does one batch. It raises nothing: what goes wrong, it tells those who wait.
        lanes: how many batches are under way at most.
        at_most: how many items one batch takes at most.
        max_waiting: how many items wait at most.
    """

    def __init__(
        self, run: Callable[[list[T]], Awaitable[None]], *, lanes: int, at_most: int, max_waiting: int
    ) -> None:
        self._run = run
        self._free = lanes
        self._at_most = at_most
        self._max_waiting = max_waiting
        self._waiting: deque[T] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._kicked = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: T) -> bool:
        """Let an item wait for a lane. False if too many wait already."""
        if len(self._waiting) >= self._max_waiting:
            return False
        self._waiting.append(item)
        if self._free and not self._kicked:
            # Not at once: what else arrives in this turn of the loop goes along.
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._kick)
        return True

    def _kick(self) -> None:
        self._kicked = False
        while self._free and (batch := self._take()):
            self._free -= 1
            # In a context of its own: that of the caller who happened to come first would be everybody's.
            task = asyncio.create_task(self._serve(batch), name=f"a batch of {len(batch)}", context=Context())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _take(self) -> list[T]:
        batch: list[T] = []
        while self._waiting and len(batch) < self._at_most:
            if self._waiting[0].gone:
                self._waiting.popleft()
                continue
            if self._waiting[0].alone:
                return batch or [self._waiting.popleft()]
            batch.append(self._waiting.popleft())
        return batch

    async def _serve(self, batch: list[T]) -> None:
        try:
            await self._run(batch)
        finally:
            self._free += 1
            self._kick()
