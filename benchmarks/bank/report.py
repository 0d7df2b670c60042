"""The table and the claims, from the rounds of all lines. Pure: what is printed is decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bank.measuring import Measurement
from benchmarks.bank.starting import Starts
from benchmarks.bank.variants import (
    BANK,
    DJANGO,
    FUNCTION,
    SQLALCHEMY,
    SQLALCHEMY_UVICORN,
    THROUGH_FASTAPI,
    Line,
)
from benchmarks.figures import Claim, Spread

__all__ = ["NotRun", "Row", "claims", "ratio", "rows", "start_claims", "table"]

Rounds = Mapping[str, Sequence[Measurement]]
"""Per line, by its name, one measurement a round, in the same order."""

HEADINGS = (
    *("variant", "conn", "transfers/s", "lowest..highest", "p50 ms", "p99 ms", "CPU us", "pg us", "load us"),
    *("503 %", "x pgbench", "bank x"),
)
OVER_PGBENCH = 1.8
THROUGH_FASTAPI_OVER_PGBENCH = 0.8
OVER_AN_ORM = 20.0
HOT_OVER_UNIFORM = 0.9
START_SECONDS = 2.0
WARM_START_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class NotRun:
    """What could not be measured here, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} not run: {self.why}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the medians over all rounds."""

    title: str
    connections: int
    rate: Spread
    p50_ms: float
    p99_ms: float
    server_us: float | None
    postgres_us: float | None
    load_us: float | None
    refused: float
    """The share of the requests that the guard refused."""
    over_pgbench: float
    bank_over: float
    """How many times its rate the bank's is, under the same number of connections."""


def ratio(rounds: Rounds, over: str, under: str) -> float:
    """The rate of one line over another's: the median of the rounds' own ratios.

    Two lines of one round were measured within the same minutes, so what slows the machine for a while slows both.
    """
    pairs = zip(rounds[over], rounds[under], strict=True)
    return Spread.of([one.rate / other.rate for one, other in pairs]).median


def rows(rounds: Rounds, lines: Sequence[Line]) -> list[Row]:
    """A row a line, in their order. The first of them is the bank's, the usual way."""
    pgbench = next(line for line in lines if line.variant is FUNCTION and not line.hot)
    banks = {line.connections: line.name for line in lines if line.variant is BANK and not line.hot}
    return [
        Row(
            title=line.title,
            connections=line.connections,
            rate=Spread.of([one.rate for one in rounds[line.name]]),
            p50_ms=Spread.of([one.p50_ms for one in rounds[line.name]]).median,
            p99_ms=Spread.of([one.p99_ms for one in rounds[line.name]]).median,
            server_us=_median([one.server_us for one in rounds[line.name]]),
            postgres_us=_median([one.postgres_us for one in rounds[line.name]]),
            load_us=_median([one.load_us for one in rounds[line.name]]),
            refused=Spread.of([one.refused for one in rounds[line.name]]).median,
            over_pgbench=ratio(rounds, line.name, pgbench.name),
            bank_over=ratio(rounds, banks.get(line.connections, lines[0].name), line.name),
        )
        for line in lines
    ]


def table(lines: Sequence[Row]) -> str:
    """The rows as aligned columns."""
    cells = [HEADINGS]
    cells += [
        (
            row.title,
            str(row.connections),
            f"{row.rate.median:,.0f}",
            f"{row.rate.lowest:,.0f}..{row.rate.highest:,.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            _whole(row.server_us),
            _whole(row.postgres_us),
            _whole(row.load_us),
            f"{row.refused * 100:.1f}",
            f"{row.over_pgbench:.2f}",
            f"{row.bank_over:.2f}",
        )
        for row in lines
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    )


def claims(rounds: Rounds, lines: Sequence[Line]) -> list[Claim | NotRun]:
    """What the bank stands for: batched, with everything on, under each number of connections.

    Against SQLAlchemy it is held to the faster way of serving it.
    """
    measured = {line.name for line in lines}
    pgbench = next(line for line in lines if line.variant is FUNCTION and not line.hot)
    made: list[Claim | NotRun] = []
    for bank in (line for line in lines if line.variant is BANK and not line.hot):
        count = bank.connections

        def over(*peers: str, bank: Line = bank) -> float:
            return min(ratio(rounds, bank.name, peer) for peer in peers if peer in measured)

        made += [
            Claim(f"bank.over_pgbench_{count}", over(pgbench.name), OVER_PGBENCH),
            Claim(
                f"bank.through_fastapi_over_pgbench_{count}",
                ratio(rounds, f"{THROUGH_FASTAPI.name}-{count}", pgbench.name),
                THROUGH_FASTAPI_OVER_PGBENCH,
            ),
            Claim(
                f"bank.over_sqlalchemy_{count}",
                over(f"{SQLALCHEMY.name}-{count}", f"{SQLALCHEMY_UVICORN.name}-{count}"),
                OVER_AN_ORM,
            ),
            Claim(f"bank.over_django_{count}", over(f"{DJANGO.name}-{count}"), OVER_AN_ORM),
        ]
    hot = next(line for line in lines if line.variant is BANK and line.hot)
    uniform = f"{BANK.name}-{hot.connections}"
    return [
        *made,
        Claim("bank.hot_over_uniform", ratio(rounds, hot.name, uniform), HOT_OVER_UNIFORM),
        NotRun("claim bank.over_go", "this benchmark has no peer in Go"),
    ]


def start_claims(rounds: Rounds, bank: Line, starts: Starts) -> list[Claim]:
    """How soon the bank serves, and how soon the embedded servers are there; medians, in seconds."""
    ready = [one.start_seconds for one in rounds[bank.name] if one.start_seconds is not None]
    return [
        Claim("bank.start_s", Spread.of(ready).median, START_SECONDS, "<"),
        Claim("bank.servers_cold_start_s", Spread.of(starts.cold).median, START_SECONDS, "<"),
        Claim("bank.servers_warm_start_s", Spread.of(starts.warm).median, WARM_START_SECONDS, "<"),
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return Spread.of(known).median if known else None


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
