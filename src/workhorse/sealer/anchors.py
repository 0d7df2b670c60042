"""Anchors keep checkpoints where the database's administrator cannot take them back.

The sealer asks each anchor for its last checkpoint before it signs, and does not sign a log that is behind it or that
does not begin with it: that is how a database that was rolled back is found. What an anchor is worth is what it takes
to change it: a file on the same machine finds mistakes, one on a write-once store finds its administrator.

A checkpoint is kept behind the one that was read, and behind no other (compare and swap). So of two sealers with a
database each, as after a failover whose old side lives on, one is refused; it finds the other's before it signs again.
"""

import asyncio
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from workhorse.audit.faults import Malformed
from workhorse.audit.notes import Note
from workhorse.errors import WorkhorseError
from workhorse.sealer.objects import ObjectStore, StoreUnreachable

__all__ = ["Anchor", "AnchorUnreachable", "FileAnchor", "ObjectAnchor"]

SEPARATOR: Final = b"\n\f\n"
"""Behind each note. A form feed stands in no note, so a note that was cut off is seen."""
TAIL_BYTES: Final = 256 * 1024
MAX_ANCHORED: Final = 64 * 1024
"""Bytes of a note that is kept."""
ANCHORED: Final = "anchors"
"""The folder of anchored checkpoints in a store."""
MAX_ANCHORS: Final = 9_999_999_999


class AnchorUnreachable(WorkhorseError):
    """An anchor did not answer, or could not keep a checkpoint. The message names it and says why."""


class Anchor(Protocol):
    """Where checkpoints are kept."""

    @property
    def name(self) -> str:
        """For logs and messages."""
        ...

    async def last(self) -> Note | None:
        """The last checkpoint that was kept; None if there was none.

        Raises:
            AnchorUnreachable: it cannot be read.
            Malformed: what it has is no checkpoint.
        """
        ...

    @property
    def every_seconds(self) -> float:
        """How long a process does not ask it again, after it was asked once."""
        ...

    async def keep(self, note: Note, *, after: Note | None) -> bool:
        """Keep a checkpoint behind the last one, which `after` is.

        Returns:
            Whether it was kept. False: another one came in between, or was there.

        Raises:
            AnchorUnreachable: it cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """A file that is only appended to. It is on disk when `keep` returns."""

    path: Path
    every_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    async def last(self) -> Note | None:
        """The last checkpoint."""
        return await asyncio.to_thread(self._last)

    async def keep(self, note: Note, *, after: Note | None) -> bool:
        """Append it."""
        return await asyncio.to_thread(self._keep, note, after)

    def all(self) -> list[bytes]:
        """All that were kept whole, the oldest first, as `verify` takes them for anchors.

        Raises:
            AnchorUnreachable: the file cannot be read.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AnchorUnreachable(f"the anchor {self.path} cannot be read: {error.strerror}") from error
        return [one for one in raw.split(SEPARATOR)[:-1] if _is_note(one)]

    def _last(self) -> Note | None:
        try:
            with self.path.open("rb") as file:
                return _last_note(file.fileno(), self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorUnreachable(f"the anchor {self.path} cannot be read: {error.strerror}") from error

    def _keep(self, note: Note, after: Note | None) -> bool:
        raw = _bounded(note)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                # Two sealers may come here one after the other, never in the midst of each other's line.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                kept = _last_note(descriptor, self.path)
                if (kept and kept.text) != (after and after.text):
                    return False
                # What a write that was cut off has left is closed first, and read by nobody.
                size = os.fstat(descriptor).st_size
                is_torn = size and os.pread(descriptor, len(SEPARATOR), max(0, size - len(SEPARATOR))) != SEPARATOR
                os.write(descriptor, (SEPARATOR if is_torn else b"") + raw + SEPARATOR)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise AnchorUnreachable(f"the anchor {self.path} cannot be written: {error.strerror}") from error
        return True


@dataclass(frozen=True, slots=True)
class ObjectAnchor:
    """Checkpoints as objects that are written once, each at the number after the last.

    Their keys count down, so that the last one is the first of the list however many there are. The key of the next
    number can be written by one sealer only: the store says to the other that it is there.

    Args:
        store: where they lie.
        every_seconds: as in `Anchor`; each is an object that is kept for years.
    """

    store: ObjectStore
    every_seconds: float = 60.0

    @property
    def name(self) -> str:
        """Of the store."""
        return self.store.name

    async def last(self) -> Note | None:
        """The last checkpoint."""
        found = await asyncio.to_thread(self._last)
        return None if found is None else found[1]

    async def keep(self, note: Note, *, after: Note | None) -> bool:
        """Write it at the next number."""
        return await asyncio.to_thread(self._keep, note, after)

    def all(self) -> list[bytes]:
        """All that were kept, the oldest first, as `verify` takes them for anchors.

        Raises:
            AnchorUnreachable: they cannot be read.
        """
        try:
            return [raw for _, raw in self.store.originals(ANCHORED)][::-1]
        except StoreUnreachable as error:
            raise AnchorUnreachable(str(error)) from error

    def _last(self) -> tuple[int, Note] | None:
        try:
            for key, raw in self.store.originals(ANCHORED):
                return MAX_ANCHORS - _number_of(key), Note.parse(raw)
        except StoreUnreachable as error:
            raise AnchorUnreachable(str(error)) from error
        return None

    def _keep(self, note: Note, after: Note | None) -> bool:
        raw, found = _bounded(note), self._last()
        if (found and found[1].text) != (after and after.text):
            return False
        number = 1 if found is None else found[0] + 1
        try:
            return self.store.put_new(f"{ANCHORED}/{MAX_ANCHORS - number:010d}", raw)
        except StoreUnreachable as error:
            raise AnchorUnreachable(str(error)) from error


def _number_of(key: str) -> int:
    name = key.rpartition("/")[2]
    if not (name.isascii() and name.isdecimal() and len(name) == 10):
        raise Malformed(f"{key[:100]!r} is no anchor's: somebody has put it among them")
    return int(name)


def _bounded(note: Note) -> bytes:
    raw = note.encode()
    if len(raw) > MAX_ANCHORED:
        raise AnchorUnreachable(f"a checkpoint of {len(raw)} bytes; an anchor keeps at most {MAX_ANCHORED}")
    return raw


def _last_note(descriptor: int, path: Path) -> Note | None:
    """The last whole note; one that was torn by a crash was never answered for."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES))
    for raw in reversed(tail.split(SEPARATOR)[:-1]):
        if _is_note(raw):
            return Note.parse(raw)
    if size:
        raise Malformed(f"the anchor {path} has no whole checkpoint in its last {TAIL_BYTES} bytes")
    return None


def _is_note(raw: bytes) -> bool:
    try:
        Note.parse(raw)
    except Malformed:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
