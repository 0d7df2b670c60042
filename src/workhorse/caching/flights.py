"""Of the tasks of one process that want the same at the same time, one fetches it, and the others get what it got."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Flights"]

R = TypeVar("R")


class Flights(Generic[R]):
    """What is under way in this process. It is used from one event loop."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[R]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    async def share(self, name: str, lead: Callable[[], Awaitable[R]], *, patience: float) -> tuple[R, bool] | None:
        """What `lead` returned, and whether this call ran it; None: another's took longer than `patience` seconds.

        If the one that leads is cancelled, the next takes over. What it raises, all raise.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + patience
        while (flight := self._under_way.get(name)) is not None:
            await asyncio.wait({flight}, timeout=max(0.0, ends - loop.time()))
            if not flight.done():
                return None
            if not flight.cancelled():
                return flight.result(), False
        flight = self._under_way[name] = loop.create_future()
        try:
            result = await lead()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # seen, even if nobody follows
            raise
        else:
            flight.set_result(result)
            return result, True
        finally:
            del self._under_way[name]
