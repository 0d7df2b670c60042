"""The table and the claims. Pure: what is printed is decided here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import Claim, Spread
from benchmarks.growth.probes import Forgetting

__all__ = ["Sized", "claims", "slowdowns", "table"]

FLAT = 1.2
"""How many times worse a figure may become while a table grows, and count as flat."""
HEADINGS = (
    *("rows in each", "on disk", "transfers/s", "x", "jobs/s", "x", "retry p50 ms", "x"),
    *("purge us/row", "x", "drop ms", "delete ms"),
)


@dataclass(slots=True, kw_only=True)
class Sized:
    """The figures of a database of one size, one a round, in the same order as every other's."""

    rows: int
    bytes: int
    transfers: list[float] = field(default_factory=list[float])
    """A second."""
    jobs: list[float] = field(default_factory=list[float])
    """A second."""
    retries_ms: list[float] = field(default_factory=list[float])
    forgetting: Forgetting


def table(sizes: Sequence[Sized]) -> str:
    """A line a size, the smallest first; `x` is the ratio to that, above 1 where it is better."""
    cells = [HEADINGS, *(cells_of(sizes[0], one) for one in sizes)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def cells_of(first: Sized, one: Sized) -> tuple[str, ...]:
    """One line."""
    return (
        f"{one.rows:,}",
        f"{one.bytes / 2**20:,.0f} MB",
        f"{Spread.of(one.transfers).median:,.0f}",
        f"{1 / slowdown(first.transfers, one.transfers):.2f}",
        f"{Spread.of(one.jobs).median:,.0f}",
        f"{1 / slowdown(first.jobs, one.jobs):.2f}",
        f"{Spread.of(one.retries_ms).median:.2f}",
        f"{1 / slowdown(one.retries_ms, first.retries_ms):.2f}",
        f"{one.forgetting.purge_us:.0f}",
        f"{first.forgetting.purge_us / one.forgetting.purge_us:.2f}",
        f"{one.forgetting.drop_ms:,.0f}",
        f"{one.forgetting.delete_ms:,.0f}",
    )


def slowdown(faster: Sequence[float], slower: Sequence[float]) -> float:
    """How many times the one is the other: the median of the rounds' own ratios."""
    return Spread.of([one / other for one, other in zip(faster, slower, strict=True)]).median


def slowdowns(first: Sized, last: Sized) -> dict[str, float]:
    """How many times worse the figures of the one are than those of the other."""
    return {
        "transfers": slowdown(first.transfers, last.transfers),
        "jobs": slowdown(first.jobs, last.jobs),
        "retry_look_up": slowdown(last.retries_ms, first.retries_ms),
        "purge": last.forgetting.purge_us / first.forgetting.purge_us,
    }


def claims(sizes: Sequence[Sized]) -> list[Claim]:
    """What the project stands for: nothing becomes worse by more than a fifth while the tables grow."""
    first, last = sizes[0], sizes[-1]
    return [Claim(f"growth.{name}_times_worse", value, FLAT, "<") for name, value in slowdowns(first, last).items()]
