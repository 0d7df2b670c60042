"""Counts the pages of one measure: the handler of its feed.

Each window is counted by one statement. An event of a window that is not kept any more is left out, since the half of a
window would look like a whole one; how many those are is counted and logged once they are left out for good, after the
commit.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from workhorse.analytics.measures.measure import Measure, path_of
from workhorse.feeds import Recorded
from workhorse.sql import Queries
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work

__all__ = ["Folding"]

LATE_LOG_SECONDS: Final = 60.0
"""Between two lines about events that were left out: a measure that is counted anew may leave out a thousand a page."""


class Folding:
    """The handler of a measure's feed.

    Args:
        measure: what is counted.
        queries: of the measures.
    """

    def __init__(self, measure: Measure, queries: Queries) -> None:
        self._queries = queries
        self._name = measure.name
        self._windows = measure.windows
        self._params: dict[str, Any] = {
            "version": measure.version,
            "names": list(measure.by),
            "paths": [_array(path_of(path, measure.name)) for path in measure.by],
        }
        for name, path in measure.paths.items():
            self._params[name] = None if path is None else path_of(path, measure.name)
        self._unsaid: dict[int, int] = {}
        """Events that were left out since the last line of the log, by the seconds of the window."""
        self._said_at = -LATE_LOG_SECONDS
        self.bind(Registry(None), None)

    def bind(self, metrics: Registry, log: Log | None) -> None:
        """Say where events that are left out are counted and logged."""
        self._log = log
        self._late = metrics.counter(
            "workhorse_measure_late_total",
            "Events that were left out of windows that a measure does not keep any more.",
            ("measure", "window"),
        )

    async def __call__(self, work: Work, events: Sequence[Recorded]) -> None:
        """Count a page."""
        ids = [event.id for event in events]
        times = [event.occurred_at for event in events]
        late: dict[int, int] = {}
        for window in self._windows:
            own = {"measure": window.key, "seconds": window.seconds, "keep": window.keep_seconds}
            await work.execute(self._queries["fold"], {**self._params, **own, "ids": ids})
            if window.keep_seconds is not None:
                dropped = await work.execute(self._queries["drop_old"], {**self._params, **own, "times": times})
                if found := (await dropped.fetchall())[0][0]:
                    late[window.seconds] = found
        if late:
            work.after_commit(partial(self._tell, late))

    async def _tell(self, late: dict[int, int]) -> None:
        for seconds, events in late.items():
            self._late.labels(self._name, str(seconds)).add(events)
            self._unsaid[seconds] = self._unsaid.get(seconds, 0) + events
        now = time.monotonic()
        if self._log is None or now < self._said_at + LATE_LOG_SECONDS:
            return
        for seconds, events in self._unsaid.items():
            self._log.event("warning", "measure.late", measure=self._name, window_seconds=seconds, left_out=events)
        self._unsaid.clear()
        self._said_at = now


def _array(steps: Sequence[str]) -> str:
    """The text of a Postgres array: paths have neither quotes nor commas."""
    return "{" + ",".join(steps) + "}"
