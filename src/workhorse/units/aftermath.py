"""What is called after the commit: bounded in time, never raised, and gone with the process (`Work.after_commit`)."""

import asyncio
import inspect
import logging
from collections.abc import Sequence
from typing import Final

from workhorse.units.work import Callback

__all__ = ["call_after_commit"]

# For all callbacks of one unit together: the request's task, and with it the server's drain, waits for them.
SECONDS: Final = 5.0
FAILED: Final = "after_commit: %r failed; the commit stands"

logger = logging.getLogger(__name__)


async def call_after_commit(callbacks: Sequence[Callback]) -> None:
    """Call them one after the other, in the order in which they were given. What they raise is logged.

    A callback that is a plain function runs in a thread, which is not waited for past the bound, but cannot be ended
    either.
    """
    deadline = asyncio.get_running_loop().time() + SECONDS
    for done, callback in enumerate(callbacks, start=1):
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                if inspect.iscoroutinefunction(callback):
                    await callback()
                    continue
                made = await asyncio.to_thread(callback)
                if inspect.isawaitable(made):  # a lambda or a partial around a coroutine function
                    await made
        except TimeoutError:
            if not limit.expired():  # the callback's own, of its socket
                logger.exception(FAILED, callback)
                continue
            logger.error(  # noqa: TRY400 - where the time ran out is said by the callback's name
                "after_commit: %r had not ended %g s after the commit; it and %d more are given up",
                callback,
                SECONDS,
                len(callbacks) - done,
            )
            return
        except Exception:
            logger.exception(FAILED, callback)
