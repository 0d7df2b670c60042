"""An app on Trio, and around it Workhorse, which lives on asyncio in a thread of its own (see `bridge.host`)."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Protocol

from workhorse.errors import StartupError

__all__ = ["AnyLoop", "in_trio", "refuse_trio", "running_loop"]


class AnyLoop(Protocol):
    """What runs the app, as far as other threads ask it for something."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """Call this there.

        Raises:
            RuntimeError: it has ended.
        """
        ...


class TrioLoop:
    """One run of Trio."""

    def __init__(self, token: Any) -> None:
        self.call_soon_threadsafe: Callable[[Callable[[], object]], object] = token.run_sync_soon


def running_loop() -> AnyLoop:
    """What runs the code that calls this."""
    if in_trio():
        return TrioLoop(sys.modules["trio"].lowlevel.current_trio_token())
    return asyncio.get_running_loop()


def in_trio() -> bool:
    """Whether this code runs on Trio."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def refuse_trio(what: str) -> None:
    """Say that `what` lives on asyncio.

    Raises:
        StartupError: this is Trio.
    """
    if in_trio():
        raise StartupError(
            f"{what} waits on asyncio, and this server runs its apps on Trio: put it around the app by"
            " `TrioHost(app, around=lambda app: ...)` of workhorse.bridge.host; a Service does so by itself"
        )
