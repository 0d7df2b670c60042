"""Rows of 8-byte numbers that the worker processes of one run share through a folder.

Each process owns one numbered pair of files there, for as long as it holds an exclusive `flock` on the first:

    v1-0003.slots      float64 slots, mapped into memory and grown by whole chunks
    v1-0003.series     one JSON line per series: what the slots from `at` on mean; append-only
    v1.lock            held for the moment in which a pair is claimed or its owner looked for

So an observation is an addition in memory, with no lock and no system call, and every process can read what all
others wrote. The kernel frees the lock of a process however it dies; the next process to start takes the pair over
and goes on counting in it. Counters therefore never fall, and there are never more pairs than processes that ran at
the same time. What only a living process can have (gauges) is zeroed at take-over, and told apart by the lock.

A slot is aligned to 8 bytes and is written and read through a mapping by one store and one load, so no reader sees
half a value. A line is written before its slots are used; a line without its end (the process was killed in mid-write,
or the disk is full) is ignored, and cut off at take-over.
"""

import contextlib
import fcntl
import mmap
import os
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from workhorse.errors import StartupError

__all__ = ["PrivateSlots", "Reading", "Series", "SharedSlots", "Slots"]

Slots: TypeAlias = "memoryview[float]"

SLOT_BYTES: Final = 8
CHUNK_SLOTS: Final = 8192
CHUNK_BYTES: Final = SLOT_BYTES * CHUNK_SLOTS
"""64 KiB: a multiple of every page size in use, as the offset of a mapping must be."""
MAX_PAIRS: Final = 1024
LOCK_DEADLINE_SECONDS: Final = 5.0
LOCK_PAUSE_SECONDS: Final = 0.002
PAIR_NAME: Final = re.compile(r"v1-(\d{4})\.slots")


class Series(msgspec.Struct, frozen=True, gc=False):
    """One line of a definitions file: one set of label values of one metric, and where its numbers are.

    A counter or gauge has one slot. A histogram has one per bound, one for what exceeds the last bound (each counts
    its own bucket only), and one for the sum.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    at: int = -1
    """The first slot, counted from the start of the file."""

    @property
    def width(self) -> int:
        """How many slots it has."""
        return len(self.bounds) + 2 if self.bounds else 1

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two series of two processes the same one. The help text does not."""
        return (self.name, self.kind, self.labels, self.values, self.bounds)


class Reading(NamedTuple):
    """The numbers of one series in one process. `living` is false when that process is gone."""

    series: Series
    numbers: list[float]
    living: bool


class PrivateSlots:
    """Slots in the memory of one process, for a run of one process and for tests."""

    def __init__(self) -> None:
        self._rows: list[tuple[Series, Slots]] = []

    def inherited(self) -> list[tuple[Series, Slots]]:
        """Nothing: there is no predecessor."""
        return []

    def allocate(self, series: Series) -> Slots:
        """Return zeroed slots for `series`."""
        slots = private_slots(series.width)
        self._rows.append((series, slots))
        return slots

    def read(self) -> list[Reading]:
        """Every series with its numbers."""
        return [Reading(series, list(slots), living=True) for series, slots in tuple(self._rows)]

    def close(self) -> None:
        """Nothing is held."""


