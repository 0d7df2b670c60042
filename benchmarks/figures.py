"""The arithmetic of measurements: percentiles of one run, medians and spreads of several, and claims about them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ["Claim", "Spread", "percentile"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that at least `share` of them (0 to 1) do not exceed: the nearest rank.

    Raises:
        ValueError: there are no values, or the share is none.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no {share} of {len(values)} values")
    return values[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of `values`, of which there must be one at least."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure that the project stands for, beside its target. What falls short says so."""

    name: str
    value: float
    target: float
    bound: Literal[">=", "<"] = ">="

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        return self.value >= self.target if self.bound == ">=" else self.value < self.target

    def __str__(self) -> str:
        return f"claim {self.name} {self.value:.4g} {self.bound}{self.target:g} {'ok' if self.holds else 'short'}"
