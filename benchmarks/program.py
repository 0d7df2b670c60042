"""How each benchmark runs as a program: nothing of the caller's settings counts, and every end stops every process."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

import psycopg

from benchmarks.processes import MeasurementError
from workhorse.errors import WorkhorseError

__all__ = ["conduct", "forget_settings"]

# PYTHONDONTWRITEBYTECODE would have every start of a server compile it anew.
FORGOTTEN: Final = frozenset({"DATABASE_URL", "CACHE_URL", "PYTHONDONTWRITEBYTECODE"})


def forget_settings() -> None:
    """Take out of this process's environment what would change what is measured: settings, servers, and the like."""
    for name in list(os.environ):
        if name.upper().startswith("WORKHORSE_") or name.upper() in FORGOTTEN:
            del os.environ[name]


def conduct(measuring: Coroutine[Any, Any, str]) -> int:
    """Run `measuring`, print what it returns, and return the exit code.

    It is cancelled by SIGINT, SIGTERM and SIGHUP, so that its context managers end what they started.
    """
    forget_settings()

    async def cancellable() -> str:
        task = asyncio.current_task()
        assert task is not None
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
        return await measuring

    try:
        printed = asyncio.run(cancellable())
    except (MeasurementError, WorkhorseError, psycopg.Error, OSError) as error:
        sys.stderr.write(f"the benchmark failed: {error}\n")
        return 1
    except asyncio.CancelledError:
        sys.stderr.write("stopped\n")
        return 130
    sys.stdout.write(printed + "\n")
    return 0
