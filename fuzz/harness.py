"""What a harness is, and how one input is driven through it.

A harness takes any bytes, hands them to a parser, and says what must hold whatever they are. That nothing crashes is
the least of it: each has an oracle beside it, such as a second reader that must agree, or a law that must hold between
an input and a changed one. What breaks is reported by `Broken`; any other exception is as much of a finding.

The same functions are driven by libFuzzer (`fuzz.worker`), by Hypothesis (tests/fuzz) and by hand (`--replay`).
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

__all__ = ["Broken", "Harness", "Splitter", "check_growth", "require"]

MAX_BYTES: Final = 4096
"""Longest input, where a harness does not say otherwise: what is wrong with longer ones is a matter of time."""

# Sizes of a pumped input. A linear reader needs four times as long for the last as for the one before it.
SMALL: Final = 4 * 1024
LARGE: Final = 16 * 1024
SUSPICIOUS_SECONDS: Final = 0.05
TOLERATED_GROWTH: Final = 9.0
"""Quadratic is 16. Below that a busy machine may have been to blame."""
TRIES: Final = 3


class Broken(Exception):
    """An oracle does not hold. The text says what was found, for the person who mends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One parser under test."""

    name: str
    """`room.parser`, the name on the command line and of its folder."""
    run: Callable[[bytes], None]
    """Raises where an oracle does not hold."""
    seeds: tuple[bytes, ...] = field(repr=False)
    """Inputs from which mutation reaches the inside of the parser."""
    max_bytes: int = MAX_BYTES


def require(condition: object, what: str, *values: object) -> None:
    """Raise `Broken` unless `condition` holds. `values` stand in the message as Python writes them."""
    if not condition:
        shown = ", ".join(repr(value) for value in values)
        raise Broken(f"{what}: {shown}" if values else what)


class Splitter:
    """Cuts one input into several, by numbers at its front; what an input lacks is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """A number from 0 to `below` - 1; at most 65,536 of them."""
        size = 1 if below <= 256 else 2
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") % below

    def piece(self) -> bytes:
        """A short part, up to 255 bytes."""
        size = self.number(256)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self._data[self._at :]

    def chunks(self) -> list[bytes]:
        """All that is left, cut into two to five pieces of which some may be empty."""
        cuts = sorted(self.number(4096) for _ in range(1 + self.number(4)))
        rest = self.rest()
        edges = [0, *(min(cut, len(rest)) for cut in cuts), len(rest)]
        return [rest[start:end] for start, end in pairwise(edges)]


def check_growth(parse: Callable[[bytes], object], *, front: bytes, pump: bytes, back: bytes) -> None:
    """Look that `parse` is not much slower than linear in how often `pump` stands between `front` and `back`.

    One look at a long input is all that a fast parser costs; only a slow one is measured at two lengths, several times.

    Raises:
        Broken: four times the length took more than nine times as long.
    """
    unit = pump or b"a"
    if _seconds(parse, front + unit * (LARGE // len(unit)) + back) < SUSPICIOUS_SECONDS:
        return
    small = min(_seconds(parse, front + unit * (SMALL // len(unit)) + back) for _ in range(TRIES))
    large = min(_seconds(parse, front + unit * (LARGE // len(unit)) + back) for _ in range(TRIES))
    growth = large / max(small, 1e-9)
    require(
        large < SUSPICIOUS_SECONDS or growth < TOLERATED_GROWTH,
        f"four times the length takes {growth:.0f} times as long ({large * 1000:.0f} ms)",
        front,
        unit,
        back,
    )


def _seconds(parse: Callable[[bytes], object], data: bytes) -> float:
    started = time.process_time()
    with contextlib.suppress(Exception):  # what it says of such an input is the other harnesses' matter
        parse(data)
    return time.process_time() - started
