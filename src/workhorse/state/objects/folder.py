"""A local folder as an object store.

A file is written beside its place under a name that begins with a dot, flushed to the disk, and then linked (`link(2)`
fails where there is a file already, so of all processes one wins) or renamed. A crash leaves files that begin with a
dot, which nobody lists.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final, TypeVar

from workhorse.contracts.objects import ObjectStoreFailed
from workhorse.state.objects.names import MAX_NAMES, checked

__all__ = ["FolderStore"]

READ_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class FolderStore:
    """Objects as files of a folder (see `contracts.objects`).

    Args:
        root: the folder, which is made with the first object. Every process that uses it must see the same one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"<FolderStore {self._root}>"

    async def put_new(self, name: str, data: bytes) -> bool:
        """See `ObjectStore`."""

        def put() -> bool:
            with self._written(name, lambda file: file.write(data)) as (waiting, place):
                try:
                    place.hardlink_to(waiting)
                except FileExistsError:
                    return False
            return True

        return await _called(put)

    async def upload(self, name: str, file: Path) -> None:
        """See `ObjectStore`."""

        def copy(into: BinaryIO) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, into, READ_BYTES)

        def put() -> None:
            with self._written(name, copy) as (waiting, place):
                waiting.replace(place)

        await _called(put)

    async def read(self, name: str) -> bytes | None:
        """See `ObjectStore`."""

        def get() -> bytes | None:
            try:
                return self._place(name).read_bytes()
            except FileNotFoundError:
                return None

        return await _called(get)

    async def size(self, name: str) -> int | None:
        """See `ObjectStore`."""

        def look() -> int | None:
            try:
                return self._place(name).stat().st_size
            except FileNotFoundError:
                return None

        return await _called(look)

    async def stream(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `ObjectStore`."""
        file = await _called(lambda: self._place(name).open("rb"))
        try:
            await _called(lambda: file.seek(start))
            left = end - start
            while left > 0 and (part := await _called(lambda: file.read(min(READ_BYTES, left)))):  # noqa: B023 - awaited
                left -= len(part)
                yield part
        finally:
            file.close()

    async def names(self, prefix: str = "") -> list[str]:
        """See `ObjectStore`."""

        def look() -> list[str]:
            found: list[str] = []
            for folder, _, files in os.walk(self._root / prefix):
                inside = Path(folder).relative_to(self._root)
                found += [(inside / name).as_posix() for name in files if not name.startswith(".")]
                if len(found) > MAX_NAMES:
                    raise ObjectStoreFailed(f"{self._root / prefix} has more than {MAX_NAMES} files")
            return sorted(found)

        return await _called(look)

    async def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        await _called(lambda: self._place(name).unlink(missing_ok=True))

    def _place(self, name: str) -> Path:
        return self._root / checked(name)

    @contextmanager
    def _written(self, name: str, write: Callable[[BinaryIO], object]) -> Generator[tuple[Path, Path]]:
        """A file that is on the disk, beside the place that it is for; gone after the block unless it was moved."""
        place = self._place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        waiting = place.with_name(f".{token_hex(8)}.part")
        try:
            with waiting.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            yield waiting, place
            _sync_folder(place.parent)
        finally:
            waiting.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the folder's entries on the disk as well."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(number)
    finally:
        os.close(number)


async def _called(function: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(function)
    except OSError as error:
        raise ObjectStoreFailed(f"the folder failed: {error}") from error
