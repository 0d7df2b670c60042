"""Presence by `flock`: the kernel, not a file's content, says who is there.

A lock belongs to an open file description, so it vanishes in the instant its process does, however it died: there
is no stale pid to interpret. The descriptors are not inheritable, so a program that is executed does not keep them;
a fork does, which is why `client` takes a lock of its own in a forked child.
"""

import os
import time
from pathlib import Path
from typing import Final, Self

from workhorse.errors import EmbeddedServerError

__all__ = ["FileLock", "is_held"]

POLL_SECONDS: Final = 0.003
# flock(2): the same numbers on Linux and macOS.
LOCK_SH: Final = 1
LOCK_EX: Final = 2
LOCK_NB: Final = 4
LOCK_UN: Final = 8


class FileLock:
    """A lock file held open. Closing it, or the end of the process, lets the lock go.

    Raises:
        OSError: the file cannot be opened; with `create=False`, FileNotFoundError where there is none.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._descriptor = os.open(path, flags, 0o600)

    def try_shared(self) -> bool:
        """Take the lock together with others; False where somebody holds it alone."""
        return self._try(LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; False where anybody else holds it."""
        return self._try(LOCK_EX)

    def wait_shared(self, until: float) -> None:
        """Take the lock together with others, by `until` on the monotonic clock.

        Raises:
            EmbeddedServerError: somebody held it alone for all that time.
        """
        while not self.try_shared():
            self._pause(until)

    def wait_exclusive(self, until: float) -> None:
        """Take the lock alone, by `until` on the monotonic clock.

        Raises:
            EmbeddedServerError: somebody else held it for all that time.
        """
        while not self.try_exclusive():
            self._pause(until)

    def unlock(self) -> None:
        """Let the lock go and keep the file open."""
        _flock(self._descriptor, LOCK_UN)

    def is_in_place(self) -> bool:
        """Whether the path still names this file: false once the folder was deleted under us."""
        try:
            there = os.stat(self.path)  # noqa: PTH116 - beside fstat, of which pathlib has none
        except OSError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def close(self) -> None:
        """Let the lock go, in every process that shares it through a fork, and close the file. May be repeated."""
        if self._descriptor >= 0:
            _flock(self._descriptor, LOCK_UN)
            self.abandon()

    def abandon(self) -> None:
        """Close this process's descriptor only: what a forked child does with the lock of its parent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FileLock {self.path} {'open' if self._descriptor >= 0 else 'closed'}>"

    def _try(self, operation: int) -> bool:
        try:
            _flock(self._descriptor, operation | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _pause(self, until: float) -> None:
        if time.monotonic() >= until:
            raise EmbeddedServerError(
                f"{self.path} stayed locked by another process until the deadline; "
                "see steward.log beside it for what that process waits for"
            )
        time.sleep(POLL_SECONDS)


def _flock(descriptor: int, operation: int) -> None:
    # Not at the top: Windows has no fcntl, and there `attach` must still be able to say what to use instead.
    import fcntl  # noqa: PLC0415

    fcntl.flock(descriptor, operation)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path` alone."""
    try:
        with FileLock(path, create=False) as lock:
            return not lock.try_shared()
    except FileNotFoundError:
        return False
