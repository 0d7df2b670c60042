"""Where whole files are kept: a local folder, or a bucket of a cloud.

An object appears whole or not at all, and is never changed. That, and `put_new`, of which one call of all processes
wins, is all that is asked of a store: there are no renames and no locks, which most do not have.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from workhorse.errors import WorkhorseError

__all__ = ["ObjectStore", "ObjectStoreFailed"]


class ObjectStoreFailed(WorkhorseError):
    """A store could not be reached, or refused; the message has its own words."""


class ObjectStore(Protocol):
    """Objects under names with slashes, such as `day=2026-11-23/part-0.parquet`.

    Every method raises ObjectStoreFailed when the store does, and ValueError for a name that leads elsewhere.
    """

    async def put_new(self, name: str, data: bytes) -> bool:
        """Write a small object unless there is one. False: there is, and it stays.

        A store in a cloud may say False of what this very call has written, when its first answer was lost: who has to
        know reads the object.
        """
        ...

    async def upload(self, name: str, file: Path) -> None:
        """Write a file as an object whose name nobody else uses. It is seen when it is whole."""
        ...

    async def read(self, name: str) -> bytes | None:
        """A small object; None: there is none."""
        ...

    async def size(self, name: str) -> int | None:
        """Bytes of an object; None: there is none."""
        ...

    def stream(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`, which is not among them, in parts of a few megabytes."""
        ...

    async def names(self, prefix: str = "") -> list[str]:
        """The names of the objects below a folder, such as `_export/`; at most `MAX_NAMES`."""
        ...

    async def delete(self, name: str) -> None:
        """Delete an object, if there is one."""
        ...
