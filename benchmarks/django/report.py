"""The table and the claims. Pure: what is printed is decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.django.lines import LINES
from benchmarks.figures import Claim, Spread

__all__ = ["Cost", "added", "claims", "table"]

HEADINGS: Final = ("a request", "round trips", "CPU us", "lowest..highest", "added us", "x base")


@dataclass(slots=True, kw_only=True)
class Cost:
    """What a request of one project costs."""

    round_trips: float = 0.0
    cpu_us: list[float] = field(default_factory=list[float])
    """User and system time of the process per request: one figure a round, in the same order as every other's."""


def added(over: Cost, base: Cost) -> float:
    """Microseconds more than the base: the median of the rounds' own differences."""
    return Spread.of([one - other for one, other in zip(over.cpu_us, base.cpu_us, strict=True)]).median


def share(over: Cost, base: Cost) -> float:
    """How many times the base's time: the median of the rounds' own ratios."""
    return Spread.of([one / other for one, other in zip(over.cpu_us, base.cpu_us, strict=True)]).median


def table(costs: Mapping[str, Cost]) -> str:
    """A line a project."""
    rows: list[Sequence[str]] = [HEADINGS]
    for name, line in LINES.items():
        cost, base = costs[name], costs[line.base]
        spread = Spread.of(cost.cpu_us)
        told = ["", ""] if name == line.base else [f"{added(cost, base):.0f}", f"{share(cost, base):.2f}"]
        between = f"{spread.lowest:.0f}..{spread.highest:.0f}"
        rows.append([line.title, f"{cost.round_trips:g}", f"{spread.median:.0f}", between, *told])
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def claims(costs: Mapping[str, Cost]) -> list[Claim]:
    """What the project stands for."""
    bare = costs["bare"]
    replaced = added(costs["security"], bare)
    return [
        # 1: as much as what it replaces.
        Claim("django.guard_over_replaced", added(costs["workhorse"], bare) / max(replaced, 1e-9), 1, "<"),
        Claim(
            "django.guard_and_session_over_replaced",
            added(costs["workhorse+session"], bare) / max(added(costs["security+session"], bare), 1e-9),
            1,
            "<",
        ),
        Claim("django.unit_added_trips", costs["write, unit"].round_trips - costs["write"].round_trips, 1.01, "<"),
    ]
