"""The tables and the claims. Pure: what is printed is decided here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.figures import Claim, Spread
from benchmarks.guard.messages import Figure
from benchmarks.guard.profiling import FunctionCost
from benchmarks.guard.takes import TakeCost
from benchmarks.guard.traffic import METHODS, Method

__all__ = [
    "Costs",
    "Measured",
    "Row",
    "added",
    "added_on_server",
    "claims",
    "columns",
    "compiled_line",
    "costs_of",
    "failures",
    "layer_table",
    "profile_table",
    "ratio",
    "server_ratio",
    "server_table",
    "take_table",
]

Costs = Mapping[tuple[str, Method], float]
"""By contestant and method: instructions, or microseconds, per request."""

THOUSAND: Final = 1_000

# What the claims compare: each with its layers, and without.
OURS: Final = ("fastapi+guard", "fastapi")
CAREFUL: Final = ("fastapi+careful", "fastapi")
SHAPE: Final = "fastapi+shape"
LITESTAR: Final = ("litestar+all", "litestar")
DJANGO: Final = ("django+all", "django")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table of layers."""

    name: str
    title: str
    base: str
    """Whose figure is taken off; of itself for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All figures of one run. What was not counted or not measured is empty."""

    instructions: Costs = field(default_factory=dict[tuple[str, Method], float])
    microseconds: Costs = field(default_factory=dict[tuple[str, Method], float])
    compiled: Costs = field(default_factory=dict[tuple[str, Method], float])
    """As `instructions`, or else `microseconds`: of the compiled guard."""
    servers: Mapping[str, Costs] = field(default_factory=dict[str, Costs])

    @property
    def costs(self) -> Costs:
        """What the claims rest on: instructions where they were counted."""
        return self.instructions or self.microseconds


def costs_of(figures: Iterable[Figure]) -> Costs:
    """The median of each contestant's and method's rounds. One that failed in any round has no cost."""
    figures = list(figures)
    failed = {figure.contestant for figure in figures if figure.failed}
    rounds: defaultdict[tuple[str, Method], list[float]] = defaultdict(list)
    for figure in figures:
        if figure.contestant not in failed:
            rounds[figure.contestant, figure.method].append(figure.per_request)
    return {which: Spread.of(values).median for which, values in rounds.items()}


def failures(figures: Iterable[Figure], titles: Mapping[str, str], where: str) -> list[str]:
    """A line per contestant that has no figure, with the first reason that it gave."""
    reasons: dict[str, str] = {}
    for figure in figures:
        if figure.failed:
            reasons.setdefault(figure.contestant, figure.failed)
    return [f"failed {where}: {titles[name]}: {reason}" for name, reason in reasons.items()]


def added(costs: Costs, name: str, base: str, method: Method) -> float | None:
    """What one contestant costs beyond another; None if one of the two has no figure."""
    cost, without = costs.get((name, method)), costs.get((base, method))
    return None if cost is None or without is None else cost - without


def ratio(costs: Costs, ours: tuple[str, str], theirs: tuple[str, str], our_costs: Costs | None = None) -> float | None:
    """What ours adds over what theirs adds, each given as (with, without): the worse of the two methods.

    None where a figure is missing, or where theirs adds nothing: then there is nothing to compare with.
    """
    ratios: list[float] = []
    for method in METHODS:
        mine, their = added(our_costs or costs, *ours, method), added(costs, *theirs, method)
        if mine is None or their is None or their <= 0:
            return None
        ratios.append(mine / their)
    return max(ratios)


def added_on_server(costs: Costs, name: str, base: str) -> float | None:
    """What a contestant adds on a server to a GET and a POST together."""
    both = [added(costs, name, base, method) for method in METHODS]
    known = [each for each in both if each is not None]
    return sum(known) if len(known) == len(both) else None


def server_ratio(servers: Mapping[str, Costs]) -> float | None:
    """What the guard adds over what the careful stack adds, on the server where that is worst."""
    ratios: list[float] = []
    for costs in servers.values():
        ours, theirs = added_on_server(costs, *OURS), added_on_server(costs, *CAREFUL)
        if ours is None or theirs is None or theirs <= 0:
            return None
        ratios.append(ours / theirs)
    return max(ratios, default=None)


