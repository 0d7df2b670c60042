"""Calls from Trio into the loop of asyncio that stands beside it, and back.

Either side waits for the other by an event of its own, which the other sets through the one door that each runtime has
for that (`call_soon_threadsafe`, `run_sync_soon`). A call that is cancelled on one side is cancelled on the other, and
waited for, for a bounded time: so a deadline of the guard, which cancels on asyncio, ends the handler on Trio, and a
server that stops, which cancels on Trio, ends the statement on asyncio.

Context variables go with each call, and stay where they were set.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

import trio

from workhorse.errors import NoRequest

__all__ = ["Read", "Visit", "here", "in_asyncio", "in_trio", "on_asyncio"]

T = TypeVar("T")

# How long the other side may take to end what was cancelled.
UNWIND_SECONDS: Final = 10.0


class Stopped(Exception):  # not a WorkhorseError: it ends a call whose caller has gone
    """The other side ended before the call did."""


class Visit:
    """One scope (a request, a socket, the lifespan) that Trio serves with the help of asyncio.

    Args:
        loop: asyncio's.
        nursery: where what asyncio asks of Trio is done.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, nursery: trio.Nursery) -> None:
        self.loop: Final = loop
        self.token: Final = trio.lowlevel.current_trio_token()
        self._nursery = nursery
        self._open = True

    def take(self, order: "Order") -> None:
        """Do what asyncio asks for. Called on Trio."""
        if self._open:
            self._nursery.start_soon(order.run)
        else:
            order.settle(None, Stopped())

    def close(self) -> None:
        """Take no more orders, and end those that are being done."""
        self._open = False
        self._nursery.cancel_scope.cancel()


class Order:
    """One call from asyncio into Trio."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[Any]], args: Any) -> None:
        self._loop = loop
        self._function = function
        self._args = args
        self._context = copy_context()
        self._scope = trio.CancelScope()
        self._future: asyncio.Future[Any] | None = loop.create_future()

    @property
    def future(self) -> "asyncio.Future[Any]":
        """What becomes of it."""
        assert self._future is not None
        return self._future

    async def run(self) -> None:
        """Do it, on Trio."""
        result: object = None
        error: Exception | None = Stopped()
        try:
            with self._scope:
                adopt(self._context)
                try:
                    result, error = await self._function(*self._args), None
                except Exception as raised:  # noqa: BLE001 - raised where it was asked for
                    error = raised
        finally:
            self.settle(result, error)
            del error  # whose frames hold this one: a circle, in which all would live on that the app held

    def cancel(self) -> None:
        """End it. Called on Trio."""
        self._scope.cancel()

    def settle(self, result: object, error: Exception | None) -> None:
        """Tell asyncio how it ended."""
        future, self._future = self.future, None

        def tell() -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop has ended, and with it who asked


async def in_trio(visit: Visit, function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Call `function` on Trio, from asyncio.

    Raises:
        Stopped: the server has ended the scope.
        Exception: whatever `function` raises.
    """
    order = Order(visit.loop, function, args)
    future = order.future
    visit.token.run_sync_soon(visit.take, order)
    try:
        await asyncio.wait({future})
        result: T = future.result()
    except asyncio.CancelledError:
        visit.token.run_sync_soon(order.cancel)
        await asyncio.wait({future}, timeout=UNWIND_SECONDS)
        if future.done():
            future.exception()  # looked at, so that nothing warns of it
        raise
    finally:
        del future  # as above
    return result


class Read:
    """One call from Trio into asyncio. It goes on where Trio gives up waiting, so that nothing it returns is lost.

    Args:
        loop: asyncio's.
        function: what to call there.
        args: its arguments.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        self._loop = loop
        self._token = trio.lowlevel.current_trio_token()
        self._done = trio.Event()
        self._task: asyncio.Task[Any] | None = None
        context = copy_context()
        loop.call_soon_threadsafe(self._start, function, args, context)

    def _start(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], context: Context) -> None:
        async def call() -> Any:
            return await function(*args)

        self._task = self._loop.create_task(call(), context=context)
        self._task.add_done_callback(self._tell)

    def _tell(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that nothing warns of it
        try:
            self._token.run_sync_soon(self._done.set)
        except trio.RunFinishedError:
            return  # and with it who waited

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._done.is_set()

    async def wait(self) -> Any:
        """Wait for its end, and return or raise what it did. To be called once more only if it was given up before.

        Raises:
            Stopped: it was cancelled, or asyncio has ended.
        """
        if not self._done.is_set():  # Trio would look whether it is cancelled, and a message that has come be missed
            await self._done.wait()
        assert self._task is not None
        task, self._task = self._task, None
        try:
            if task.cancelled():
                raise Stopped
            return task.result()
        finally:
            del task  # as above

    def cancel(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End it, and wait until it has."""
        self.cancel()
        with trio.move_on_after(UNWIND_SECONDS, shield=True):
            await self._done.wait()


async def in_asyncio(loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Call `function` in asyncio's loop, from Trio. Cancelled here, it is cancelled there.

    Raises:
        Stopped: asyncio has ended.
        Exception: whatever `function` raises.
    """
    read = Read(loop, function, *args)
    try:
        result: T = await read.wait()
    finally:
        if not read.ended:
            await read.stop()
    return result


HERE: Final[ContextVar[Visit]] = ContextVar("workhorse_visit")
"""The scope that is being served, on either side."""


def here() -> Visit:
    """The scope that is being served.

    Raises:
        NoRequest: none is.
    """
    try:
        return HERE.get()
    except LookupError:
        raise NoRequest from None


async def on_asyncio(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Have what waits on asyncio done for a handler on Trio.

        value = await on_asyncio(cache.get, key)

    Raises:
        NoRequest: no request is being served here.
        Exception: whatever `function` raises.
    """
    return await in_asyncio(here().loop, function, *args)


def adopt(context: Context) -> None:
    """Set all variables as they are in `context`."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
