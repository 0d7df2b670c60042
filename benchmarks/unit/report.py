"""The table and the claims, from what was counted and timed. Pure: what is printed is decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.figures import Claim, Spread
from benchmarks.unit.apps import App

__all__ = ["Cost", "added", "claims", "share", "spelled", "table"]

HEADINGS: Final = (
    *("a request", "statements", "round trips", "extra", "CPU us", "lowest..highest", "added us", "x by hand"),
)


@dataclass(slots=True, kw_only=True)
class Cost:
    """What a request of one app costs."""

    statements: float
    """Those of the transaction included."""
    round_trips: float
    trips: Sequence[Sequence[str]] = ()
    """The beginnings of one request's statements, by round trip."""
    cpu_us: list[float] = field(default_factory=list[float])
    """User and system time of the app's process per request: one figure a round, in the same order as every other's."""


def added(over: Cost, base: Cost) -> float:
    """Microseconds more than the base: the median of the rounds' own differences."""
    return Spread.of([one - other for one, other in zip(over.cpu_us, base.cpu_us, strict=True)]).median


def share(over: Cost, base: Cost) -> float:
    """How many times the base's CPU time: the median of the rounds' own ratios.

    Two apps of one round were measured within the same second, so what slows the machine for a while slows both.
    """
    return Spread.of([one / other for one, other in zip(over.cpu_us, base.cpu_us, strict=True)]).median


def table(apps: Mapping[str, App], costs: Mapping[str, Cost]) -> str:
    """A line an app, those with units below what they are compared with."""
    lines: list[Sequence[str]] = [HEADINGS]
    for name, app in apps.items():
        cost = costs[name]
        cpu = Spread.of(cost.cpu_us)
        line = [
            app.title,
            f"{cost.statements:g}",
            f"{cost.round_trips:g}",
            "",
            f"{cpu.median:.0f}",
            f"{cpu.lowest:.0f}..{cpu.highest:.0f}",
            "",
            "",
        ]
        if app.base is not None:
            base = costs[app.base]
            line[3] = f"{cost.round_trips - base.round_trips:+g}"
            line[6:] = f"{added(cost, base):+.0f}", f"{share(cost, base):.2f}"
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    )


def spelled(apps: Mapping[str, App], costs: Mapping[str, Cost]) -> str:
    """What one request of each app says to the server: a line a round trip."""
    lines: list[str] = []
    for name, app in apps.items():
        lines.append(app.title)
        lines += [f"    {'; '.join(trip)}" for trip in costs[name].trips]
    return "\n".join(lines)


def claims(apps: Mapping[str, App], costs: Mapping[str, Cost], *, bare: str, no_unit: str) -> list[Claim]:
    """What units stand for: at most one round trip more than by hand, and no cost to a request that opens none.

    Round trips are whole, so at most one is fewer than two.
    """
    extra = [
        costs[name].round_trips - costs[app.base].round_trips for name, app in apps.items() if app.base is not None
    ]
    return [
        Claim("unit.extra_round_trips", max(extra), 2, "<"),
        Claim("unit.cost_of_no_unit", share(costs[no_unit], costs[bare]) - 1, 0.05, "<"),
    ]
