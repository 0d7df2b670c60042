"""What traffic showed: counted as it goes, in little memory however long it lasts, and summed up in one record."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["FileOutcome", "Histogram", "Tally", "TrafficReport"]

# Each bucket is one percent wider than the one before, so no quantile is further off than that.
GROWTH: Final = math.log(1.01)
SHORTEST_SECONDS: Final = 1e-6
LONGEST_SECONDS: Final = 1000.0
BUCKETS: Final = math.ceil(math.log(LONGEST_SECONDS / SHORTEST_SECONDS) / GROWTH) + 1
# Of what must not happen, so many cases are told in full; the rest is counted.
EXAMPLES: Final = 5


class Histogram:
    """Durations of a microsecond to a thousand seconds, each known to one percent. What is beyond is cut."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets = [0] * BUCKETS
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        within = min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._buckets[round(math.log(within / SHORTEST_SECONDS) / GROWTH)] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The least duration that `share` (0 to 1) of all do not exceed, in seconds; None if there are none."""
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= rank:
                return SHORTEST_SECONDS * math.exp(bucket * GROWTH)
        return None


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of a payment file: of so many transactions, so many were posted and refused."""

    transactions: int
    posted: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """What a piece of traffic showed."""

    seconds: float
    """How long it lasted."""
    requests: int
    """Requests that had a final answer."""
    posted: int
    """Transfers that were posted, each once, those of payment files left out."""
    p50_ms: float | None
    """Median time to the answer of a posted transfer; None if there was none."""
    p99_ms: float | None
    """99 of 100 posted transfers were answered within this."""
    statuses: Mapping[int, int]
    """Final answers by status."""
    problems: Mapping[str, int]
    """Final answers by type of problem."""
    repeated: int
    """Keys that were sent more than once, although answered or at once."""
    one_effect: int
    """Those of them of which every answer was the same, byte for byte, and at most one was not a replay."""
    sent_again: int
    """Requests sent again because the bank asked for it (503) or hung up."""
    files: tuple[FileOutcome, ...]
    """The payment files."""
    wrong: int
    """Answers that a right bank does not give, keys with two effects among them."""
    examples: tuple[str, ...]
    """The first few of those, in words."""

    @property
    def transfers_per_second(self) -> float:
        """Posted transfers in a second."""
        return self.posted / self.seconds if self.seconds else 0.0

    @property
    def as_promised(self) -> bool:
        """Whether nothing went wrong."""
        return not self.wrong and self.one_effect == self.repeated


@dataclass(slots=True)
class Tally:
    """The same while it is counted."""

    requests: int = 0
    posted: int = 0
    repeated: int = 0
    one_effect: int = 0
    sent_again: int = 0
    wrong: int = 0
    latency: Histogram = field(default_factory=Histogram)
    statuses: Counter[int] = field(default_factory=Counter[int])
    problems: Counter[str] = field(default_factory=Counter[str])
    files: list[FileOutcome] = field(default_factory=list[FileOutcome])
    examples: list[str] = field(default_factory=list[str])

    def blame(self, what: str) -> None:
        """Note what must not happen."""
        self.wrong += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)

    def report(self, seconds: float) -> TrafficReport:
        """Sum up what was counted in `seconds`."""
        return TrafficReport(
            seconds=seconds,
            requests=self.requests,
            posted=self.posted,
            p50_ms=_milliseconds(self.latency.quantile(0.5)),
            p99_ms=_milliseconds(self.latency.quantile(0.99)),
            statuses=MappingProxyType(dict(sorted(self.statuses.items()))),
            problems=MappingProxyType(dict(self.problems.most_common())),
            repeated=self.repeated,
            one_effect=self.one_effect,
            sent_again=self.sent_again,
            files=tuple(self.files),
            wrong=self.wrong,
            examples=tuple(self.examples),
        )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
