"""What is counted of batches. The function's name is the label; commands and keys never are."""

from collections.abc import Sequence
from typing import Final, Literal

from workhorse.telemetry.metrics import Registry

__all__ = ["BatchMeters", "Ending"]

Ending = Literal["committed", "repeated", "split", "undone", "failed"]
"""How one round of a batch ended. repeated: it lost to others, or its connection, and is begun anew; split: it failed
as a whole, and its halves are tried; undone: for the sake of one member, and the others go on alone; failed: all of its
members were told what is wrong."""

SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)


class BatchMeters:
    """The metrics of one batched function."""

    __slots__ = ("_function", "_rounds", "_size", "_waited")

    def __init__(self, registry: Registry, function: str) -> None:
        self._function = function
        self._rounds = registry.counter(
            "workhorse_batches_total", "Rounds of batches, by how they ended.", ("function", "outcome")
        )
        self._size = registry.histogram(
            "workhorse_batch_size", "Commands in a batch, as it begins.", ("function",), SIZES
        ).labels(function)
        self._waited = registry.histogram(
            "workhorse_batch_wait_seconds", "Time from a command's arrival to the begin of its batch.", ("function",)
        ).labels(function)

    def began(self, waited: Sequence[float]) -> None:
        """A batch begins, of commands that have waited for so many seconds each."""
        self._size.observe(len(waited))
        for seconds in waited:
            self._waited.observe(seconds)

    def ended(self, how: Ending) -> None:
        """A round of it ended."""
        self._rounds.labels(self._function, how).add()