class SharedSlots:
    """The pair of files of this process, and the reading of everybody's.

    Args:
        folder: shared by the processes of one run, on a local file system. Made if it is missing.

    Raises:
        StartupError: the folder cannot be written, is locked for too long, or 1024 processes use it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chunks: list[Slots] = []
        self._maps: list[mmap.mmap] = []
        self._inherited: list[tuple[Series, Slots]] = []
        self._next = 0
        with contextlib.ExitStack() as unwinding:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _folder_lock(folder, exclusive=True):
                    number, self._slots_fd = _claim(folder)
                    unwinding.callback(os.close, self._slots_fd)
                    self._series_fd = os.open(
                        _series_path(folder, number), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
                    )
                    unwinding.callback(os.close, self._series_fd)
                    self._take_over()
            except (OSError, TimeoutError) as error:
                raise StartupError(
                    f"metrics cannot be kept in {folder}: {error}. Name a local folder that this user may write, "
                    "or none, to keep them in the memory of one process."
                ) from error
            unwinding.pop_all()
        self.number = number

    def inherited(self) -> list[tuple[Series, Slots]]:
        """The series of the process that held this pair before, with their slots: they go on being counted."""
        return list(self._inherited)

    def allocate(self, series: Series) -> Slots:
        """Write down what `series` means, and return its zeroed slots.

        Raises:
            OSError: the disk is full; there is no such series.
        """
        at = self._room(series.width)
        self._next = at + series.width
        slots = self._slots(at, series.width)
        for index in range(series.width):
            slots[index] = 0.0
        line = msgspec.json.encode(msgspec.structs.replace(series, at=at)) + b"\n"
        length = os.fstat(self._series_fd).st_size
        written = os.write(self._series_fd, line)
        if written != len(line):
            os.ftruncate(self._series_fd, length)
            raise OSError(f"only {written} of {len(line)} bytes of a series definition could be written")
        return slots

    def read(self) -> list[Reading]:
        """Every series of every process that uses or used the folder, with its numbers."""
        readings: list[Reading] = []
        for path, living in self._pairs():
            # A pair that somebody deleted meanwhile has nothing to tell.
            with contextlib.suppress(FileNotFoundError):
                readings.extend(_read_pair(path, living=living))
        return readings

    def close(self) -> None:
        """Give the pair back. Slots that are still held stay valid memory, but must not be written to."""
        if self._slots_fd < 0:
            return
        self._inherited.clear()
        for chunk in self._chunks:
            chunk.release()
        for mapping in self._maps:
            # Somebody still holds slots of it: the mapping then ends with them.
            with contextlib.suppress(BufferError):
                mapping.close()
        os.close(self._series_fd)
        os.close(self._slots_fd)
        self._slots_fd = self._series_fd = -1

    def _take_over(self) -> None:
        data = _read_all(self._series_fd)
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.ftruncate(self._series_fd, whole)
        size = os.fstat(self._slots_fd).st_size
        if size % CHUNK_BYTES:
            size += _write_zeros(self._slots_fd, size, CHUNK_BYTES - size % CHUNK_BYTES)
        for offset in range(0, size, CHUNK_BYTES):
            self._map(offset)
        for series in _definitions(data[:whole], limit=size // SLOT_BYTES):
            slots = self._slots(series.at, series.width)
            if series.kind == "gauge":
                slots[0] = 0.0
            self._inherited.append((series, slots))
            self._next = max(self._next, series.at + series.width)

    def _room(self, width: int) -> int:
        """The place of `width` free slots that lie in one chunk; grows the file where there are none."""
        left = CHUNK_SLOTS - self._next % CHUNK_SLOTS
        at = self._next if left >= width else self._next + left
        if at + width > len(self._chunks) * CHUNK_SLOTS:
            offset = len(self._chunks) * CHUNK_BYTES
            # Zeros are written, not left as a hole: a store into a hole of a full disk would kill the process.
            _write_zeros(self._slots_fd, offset, CHUNK_BYTES)
            self._map(offset)
        return at

    def _map(self, offset: int) -> None:
        mapping = mmap.mmap(self._slots_fd, CHUNK_BYTES, offset=offset)
        self._maps.append(mapping)
        self._chunks.append(memoryview(mapping).cast("d"))

    def _slots(self, at: int, width: int) -> Slots:
        chunk, start = divmod(at, CHUNK_SLOTS)
        return self._chunks[chunk][start : start + width]

    def _pairs(self) -> list[tuple[Path, bool]]:
        paths = sorted(path for path in self._folder.iterdir() if PAIR_NAME.fullmatch(path.name))
        try:
            with _folder_lock(self._folder, exclusive=False):
                return [(path, _held(path)) for path in paths]
        except TimeoutError:
            # A process is stuck in its claim. To count the gauges of a dead one is better than to tell nothing.
            return [(path, True) for path in paths]


def private_slots(width: int) -> Slots:
    """Zeroed slots in this process's own memory."""
    return memoryview(bytearray(SLOT_BYTES * width)).cast("d")


def _series_path(folder: Path, number: int) -> Path:
    return folder / f"v1-{number:04}.series"


def _claim(folder: Path) -> tuple[int, int]:
    """Lock the first pair that nobody holds. The folder's lock must be held, so that no reader's probe is met."""
    for number in range(MAX_PAIRS):
        fd = os.open(folder / f"v1-{number:04}.slots", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        else:
            return number, fd
    raise OSError(f"{MAX_PAIRS} processes use it already")


def _held(path: Path) -> bool:
    """Whether a living process holds the pair."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


@contextlib.contextmanager
def _folder_lock(folder: Path, *, exclusive: bool) -> "Generator[None]":
    """Hold the folder's lock.

    Raises:
        TimeoutError: others held it for the whole deadline.
    """
    fd = os.open(folder / "v1.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_DEADLINE_SECONDS
        while True:
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"its lock was not free within {LOCK_DEADLINE_SECONDS} s") from None
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                break
        yield
    finally:
        os.close(fd)


def _write_zeros(fd: int, offset: int, length: int) -> int:
    """Extend the file by zeros, wholly or not at all.

    Raises:
        OSError: the disk is full.
    """
    done = 0
    try:
        while done < length:
            done += os.pwrite(fd, bytes(length - done), offset + done)
    except OSError:
        os.ftruncate(fd, offset)
        raise
    return length


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = b""
    while len(data) < size and (part := os.pread(fd, size - len(data), len(data))):
        data += part
    return data


def _definitions(data: bytes, *, limit: int) -> Iterator[Series]:
    """The lines that are whole and point into the first `limit` slots; all others are passed over."""
    decoder = msgspec.json.Decoder(Series)
    for line in data.split(b"\n")[:-1]:
        try:
            series = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        first, last = series.at, series.at + series.width - 1
        if first >= 0 and last < limit and first // CHUNK_SLOTS == last // CHUNK_SLOTS:
            yield series


def _read_pair(path: Path, *, living: bool) -> Iterator[Reading]:
    with path.with_suffix(".series").open("rb") as file:
        data = file.read()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        size -= size % CHUNK_BYTES
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapping:
            view = memoryview(mapping).cast("d")
            try:
                for series in _definitions(data, limit=size // SLOT_BYTES):
                    with view[series.at : series.at + series.width] as slots:
                        yield Reading(series, list(slots), living)
            finally:
                view.release()
