"""Counts events as they come, and tells what was counted.

A measure is a feed of the journal (`feeds`): each page of events is counted by one statement, in the transaction in
which the feed's position moves. So every committed event counts once, whatever commits late, fails or is killed. What
is asked for is read from the windows, not from the events.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from workhorse.analytics.measures.measure import Measure, path_of, seconds_of
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, Recorded
from workhorse.sql import Queries, load_queries
from workhorse.units import Unit, Work

__all__ = ["Measures", "Row"]

PAGE: Final = 1_000
IDLE_SECONDS: Final = 0.25
"""Figures are watched, so the first event after a pause must not wait long to be counted."""
MAX_ROWS: Final = 1_000_000
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured in one window."""

    starts: datetime
    by: Mapping[str, Any]
    """What it was counted by, each as it stands in the events."""
    events: int
    rejected: int
    """Events of which a value was no number."""
    sum: Decimal | None
    min: Decimal | None
    max: Decimal | None
    average: Decimal | None


class Measures:
    """The measures of a service: `Service(app, feeds=measures.feeds)`.

    Args:
        measures: the definitions.

    Raises:
        SettingsError: two have one name and version.
    """

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._known: dict[str, Measure] = {}
        for measure in measures:
            if measure.name in self._known:
                raise SettingsError(f"there are two measures {measure.name!r}; a service runs one version of each")
            self._known[measure.name] = measure
        self._queries: Queries = load_queries("workhorse.analytics.measures", "sql/queries.sql")

    @property
    def feeds(self) -> list[Feed]:
        """What counts them."""
        return [
            Feed(measure.feed_name, self._folding(measure), types=[measure.of], at_most=PAGE, idle_seconds=IDLE_SECONDS)
            for measure in self._known.values()
        ]

    def find(self, name: str) -> Measure:
        """The definition of this name.

        Raises:
            KeyError: there is none.
        """
        return self._known[name]

    async def read(
        self,
        work: Work,
        name: str,
        *,
        since: datetime = EPOCH,
        until: datetime = FOREVER,
        window: str | None = None,
        by: Sequence[str] | None = None,
        only: Mapping[str, Any] | None = None,
        at_most: int = 10_000,
    ) -> list[Row]:
        """What was measured, ordered by time.

        Args:
            work: whose transaction reads it.
            name: the measure's.
            since: the first window is the one that begins then or later.
            until: the last one begins before.
            window: the length of time of a row, a multiple of the measure's own; by default that.
            by: what is told apart, of what the measure tells apart; by default all of it. `[]`: nothing.
            only: rows with these values alone, such as `{"currency": "EUR"}`.
            at_most: rows.

        Raises:
            KeyError: there is no such measure.
            ValueError: the window is no multiple, `by` or `only` names what the measure does not tell apart, a time has
                no zone, or `at_most` is not between 1 and a million.
        """
        measure = self._known[name]
        seconds = measure.seconds if window is None else seconds_of(window, name)
        if seconds % measure.seconds:
            raise ValueError(f"window={window!r} is no multiple of the {measure.window} of the measure {name!r}")
        names = list(measure.by) if by is None else list(by)
        unknown = [path for path in (*names, *(only or ())) if path not in measure.by]
        if unknown:
            raise ValueError(f"the measure {name!r} does not tell {', '.join(unknown)} apart; it tells {measure.by!r}")
        if since.tzinfo is None or until.tzinfo is None:
            raise ValueError(f"since={since} and until={until} need a time zone")
        if not 1 <= at_most <= MAX_ROWS:
            raise ValueError(f"at_most={at_most} is not between 1 and {MAX_ROWS}")
        cursor = await work.execute(
            self._queries["read"],
            {
                "measure": name,
                "version": measure.version,
                "seconds": seconds,
                "since": since,
                "until": until,
                "names": names,
                "only": json.dumps(dict(only or {})),
                "at_most": at_most,
            },
        )
        return [
            Row(
                starts=row[0],
                by=row[1],
                events=row[2],
                rejected=row[3],
                sum=row[4],
                min=row[5],
                max=row[6],
                average=row[7],
            )
            for row in await cursor.fetchall()
        ]

    def _folding(self, measure: Measure) -> "_Folding":
        return _Folding(measure, self._queries["fold"])


class _Folding:
    """Counts the pages of one measure: the handler of its feed."""

    def __init__(self, measure: Measure, query: Any) -> None:
        self._query = query
        self._params: dict[str, Any] = {
            "measure": measure.name,
            "version": measure.version,
            "seconds": measure.seconds,
            "names": list(measure.by),
            "paths": [_array(path_of(path, measure.name)) for path in measure.by],
        }
        for name in ("sum", "min", "max", "average"):
            path: str | None = getattr(measure, name)
            self._params[name] = None if path is None else path_of(path, measure.name)

    async def __call__(self, work: Work, events: Sequence[Recorded]) -> None:
        await work.execute(self._query, {**self._params, "ids": [event.id for event in events]})


async def forget_version(database: Database, name: str, version: int) -> int:
    """Delete what an old version of a measure has counted, and its place in the journal, once nobody runs it any more.

    Returns how many rows there were.
    """
    queries = load_queries("workhorse.analytics.measures", "sql/queries.sql")
    old = Measure(name, of="any.thing", version=version)
    async with Unit(database) as work:
        await work.execute(queries["forget_feed"], (old.feed_name,))
        return int((await work.execute(queries["forget_rows"], (name, version))).rowcount)


def _array(steps: Sequence[str]) -> str:
    """The text of a Postgres array: paths have neither quotes nor commas."""
    return "{" + ",".join(steps) + "}"
