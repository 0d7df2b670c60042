"""What the history of a changed row costs: Workhorse's records, django-auditlog and SQLAlchemy-Continuum.

Each contestant changes one column of one row of its own in a transaction of its own, through its ORM: it reads the row,
sets the column, and commits. What is compared is the CPU time that the history adds to the same change without it, in
the contestant's own surroundings: the peers have no request around it, Workhorse has one, and its history also says who
asked for what, is written beside the change in the unit, and is sealed later.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import psycopg

from benchmarks.figures import Claim, Spread
from benchmarks.processes import MeasurementError
from benchmarks.turns import started

__all__ = ["LINES", "OURS", "PEERS", "Line", "claims", "table", "time_history"]

WARM_UP: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One contestant."""

    title: str
    base: str
    """What its history is added to; itself, where it has none."""
    history: str = ""
    """Counts what it has recorded of changes."""


PEERS: Final = {
    "sqlalchemy": Line(title="SQLAlchemy, a change", base="sqlalchemy"),
    "continuum": Line(
        title="with SQLAlchemy-Continuum",
        base="sqlalchemy",
        history="SELECT count(*) FROM accounts_version WHERE operation_type = 1",
    ),
    "django": Line(title="Django, a change", base="django"),
    "auditlog": Line(
        title="with django-auditlog", base="django", history="SELECT count(*) FROM auditlog_logentry WHERE action = 1"
    ),
}
OURS: Final = {
    "workhorse": Line(title="Workhorse over SQLAlchemy, a request", base="workhorse"),
    "workhorse, audited": Line(
        title="with Audit(models=[...])",
        base="workhorse",
        history="SELECT count(*) FROM workhorse.events WHERE type = 'audit.changed'",
    ),
}
LINES: Final = PEERS | OURS


async def time_history(urls: Mapping[str, str], *, rounds: int, changes: int) -> dict[str, list[float]]:
    """Time the contestants that have a database, each on its own; one row of figures each, a value per round.

    Args:
        urls: the database of each contestant, with Workhorse's tables.
        rounds: how many turns each has.
        changes: in each turn.

    Raises:
        MeasurementError: one failed, or has recorded another number of changes than it has made.
    """
    times: dict[str, list[float]] = {name: [] for name in urls}
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(
                started("benchmarks.audit.historian", name, {"HISTORY_DATABASE_URL": url}, warm_up=WARM_UP)
            )
            for name, url in urls.items()
        }
        for number in range(rounds):
            for name, one in list(running.items())[:: -1 if number % 2 else 1]:
                times[name].append(await one.act(changes))
    for name, url in urls.items():
        _check(name, url, WARM_UP + rounds * changes)
    return times


def _check(name: str, url: str, made: int) -> None:
    with psycopg.connect(url) as connection:
        balance = connection.execute("SELECT balance FROM accounts").fetchone()
        query = LINES[name].history
        recorded = connection.execute(query.encode()).fetchone() if query else (made,)
    if balance != (made,) or recorded != (made,):
        raise MeasurementError(f"{name}: {made} changes were asked for, the row has {balance}, the history {recorded}")


def table(times: Mapping[str, Sequence[float]]) -> str:
    """A line a contestant."""
    lines = [f"{'the history of a changed row':40}{'CPU us':>10}{'added us':>10}{'x base':>9}"]
    for name, own in times.items():
        line = LINES[name]
        told = f"{line.title:40}{Spread.of(own).median:>10.0f}"
        if line.base != name:
            share = Spread.of([one / other for one, other in zip(own, times[line.base], strict=True)]).median
            told += f"{added(name, times):>10.0f}{share:>9.2f}"
        lines.append(told)
    return "\n".join(lines)


def added(name: str, times: Mapping[str, Sequence[float]]) -> float:
    """Microseconds that the history adds: the median of the rounds' own differences."""
    base = times[LINES[name].base]
    return Spread.of([one - other for one, other in zip(times[name], base, strict=True)]).median


def claims(times: Mapping[str, Sequence[float]]) -> list[Claim]:
    """Workhorse's history adds no more than the peers' do. None where the peers were not timed."""
    ours = added("workhorse, audited", times)
    return [
        Claim(f"audit-history-over-{peer}", ours / max(added(peer, times), 1e-9), 1, "<")
        for peer in ("continuum", "auditlog")
        if peer in times
    ]
