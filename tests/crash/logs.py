"""What the processes wrote: read as it comes, searched for errors, and kept from filling the disk."""

import os
from pathlib import Path
from typing import Final

# A log that has grown so long is emptied once it was read. A line that is written just then is lost.
LONGEST_BYTES: Final = 8 * 1024 * 1024
MOST_ERRORS: Final = 50


class LogReader:
    """Follows one log that is only appended to.

    Args:
        path: the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""
        self.errors: list[str] = []
        """Lines of the level `error`, at most so many."""
        self.counted = 0
        """How many there were."""

    def read(self) -> None:
        """Take in what came since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._at)
            while chunk := log.read(1024 * 1024):
                self._at += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    if b" error " in line:
                        self.counted += 1
                        if len(self.errors) < MOST_ERRORS:
                            self.errors.append(line.decode("utf-8", "replace"))
        if self._at > LONGEST_BYTES:
            os.truncate(self._path, 0)  # its writers append, so they go on at its new end
            self._at = 0
