"""A log whose cost to a request is an append to a list.

A daemon thread takes what has gathered, every 50 ms, renders it and writes many lines with one system call. So neither
a slow pipe nor the rendering of a line ever holds up the event loop. The price is a bound: when the reader cannot
keep up, the list fills, and what comes then is dropped and counted, and a line `log.dropped` says so as soon as there
is room. A crash of the process loses what the thread had not written: at most the last interval.

The list is never replaced: producers append at its end, and the thread copies and deletes its beginning. Each of the
three is one atomic operation, so no line is lost between them, from whichever thread it came, and the order is kept.
"""

import os
import select
import threading
import time
from typing import Final, Literal, get_args

from workhorse.telemetry.lines import CONTINUATION, AccessLine, EventLine, Level, Line, json_lines, plain, text_lines
from workhorse.telemetry.masking import NOTHING_MASKED, Masking

__all__ = ["Log"]

LINES_PER_WRITE: Final = 256
STALL_SECONDS: Final = 1.0
"""How long a write waits for a reader that takes nothing, before its lines are dropped."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
CONTINUED: Final = b"\n" + CONTINUATION.encode()


class Log:
    """A structured log to a file descriptor, which it does not close.

    Events may be logged before `start`; they wait in the list. In a forked child the thread does not exist: start the
    log after the fork.

    Args:
        stream_fd: where to; 1 is standard output.
        format: JSON lines for machines, or text for people.
        level: the least level that is written. Access lines are of the level info.
        capacity: how many lines may wait; what is over is dropped.
        interval_seconds: pause between two writes.
    """

    def __init__(
        self,
        stream_fd: int = 1,
        *,
        format: Literal["json", "text"] = "json",  # noqa: A002 - the setting's name
        level: Level = "info",
        capacity: int = 10_000,
        interval_seconds: float = 0.05,
    ) -> None:
        self._fd = stream_fd
        self._format = format
        self._written_levels = frozenset(LEVELS[LEVELS.index(level) :])
        self._access = "info" in self._written_levels
        self._capacity = capacity
        self._interval = interval_seconds
        self.masking: Masking = NOTHING_MASKED
        """What is masked beside secrets: the names of an app's personal fields. Set before the service serves."""
        self._lines: list[Line] = []
        # Reentrant, since a finalizer or a signal handler may come in while this thread holds it.
        self._lock = threading.RLock()
        self._overflowed = 0
        self._unwritten = 0
        self._reported = 0
        self._torn = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")

    def __repr__(self) -> str:
        return f"<Log to {self._fd} as {self._format}: {len(self._lines)} waiting, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """How many lines were not written: the list was full, the log closed, or nobody read the stream."""
        return self._overflowed + self._unwritten

    def start(self) -> None:
        """Start the thread that writes. To start a log that runs changes nothing.

        Raises:
            RuntimeError: the log is closed.
        """
        if self._closing.is_set():
            raise RuntimeError("the log is closed; make a new one")
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="workhorse-log", daemon=True)
            self._thread.start()

    def close(self, *, deadline_seconds: float = 2.0) -> None:
        """Write what waits, for at most `deadline_seconds`; the rest, and whatever comes later, is dropped."""
        if self._closing.is_set():
            return
        self.start()
        self._capacity = 0
        self._deadline = time.monotonic() + deadline_seconds
        self._closing.set()
        if self._thread is not None:
            self._thread.join(deadline_seconds)
            # Still there, it hangs in a write that nobody reads; being a daemon, it does not hold up the exit.
            if self._thread.is_alive():
                self._overflow(len(self._take()))

    def access(self, line: AccessLine) -> None:
        """Log a request that was answered. The cheapest way in: nothing is looked at or copied."""
        if len(self._lines) < self._capacity:
            if self._access:
                self._lines.append(line)
        else:
            self._overflow(1)

    def event(self, level: Level, name: str, /, **fields: object) -> None:
        """Log that something happened.

        Args:
            level: debug, info, warning or error.
            name: what happened, in a few fixed words, such as `database.lost`.
            fields: its particulars. They are copied at once, cut to bounds, and redacted before they are written; an
                exception becomes its traceback, and other objects what `str` makes of them. One named ts, level or
                event gets an underscore in JSON.
        """
        if level not in self._written_levels:
            return
        if len(self._lines) < self._capacity:
            copied = {key: plain(value) for key, value in fields.items()}
            self._lines.append(EventLine(time.time(), level, name, copied))
        else:
            self._overflow(1)

    def _overflow(self, count: int) -> None:
        with self._lock:
            self._overflowed += count

    def _take(self) -> list[Line]:
        with self._lock:
            lines = self._lines[:]
            del self._lines[: len(lines)]
        return lines

    def _run(self) -> None:
        colours = self._format == "text" and _is_terminal(self._fd)
        closing = False
        while not closing:
            closing = self._closing.wait(self._interval)
            self._flush(self._take(), colours=colours)

    def _flush(self, lines: list[Line], *, colours: bool) -> None:
        for start in range(0, len(lines), LINES_PER_WRITE):
            some = lines[start : start + LINES_PER_WRITE]
            data, lost = self._render(some, colours=colours)
            self._unwritten += lost + self._write(data)
        count = self.dropped - self._reported
        if count:
            notice: list[Line] = [EventLine(time.time(), "warning", "log.dropped", {"count": count})]
            data, _ = self._render(notice, colours=colours)
            if self._write(data) == 0:
                self._reported += count

    def _render(self, lines: list[Line], *, colours: bool) -> tuple[bytes, int]:
        if self._format == "text":
            return text_lines(lines, colours=colours, masking=self.masking)
        return json_lines(lines, masking=self.masking)

    def _write(self, data: bytes) -> int:
        """Write all of `data`; return how many lines could not be, for which the reader or the disk is to blame."""
        # Where the last write broke off within a line, that line must not run into these.
        mended = int(self._torn)
        data = b"\n" * mended + data
        view = memoryview(data)
        done = 0
        # The deadline of close() may be set while this waits, so the wait is cut in small pieces.
        stalled_at = time.monotonic() + STALL_SECONDS
        while done < len(data):
            try:
                done += os.write(self._fd, view[done:])
                stalled_at = time.monotonic() + STALL_SECONDS
            except BlockingIOError:
                if time.monotonic() >= min(stalled_at, self._deadline):
                    break
                _wait_writable(self._fd, self._interval)
            except OSError:
                break
        if done:
            self._torn = data[done - 1] != ord("\n")
        rest = data[max(done, mended) :]
        return rest.count(b"\n") - rest.count(CONTINUED)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _wait_writable(fd: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(max(1, seconds * 1000))
