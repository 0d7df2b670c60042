"""Counts events as they come, and tells what was counted.

A measure is a feed of the journal (`feeds`): each page of events is counted by one statement, in the transaction in
which the feed's position moves. So every committed event counts once, whatever commits late, fails or is killed. What
is asked for is read from the windows, not from the events.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from workhorse.analytics.measures.definition import note_definition
from workhorse.analytics.measures.folding import Folding
from workhorse.analytics.measures.measure import Measure, Window, seconds_of
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.feeds import Feed
from workhorse.sql import Queries, load_queries
from workhorse.units import Unit, Work

__all__ = ["Frequent", "Measures", "Row", "forget_version", "question_of"]

PAGE: Final = 1_000
BEST: Final = 256
"""Most frequent values that can be asked for: what a window keeps."""
SHARES: Final = (0.5, 0.9, 0.99)
MAX_SHARES: Final = 100
DISTINCT_ERROR: Final = 1 / math.sqrt(1024 - 2)
"""The standard error of an estimate from the 1,024 least hashes, as a share of it (Beyer et al. 2007)."""
IDLE_SECONDS: Final = 0.25
"""Figures are watched, so the first event after a pause must not wait long to be counted."""
MAX_ROWS: Final = 1_000_000
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Frequent(NamedTuple):
    """A value, and how often it was there at least."""

    value: str
    events: int


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
    distinct: int | None = None
    """How many different values there were."""
    distinct_error: float = 0.0
    """The standard error of `distinct` as a share of it; 0: it is exact."""
    quantiles: Mapping[float, float | None] = field(default_factory=dict[float, float | None])
    """The value of each share that was asked for, at most 1 % off; None: there was no value."""
    top: Sequence[Frequent] = ()
    """The most frequent values, the most frequent first."""
    top_error: int = 0
    """How much more often each of `top` may have been there, and at most one that is missing; 0: they are exact."""


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
        return [self._feed(measure) for measure in self._known.values()]

    def _feed(self, measure: Measure) -> Feed:
        folding = Folding(measure, self._queries)
        return Feed(
            measure.feed_name,
            folding,
            types=[measure.of],
            at_most=PAGE,
            idle_seconds=IDLE_SECONDS,
            prepare=partial(self._prepare, measure),
            bind=folding.bind,
        )

    async def _prepare(self, measure: Measure, work: Work) -> None:
        await note_definition(work, measure, self._queries)

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
        quantiles: Sequence[float] = SHARES,
        top: int = 10,
        at_most: int = 10_000,
    ) -> list[Row]:
        """What was measured, ordered by time.

        Args:
            work: whose transaction reads it.
            name: the measure's.
            since: the first window is the one that begins then or later.
            until: the last one begins before.
            window: the length of time of a row, a multiple of the measure's shortest; by default that. It is read from
                the longest window that the measure keeps, divides this one, and begins at `since` and `until`.
            by: what is told apart, of what the measure tells apart; by default all of it. `[]`: nothing.
            only: rows with these values alone, such as `{"currency": "EUR"}`.
            quantiles: which, of a measure that has them: shares from 0 to 1.
            top: how many of the most frequent values, of a measure that keeps them: at most 256.
            at_most: rows.

        Raises:
            KeyError: there is no such measure.
            ValueError: the window is no multiple, `by` or `only` names what the measure does not tell apart, a time has
                no zone, or a number is out of its range.
        """
        measure = self._known[name]
        seconds, names, source = question_of(measure, since, until, window, by, only, at_most)
        if len(quantiles) > MAX_SHARES or not all(0 <= share <= 1 for share in quantiles):
            raise ValueError(f"quantiles={quantiles!r} are not up to {MAX_SHARES} shares from 0 to 1")
        if not 1 <= top <= BEST:
            raise ValueError(f"top={top} is not between 1 and {BEST}")
        asked = {
            "measure": source.key,
            "version": measure.version,
            "own": source.seconds,
            "keep": source.keep_seconds,
            "seconds": seconds,
            "since": since,
            "until": until,
            "names": names,
            "whole": set(names) == set(measure.by),
            "only": json.dumps(dict(only or {})),
            "at_most": at_most,
            "shares": [float(share) for share in quantiles],
            "best": top,
        }
        rows = [
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
            for row in await (await work.execute(self._queries["read"], asked)).fetchall()
        ]
        if not measure.has_sketches:
            return rows
        sketches = await (await work.execute(self._queries["read_sketches"], asked)).fetchall()
        return [_with_sketches(row, measure, found, quantiles) for row, found in zip(rows, sketches, strict=True)]


def question_of(
    measure: Measure,
    since: datetime,
    until: datetime,
    window: str | None,
    by: Sequence[str] | None,
    only: Mapping[str, Any] | None,
    at_most: int,
) -> tuple[int, list[str], Window]:
    """The seconds of a row, what is told apart, and the window to read, of what `Measures.read` is asked.

    Raises:
        ValueError: as `Measures.read`.
    """
    seconds = measure.seconds if window is None else seconds_of(window, measure.name)
    if seconds % measure.seconds:
        raise ValueError(f"window={window!r} is no multiple of the {measure.window!r} of the measure {measure.name!r}")
    names = list(measure.by) if by is None else list(by)
    unknown = [path for path in (*names, *(only or ())) if path not in measure.by]
    if unknown:
        raise ValueError(
            f"the measure {measure.name!r} does not tell {', '.join(unknown)} apart; it tells {measure.by!r}"
        )
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"since={since} and until={until} need a time zone")
    if not 1 <= at_most <= MAX_ROWS:
        raise ValueError(f"at_most={at_most} is not between 1 and {MAX_ROWS}")
    return seconds, names, _serving(measure.windows, seconds, since, until)


def _serving(windows: Sequence[Window], seconds: int, since: datetime, until: datetime) -> Window:
    """The longest window from which rows of so many seconds between these times can be put together."""
    for window in reversed(windows[1:]):
        if seconds % window.seconds == 0 and all(
            _seconds_since_1970(at) % window.seconds == 0 for at in (since, until)
        ):
            return window
    return windows[0]


def _seconds_since_1970(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()


def _with_sketches(row: Row, measure: Measure, found: Sequence[Any], shares: Sequence[float]) -> Row:
    distinct, estimated, values, top, dropped = found
    return replace(
        row,
        distinct=distinct if measure.distinct is not None else None,
        distinct_error=DISTINCT_ERROR if estimated else 0.0,
        quantiles=dict(zip(shares, values, strict=True)) if measure.quantiles is not None and values else {},
        top=[Frequent(*one) for one in top],
        top_error=dropped or 0,
    )


async def forget_version(database: Database, name: str, version: int) -> int:
    """Delete what an old version of a measure has counted, and its place in the journal, once nobody runs it any more.

    Returns how many rows there were.
    """
    queries = load_queries("workhorse.analytics.measures", "sql/queries.sql")
    old = Measure(name, of="any.thing", version=version)
    async with Unit(database) as work:
        await work.execute(queries["forget_feed"], (old.feed_name,))
        await work.execute(queries["forget_definition"], (name, version))
        return int((await work.execute(queries["forget_rows"], (name, version))).rowcount)