def claims(measured: Measured, *, layers: bool = True, servers: bool = True) -> list[str]:
    """A line per claim of the parts that were run; one that lacks a figure says so and is never left out."""
    costs = measured.costs
    lines: list[str] = []
    if layers:
        lines.append(_claim("guard.in-process", ratio(costs, OURS, CAREFUL), 1 / 20))
    if measured.compiled:
        lines.append(_claim("guard.in-process-compiled", ratio(costs, OURS, CAREFUL, measured.compiled), 1 / 40))
    if servers:
        lines.append(_claim("guard.server", server_ratio(measured.servers), 1 / 10))
    if layers:
        lines.append(_claim("guard.litestar", ratio(costs, OURS, LITESTAR), 1))
        lines.append(_claim("guard.django", ratio(costs, OURS, DJANGO), 1))
    return lines


def _claim(name: str, value: float | None, target: float) -> str:
    if value is None:
        return f"claim {name} - <{target:g} short (a figure is missing: see what failed)"
    return str(Claim(name, value, target, "<"))


def layer_table(rows: Sequence[Row], measured: Measured) -> str:
    """What each contestant costs, and what it adds to what it stands on: instructions, then CPU time."""
    head = ["per request", *_headings(measured)]
    lines = [head]
    for row in rows:
        cells = [row.title]
        for costs, unit in _kinds(measured):
            for which in ("whole", "added"):
                cells += [_cell(costs, row, method, which, unit) for method in METHODS]
        lines.append(cells)
    return columns(lines)


def compiled_line(measured: Measured) -> str:
    """What the guard adds where it is machine code."""
    unit, name = (THOUSAND, "k instructions") if measured.instructions else (1, "us")
    row = Row(name=OURS[0], title="", base=OURS[1])
    get, post = (_cell(measured.compiled, row, method, "added", unit) for method in METHODS)
    return f"compiled, our guard adds to FastAPI: {get} (GET), {post} (POST) {name}"


def server_table(measured: Measured, titles: Mapping[str, str]) -> str:
    """What each contestant costs on each server, and what it adds."""
    lines = [["CPU us per request on a server", "GET", "POST", "added GET", "added POST"]]
    for server, costs in measured.servers.items():
        for name in ("fastapi", SHAPE, OURS[0], CAREFUL[0]):
            row = Row(name=name, title=f"{server}: {titles[name]}", base="fastapi")
            cells = [_cell(costs, row, method, which, 1) for which in ("whole", "added") for method in METHODS]
            lines.append([row.title, *cells])
    return columns(lines)


def take_table(takes: Sequence[TakeCost]) -> str:
    """What a take costs, by store."""
    lines = [["a take from a rate limit", "CPU us", "p50 us", "a second, 16 at once"]]
    for take in takes:
        figures = [f"{take.cpu_us:,.1f}", f"{take.p50_us:,.0f}", f"{take.rate:,.0f}"]
        lines.append([take.title, *(["-"] * len(figures) if take.failed else figures)])
    return columns(lines)


def profile_table(method: Method, functions: Sequence[FunctionCost], total: float) -> str:
    """The dearest functions of one method."""
    lines = [[f"{method} of a null app + our guard: {total / THOUSAND:,.1f} k instructions", "k", "calls", "share"]]
    for function in functions:
        share = f"{function.own / total:.1%}"
        lines.append([function.name, f"{function.own / THOUSAND:,.1f}", f"{function.calls:.1f}", share])
    return columns(lines)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _kinds(measured: Measured) -> list[tuple[Costs, int]]:
    kinds: list[tuple[Costs, int]] = []
    if measured.instructions:
        kinds.append((measured.instructions, THOUSAND))
    if measured.microseconds:
        kinds.append((measured.microseconds, 1))
    return kinds


def _headings(measured: Measured) -> list[str]:
    units = [unit for costs, unit in ((measured.instructions, "k"), (measured.microseconds, "us")) if costs]
    return [f"{unit} {which}{method}" for unit in units for which in ("", "added ") for method in METHODS]


def _cell(costs: Costs, row: Row, method: Method, which: Literal["whole", "added"], unit: int) -> str:
    if which == "whole":
        value = costs.get((row.name, method))
    elif row.name == row.base:
        return ""
    else:
        value = added(costs, row.name, row.base, method)
    return "-" if value is None else f"{value / unit:,.1f}"
