"""An export: a folder that holds a log and its events, to be verified anywhere with public keys alone.

    checkpoint                  the last checkpoint, signed
    checkpoints/<size>          earlier ones, as many as were kept
    tile/<level>/…              the hashes
    tile/entries/…              the entries
    events.ndjson               the events, one a line in the order of the log, each with its `index` in it

Without `events.ndjson` the log is verified alone. Nothing in an export is believed: no path is taken from its content,
only plain files are opened, and each is read to the bound of its kind.
"""

import os
import re
import stat
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from workhorse.audit.faults import Malformed
from workhorse.audit.notes import MAX_NOTE_BYTES
from workhorse.audit.tiles import ENTRIES, MAX_ENTRY, Tile
from workhorse.audit.tree import HASH_BYTES

__all__ = ["CHECKPOINT", "EVENTS", "Export", "FolderExport", "MemoryExport", "read_tile_of", "write_tiles"]

CHECKPOINT: Final = "checkpoint"
HISTORY: Final = "checkpoints"
EVENTS: Final = "events.ndjson"
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
MAX_HISTORY: Final = 100_000

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


class Export(Protocol):
    """Where a verifier reads from."""

    def read(self, path: str, limit: int, /) -> bytes | None:
        """The bytes of a file, at most one more than the limit; None if there is no such file."""
        ...

    def history(self) -> list[str]:
        """The paths of earlier checkpoints, by size."""
        ...

    def lines(self) -> Iterator[bytes] | None:
        """The lines of the events, without newlines, cut at one more than `MAX_LINE_BYTES`; None without the file."""
        ...


class FolderExport:
    """An export in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, limit: int, /) -> bytes | None:
        """The bytes of a file."""
        descriptor = _open(self._folder / path)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file, _readable(path):
            return file.read(limit + 1)

    def history(self) -> list[str]:
        """The paths of earlier checkpoints."""
        folder = self._folder / HISTORY
        if not folder.is_dir():
            return []
        with _readable(HISTORY), os.scandir(folder) as found:
            return sort_history(entry.name for entry in found)

    def lines(self) -> Iterator[bytes] | None:
        """The lines of the events."""
        descriptor = _open(self._folder / EVENTS)
        return None if descriptor is None else _lines(descriptor)


@dataclass(frozen=True, slots=True)
class MemoryExport:
    """An export in memory, by path."""

    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def read(self, path: str, limit: int, /) -> bytes | None:
        """The bytes of a file."""
        raw = self.files.get(path)
        return None if raw is None else raw[: limit + 1]

    def history(self) -> list[str]:
        """The paths of earlier checkpoints."""
        prefix = f"{HISTORY}/"
        return sort_history(path.removeprefix(prefix) for path in self.files if path.startswith(prefix))

    def lines(self) -> Iterator[bytes] | None:
        """The lines of the events."""
        raw = self.files.get(EVENTS)
        return None if raw is None else iter(raw.removesuffix(b"\n").split(b"\n") if raw else [])


def read_tile_of(export: Export, tile: Tile) -> bytes | None:
    """The bytes of a tile, read to the bound of its kind. The argument for `ReadTile` once the export is bound."""
    each = 2 + MAX_ENTRY if tile.level == ENTRIES else HASH_BYTES
    return export.read(tile.path, tile.width * each)


def read_note(export: Export, path: str) -> bytes | None:
    """The bytes of a checkpoint."""
    return export.read(path, MAX_NOTE_BYTES)


def write_tiles(folder: Path, files: Mapping[Tile, bytes]) -> None:
    """Write tiles under a folder. Each appears whole or not at all; one that is there already is not touched."""
    for tile, raw in files.items():
        path = folder / tile.path
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = path.with_name(f".{path.name}.{os.getpid()}")
        waiting.write_bytes(raw)
        waiting.replace(path)


def sort_history(names: Iterator[str]) -> list[str]:
    """The paths of earlier checkpoints among names of files, by size.

    Raises:
        Malformed: they are more than `MAX_HISTORY`.
    """
    sizes = sorted(int(name) for name in names if _SIZE.match(name))
    if len(sizes) > MAX_HISTORY:
        raise Malformed(f"the export has {len(sizes)} checkpoints; at most {MAX_HISTORY} are read")
    return [f"{HISTORY}/{size}" for size in sizes]


def _open(path: Path) -> int | None:
    """Open a plain file; a pipe or a device would block or never end."""
    with _readable(path.name):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed(f"{path.name} is no plain file")
    return descriptor


@contextmanager
def _readable(name: str) -> Generator[None]:
    """Say which file the disk, or its rights, do not let be read."""
    try:
        yield
    except OSError as error:
        raise Malformed(f"{name} cannot be read: {error.strerror}") from error


def _lines(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as file, _readable(EVENTS):
        while line := file.readline(MAX_LINE_BYTES + 1):
            yield line.removesuffix(b"\n")
