"""The table and the claims, from the rounds of all engines. Pure: what is printed is decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.figures import Claim, Spread, percentile
from benchmarks.jobs.measuring import Drain

__all__ = ["Measured", "claims", "ratio", "table"]

HEADINGS: Final = (
    *("engine", "enqueue/s", "1 worker/s", "2 workers/s", "lowest..highest", "ours x"),
    *("p50 ms", "p99 ms", "idle tx/s"),
)


@dataclass(slots=True, kw_only=True)
class Measured:
    """An engine over all rounds, in the same order as every other's."""

    one: list[Drain] = field(default_factory=list[Drain])
    """With one worker."""
    two: list[Drain] = field(default_factory=list[Drain])
    delays_ms: list[float] = field(default_factory=list[float])
    """From commit to start, of all rounds together."""
    idle: float | None = None
    """Transactions a second of a worker without work; None for who is not on Postgres."""

    @property
    def enqueued(self) -> float:
        """Jobs a second: the median."""
        return Spread.of([drain.enqueued for drain in (*self.one, *self.two)]).median


def ratio(over: Sequence[Drain], under: Sequence[Drain]) -> float:
    """One engine's rate over another's: the median of the rounds' own ratios."""
    return Spread.of([one.drained / other.drained for one, other in zip(over, under, strict=True)]).median


def table(titles: Mapping[str, str], measured: Mapping[str, Measured], *, ours: str) -> str:
    """A line an engine, in the order of `titles`."""
    lines = [HEADINGS]
    for name, title in titles.items():
        found = measured[name]
        two = Spread.of([drain.drained for drain in found.two])
        delays = sorted(found.delays_ms)
        lines.append(
            (
                title,
                f"{found.enqueued:,.0f}",
                f"{Spread.of([drain.drained for drain in found.one]).median:,.0f}",
                f"{two.median:,.0f}",
                f"{two.lowest:,.0f}..{two.highest:,.0f}",
                f"{ratio(measured[ours].two, found.two):.2f}",
                f"{percentile(delays, 0.5):.1f}",
                f"{percentile(delays, 0.99):.1f}",
                "-" if found.idle is None else f"{found.idle:.2f}",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def claims(ours: Measured) -> list[Claim]:
    """What the engine stands for."""
    assert ours.idle is not None
    return [
        Claim("jobs.rate_of_two_workers", Spread.of([drain.drained for drain in ours.two]).median, 5_000),
        Claim("jobs.commit_to_start_p50_ms", percentile(sorted(ours.delays_ms), 0.5), 5, "<"),
        Claim("jobs.idle_transactions_per_s", ours.idle, 1, "<"),
    ]
