"""An app on Trio, and around it Workhorse, which lives on asyncio in a thread of its own (see `bridge.host`)."""

import sys

from workhorse.errors import StartupError

__all__ = ["in_trio", "refuse_trio"]


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
            " `TrioHost(app, around=lambda app: ...)` of workhorse.bridge.host, or serve a Service, which does so itself"
        )
