"""The table and the claims, from the rounds of all variants. Pure: what is printed is decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bank.measuring import Measurement
from benchmarks.figures import Claim, Spread

__all__ = ["Row", "claims", "ratio", "rows", "table"]

Rounds = Mapping[str, Sequence[Measurement]]
"""Per variant one measurement a round, in the same order."""

HEADINGS = ("variant", "transfers/s", "lowest..highest", "p50 ms", "p99 ms", "CPU us", "pg us", "load us", "x pgbench")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the medians over all rounds."""

    title: str
    rate: Spread
    p50_ms: float
    p99_ms: float
    server_us: float | None
    postgres_us: float | None
    load_us: float | None
    over_pgbench: float
    over_sqlalchemy: float


def ratio(rounds: Rounds, over: str, under: str) -> float:
    """The rate of one variant over another's: the median of the rounds' own ratios.

    Two variants of one round were measured within the same minute, so what slows the machine for a while slows both.
    """
    pairs = zip(rounds[over], rounds[under], strict=True)
    return Spread.of([one.rate / other.rate for one, other in pairs]).median


def rows(rounds: Rounds, titles: Mapping[str, str], *, pgbench: str, sqlalchemy: str) -> list[Row]:
    """A row a variant, in the order of `titles`."""
    return [
        Row(
            title=title,
            rate=Spread.of([one.rate for one in rounds[name]]),
            p50_ms=Spread.of([one.p50_ms for one in rounds[name]]).median,
            p99_ms=Spread.of([one.p99_ms for one in rounds[name]]).median,
            server_us=_median([one.server_us for one in rounds[name]]),
            postgres_us=_median([one.postgres_us for one in rounds[name]]),
            load_us=_median([one.load_us for one in rounds[name]]),
            over_pgbench=ratio(rounds, name, pgbench),
            over_sqlalchemy=ratio(rounds, name, sqlalchemy),
        )
        for name, title in titles.items()
    ]


def table(lines: Sequence[Row]) -> str:
    """The rows as aligned columns."""
    cells = [(*HEADINGS, "x SQLAlchemy")]
    cells += [
        (
            row.title,
            f"{row.rate.median:,.0f}",
            f"{row.rate.lowest:,.0f}..{row.rate.highest:,.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            _whole(row.server_us),
            _whole(row.postgres_us),
            _whole(row.load_us),
            f"{row.over_pgbench:.2f}",
            f"{row.over_sqlalchemy:.2f}",
        )
        for row in lines
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    )


def claims(rounds: Rounds, *, bank: str, psycopg: str, pgbench: str, sqlalchemy: Sequence[str]) -> list[Claim]:
    """What the bank, with everything on and one transaction a request, stands for at this stage.

    Against SQLAlchemy it is held to the fastest way of serving it.
    """
    return [
        Claim("bank.over_sqlalchemy", min(ratio(rounds, bank, peer) for peer in sqlalchemy), 2.0),
        Claim("bank.over_psycopg", ratio(rounds, bank, psycopg), 0.6),
        Claim("bank.over_pgbench", ratio(rounds, bank, pgbench), 0.3),
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return Spread.of(known).median if known else None


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
